"""Alerts: rules on what the fleet does, watched by whoever runs, told once however many watch.

How each alert stands is one field of a hash, changed by compare-and-set together with an entry in the history. Whoever changes it owes the
sinks a notice, and so does everybody else until somebody has told them: at least once, each notice under one id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from datetime import datetime  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from .alerts_look import Look
from .alerts_rules import AlertRule, BacklogAge, FailureRate, NoWorker, PickupP99, QuotaUsed, Reading, check_rules
from .alerts_sinks import LogSink, Notice, Sink, SinkError, Webhook
from .alerts_state import LEASE_MS, STALE_MS, AlertState, step
from .errors import RedisFull, RedisRefused, RedisUnavailable, RuntimeNotOpen
from .job import View, at_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .alerts_state import Change
    from .runtime import Runtime
    from .store import Store

__all__ = [
    "AlertChange",
    "AlertInfo",
    "AlertRule",
    "BacklogAge",
    "FailureRate",
    "LogSink",
    "NoWorker",
    "Notice",
    "PickupP99",
    "QuotaUsed",
    "Reading",
    "Sink",
    "SinkError",
    "Webhook",
    "check_rules",
    "evaluate",
    "evaluate_forever",
    "overview",
]

log = logging.getLogger("angelrt.alerts")

ROUND_S: Final = 10.0
"""How often each rule is looked at, by whoever comes first."""
TELLING_MAX_S: Final = LEASE_MS / 1000 * 0.75
HISTORY_MAX: Final = 1_000
HISTORY_SHOWN: Final = 100
FORGET_MS: Final = 7 * 86_400_000
"""A rule that is gone from the code is remembered for so long after the last look."""
SWAPS_MAX: Final = 20
AWAY: Final = (RedisUnavailable, RedisRefused, RedisFull)
DEFAULT_SINKS: Final[tuple[Sink, ...]] = (LogSink(),)

# Sets a field if it still holds what was read, and writes the history with it. A call that is sent again, its answer being lost, finds its
# own value. At the memory limit it is taken, too: that is when alerts are wanted.
SWAP: Final = """#!lua flags=allow-oom
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if held ~= ARGV[2] then return held == ARGV[3] and 1 or 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[7], '*', 'name', ARGV[1], 'state', ARGV[4], 'at', ARGV[5], 'value', ARGV[6])
end
return 1
"""


class AlertInfo(View):
    """How one rule stands: ok, firing, or unknown where nobody has looked for a minute or nobody can tell.

    `since` (UTC) is when it began to fire or to be over; None for one that never fired. `value` and `threshold` are in `unit`.
    """

    name: str
    description: str
    state: Literal["ok", "firing", "unknown"]
    since: datetime | None
    value: float | None
    threshold: float
    unit: str


class AlertChange(View):
    """One entry of the history: an alert fired, or was over."""

    name: str
    at: datetime
    state: Literal["firing", "resolved"]
    value: float | None


class _Kept(NamedTuple):
    """A field of the hash: its name, its bytes, and what they say."""

    name: str
    stored: bytes
    state: AlertState


class _Board:
    """The states of all alerts of a namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.key = store.keys.key("alerts")
        self.history_key = store.keys.key("alerts_history")

    async def read(self, names: Iterable[str] = ()) -> dict[str, _Kept]:
        """Return what is kept, and an empty state for each of the names of which nothing is."""
        reply = await self._store.command("HGETALL", self.key)
        stored = dict.fromkeys(names, b"") | {name.decode(): raw for name, raw in zip(reply[::2], reply[1::2], strict=True)}
        return {name: _Kept(name, raw, AlertState.read(raw)) for name, raw in stored.items()}

    async def swap(self, kept: _Kept, new: AlertState, change: Change | None = None) -> _Kept | None:
        """Put a new state in place of the one that was read; None when somebody else has been faster."""
        raw = new.model_dump_json(by_alias=True).encode()
        value = "" if new.value is None else repr(new.value)
        arguments = [kept.name, kept.stored, raw, change or "", repr(new.looked_ms), value, HISTORY_MAX]
        done = await self._store.command("EVAL", SWAP, 2, self.key, self.history_key, *arguments)
        return _Kept(kept.name, raw, new) if done else None

    async def forget(self, names: Iterable[str]) -> None:
        """Drop what is kept of rules that are gone."""
        listed = list(names)
        if listed:
            await self._store.command("HDEL", self.key, *listed)


async def evaluate(rt: Runtime[Any], rules: Sequence[AlertRule], sinks: Sequence[Sink] = DEFAULT_SINKS, *, every_s: float = 0) -> None:
    """Look at each rule once, and tell the sinks what has changed, or what others have found and not told.

    `sinks` hear of the rules that have none of their own. A rule at which another process has looked in the last `every_s` seconds is left
    out. A sink that fails is offered the notice again in a later round. Raises RuntimeNotOpen, RedisUnavailable and RedisRefused.
    """
    store = rt.client().store
    board, look = _Board(store), Look(rt)
    kept = await board.read(rule.name for rule in rules)
    for rule in rules:
        if store.server_ms() - kept[rule.name].state.looked_ms >= every_s * 1000:
            await _look_at(board, look, rule, kept[rule.name], told=list(_by_key(rule, sinks)), now_ms=store.server_ms())
    kept = await board.read(rule.name for rule in rules)
    gone = kept.keys() - {rule.name for rule in rules}
    await board.forget(name for name in gone if store.server_ms() - kept[name].state.looked_ms > FORGET_MS)
    await asyncio.gather(*(_tell(store, board, kept[rule.name], _by_key(rule, sinks)) for rule in rules))


