"""How an alert stands, as it lies in Redis, and what the next reading makes of it: pure values, no I/O."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .alerts_sinks import Notice
from .job import at_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .alerts_rules import AlertRule, Reading

CALM_ROUNDS: Final = 2
"""An alert is over after so many rounds in a row in which it was not over its threshold: one that trembles is told once."""
OWED_MAX: Final = 20
OWED_MAX_MS: Final = 3_600_000
"""A sink that takes nothing is offered the last twenty notices of an alert, each for an hour."""
STALE_MS: Final = 60_000
"""What nobody has looked at for so long is not known any more."""
LEASE_MS: Final = 60_000
"""How long a process may take to tell the sinks; another one tells them then, as it may have died."""
WAIT_MIN_MS: Final = 5_000
WAIT_MAX_MS: Final = 300_000


class Owed(BaseModel):
    """A notice, and the keys of the sinks that have not taken it."""

    model_config = ConfigDict(frozen=True)

    notice: Notice
    to: tuple[str, ...]


class Wait(BaseModel):
    """A sink that took nothing so many times in a row, and when it is offered something again."""

    model_config = ConfigDict(frozen=True)

    failures: int
    until_ms: float


class AlertState(BaseModel):
    """How one alert stands. Whoever changes it replaces it whole, if nobody else has in between."""

    model_config = ConfigDict(frozen=True)

    writer: str = ""
    """Drawn at each change, so that two processes never write the same."""
    is_firing: bool = False
    since_ms: float | None = None
    """When it began to fire, or to be over."""
    over_since_ms: float | None = None
    calm_rounds: int = 0
    looked_ms: float = 0
    value: float | None = None
    is_known: bool = False
    owed: tuple[Owed, ...] = ()
    teller: str = ""
    told_until_ms: float = 0
    """Who tells the sinks, and how long nobody else does."""
    waits: dict[str, Wait] = Field(default_factory=dict[str, Wait])

    @classmethod
    def read(cls, stored: bytes) -> AlertState:
        """Return the state that is stored; a new one in place of what another version wrote."""
        try:
            return cls.model_validate_json(stored) if stored else cls()
        except ValidationError:
            return cls()

    def changed(self, **fields: object) -> AlertState:
        """Return another state."""
        return self.model_copy(update={"writer": secrets.token_hex(6), **fields})

    def may_tell(self, now_ms: float, known: Iterable[str]) -> bool:
        """Whether there is something to tell to one of these sinks, now, and nobody else does."""
        open_to = {key for key in known if key not in self.waits or self.waits[key].until_ms <= now_ms}
        return self.told_until_ms <= now_ms and any(open_to & {*one.to} for one in self.owed)

    def after(self, taken: set[tuple[str, str]], failed: set[str], now_ms: float) -> AlertState:
        """Return the state after a telling: `taken` are notices by id and sink, `failed` are sinks."""
        left = [(one, tuple(key for key in one.to if (one.notice.id, key) not in taken)) for one in self.owed]
        waits = {key: wait for key, wait in self.waits.items() if key in failed or not any(key == other for _, other in taken)}
        for key in failed:
            failures = waits[key].failures + 1 if key in waits else 1
            wait_ms = min(WAIT_MIN_MS * 2**failures, WAIT_MAX_MS)
            waits[key] = Wait(failures=failures, until_ms=now_ms + wait_ms)
        return self.changed(
            owed=tuple(one.model_copy(update={"to": to}) for one, to in left if to), waits=waits, teller="", told_until_ms=0
        )


Change = Literal["firing", "resolved"]


def step(
    state: AlertState, rule: AlertRule, reading: Reading, *, now_ms: float, told: Sequence[str], namespace: str
) -> tuple[AlertState, Change | None]:
    """Return the state after a reading, and what has changed; `told` are the keys of the sinks that are to hear of it."""
    if not reading.is_known:
        return state.changed(looked_ms=now_ms, value=None, is_known=False), None
    seen = _seen(state, reading, now_ms)
    change: Change | None = None
    if seen.over_since_ms is not None and not state.is_firing and now_ms - seen.over_since_ms >= rule.fires_after_s * 1000:
        change = "firing"
    elif state.is_firing and seen.calm_rounds >= CALM_ROUNDS:
        change = "resolved"
    if change is None:
        return seen, None
    began_ms = (seen.over_since_ms if change == "firing" else seen.since_ms) or now_ms
    notice = Notice(
        id=secrets.token_hex(8),
        name=rule.name,
        description=rule.description,
        state=change,
        since=at_ms(began_ms),
        at=at_ms(now_ms),
        value=reading.value,
        threshold=rule.threshold,
        unit=rule.unit,
        namespace=namespace,
    )
    owed = (*seen.owed, Owed(notice=notice, to=tuple(told)))[-OWED_MAX:] if told else seen.owed
    since_ms = began_ms if change == "firing" else now_ms
    return seen.model_copy(update={"is_firing": change == "firing", "since_ms": since_ms, "owed": owed}), change


def _seen(state: AlertState, reading: Reading, now_ms: float) -> AlertState:
    """Return the state with a reading in it; what nobody has looked at for long begins anew."""
    is_fresh = state.is_firing or now_ms - state.looked_ms <= STALE_MS
    before_ms, calm_rounds = (state.over_since_ms, state.calm_rounds) if is_fresh else (None, 0)
    return state.changed(
        looked_ms=now_ms,
        value=reading.value,
        is_known=True,
        over_since_ms=(now_ms if before_ms is None else before_ms) if reading.is_over else None,
        calm_rounds=0 if reading.is_over else calm_rounds + 1,
        owed=tuple(one for one in state.owed if one.notice.at.timestamp() * 1000 > now_ms - OWED_MAX_MS),
    )