async def evaluate_forever(rt: Runtime[Any], rules: Sequence[AlertRule], sinks: Sequence[Sink] = DEFAULT_SINKS) -> None:
    """Look at the rules about every ten seconds until cancelled; workers do this by themselves, for the rules of their runtime.

    However many processes do it, each rule is looked at about as often. While Redis is away, a line is logged, and it goes on. Raises
    RuntimeNotOpen.
    """
    while True:
        try:
            await evaluate(rt, rules, sinks, every_s=ROUND_S * 0.65)
        except AWAY as error:
            log.warning("alerts wait for the next round: %s", error)
        await asyncio.sleep(ROUND_S * random.uniform(0.7, 1.3))  # noqa: S311 - jitter


async def overview(rt: Runtime[Any], rules: Sequence[AlertRule]) -> dict[str, Any]:
    """Return how the rules stand and the last hundred changes, the newest first, as plain data. Raises RedisUnavailable."""
    store = rt.client().store
    board = _Board(store)
    kept = await board.read(rule.name for rule in rules)
    entries = await store.command("XREVRANGE", board.history_key, "+", "-", "COUNT", HISTORY_SHOWN)
    alerts = [_info(rule, kept[rule.name].state, store.server_ms()) for rule in rules]
    history = [_change(dict(zip(fields[::2], fields[1::2], strict=True))) for _, fields in entries]
    views: dict[str, list[AlertInfo] | list[AlertChange]] = {"alerts": alerts, "history": history}
    return {name: [one.model_dump(mode="json", by_alias=True) for one in listed] for name, listed in views.items()}


def _info(rule: AlertRule, state: AlertState, now_ms: float) -> AlertInfo:
    is_known = state.is_known and now_ms - state.looked_ms <= STALE_MS
    return AlertInfo(
        name=rule.name,
        description=rule.description,
        state="unknown" if not is_known else "firing" if state.is_firing else "ok",
        since=None if state.since_ms is None else at_ms(state.since_ms),
        value=state.value if is_known else None,
        threshold=rule.threshold,
        unit=rule.unit,
    )


def _change(fields: Mapping[bytes, bytes]) -> AlertChange:
    told = {name.decode(): value.decode() for name, value in fields.items()}
    state: Change = "firing" if told["state"] == "firing" else "resolved"
    return AlertChange(name=told["name"], at=at_ms(float(told["at"])), state=state, value=float(told["value"]) if told["value"] else None)


def _by_key(rule: AlertRule, sinks: Sequence[Sink]) -> dict[str, Sink]:
    return {sink.key: sink for sink in (sinks if rule.sinks is None else rule.sinks)}


async def _look_at(board: _Board, look: Look, rule: AlertRule, kept: _Kept, *, told: Sequence[str], now_ms: float) -> None:
    """Measure, and note what has changed; whoever is slower than another process leaves it at that."""
    try:
        reading = await rule.measure(look)
    except (*AWAY, RuntimeNotOpen):
        raise
    except Exception:
        log.exception("alert %s cannot be measured", rule.name)
        reading = Reading(None, is_over=False, is_known=False)
    new, change = step(kept.state, rule, reading, now_ms=now_ms, told=told, namespace=look.namespace)
    await board.swap(kept, new, change)


async def _tell(store: Store, board: _Board, kept: _Kept, sinks: Mapping[str, Sink]) -> None:
    """Offer the sinks what they have not taken, unless another process does."""
    now_ms = store.server_ms()
    if not kept.state.may_tell(now_ms, sinks):
        return
    teller = secrets.token_hex(6)
    claimed = await board.swap(kept, kept.state.changed(teller=teller, told_until_ms=now_ms + LEASE_MS))
    if claimed is None:
        return
    taken: set[tuple[str, str]] = set()
    failed: set[str] = set()
    await asyncio.gather(*(_offer(claimed.state, key, sink, now_ms, taken, failed) for key, sink in sinks.items()))
    for _ in range(SWAPS_MAX):
        now = (await board.read([kept.name]))[kept.name]
        if now.state.teller != teller or await board.swap(now, now.state.after(taken, failed, store.server_ms())):
            return


async def _offer(state: AlertState, key: str, sink: Sink, now_ms: float, taken: set[tuple[str, str]], failed: set[str]) -> None:
    """Offer one sink its notices, the oldest first, until it does not take one."""
    if key in state.waits and state.waits[key].until_ms > now_ms:
        return
    give_up_at = asyncio.get_running_loop().time() + TELLING_MAX_S
    for owed in state.owed:
        if key not in owed.to:
            continue
        try:
            async with asyncio.timeout_at(give_up_at):
                await sink.send(owed.notice)
        except Exception as error:  # noqa: BLE001 - a sink is the application's own code, and its failure ends no worker
            why = str(error) if isinstance(error, SinkError) else f"sink {key} failed with {type(error).__qualname__}"
            log.warning("alert %s: %s; it is offered again", owed.notice.name, why)
            failed.add(key)
            return
        taken.add((owed.notice.id, key))
