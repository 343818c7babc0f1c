"""What is proved of the lease protocol is proved of the order of writes that the shipped scripts have: read off the server by MONITOR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import z3

from proofs.lease import FALSE, NONE, Protocol, State
from tests.scripts.conftest import at_once, part
from tests.scripts.partition import LEASE_MS, verdict
from tests.scripts.test_declared_keys import monitored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.scripts.partition import Partition

__all__ = ["at_once", "part"]

TOKEN: Final = 7
"""Stands for the token `t1` under which the tests claim."""
PLACES: Final = {"ready": "ready", "delayed": "delayed", "leased": "leased", "completed": "ended", "failed": "ended", "cancelled": "ended"}
NOWHERE: Final[dict[str, Any]] = {
    "record": False, "ready": False, "delayed": False, "leased": False, "ended": False, "token": NONE, "closed": NONE,
}  # fmt: skip
READY: Final = NOWHERE | {"record": True, "ready": True}
DELAYED: Final = NOWHERE | {"record": True, "delayed": True}
LEASED: Final = NOWHERE | {"record": True, "leased": True, "token": TOKEN}


def changed(before: dict[str, Any], writes: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what each write changes, without those that change nothing."""
    state, found = dict(before), []
    for write in writes:
        news = {field: value for field, value in write.items() if state.get(field, value) != value}
        state |= write
        if news:
            found.append(news)
    return found


def proved(name: str, before: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the writes of a script of the proof, applied to a job in this state."""
    terms = {field: z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(value) for field, value in before.items()}
    state = State(**terms, issued=z3.EmptySet(z3.IntSort()), void=z3.EmptySet(z3.IntSort()), accepted=z3.IntVal(0), stolen=FALSE)
    scripts = [script for script in Protocol().scripts(state, z3.IntVal(TOKEN)) if script.name == name]
    assert [bool(z3.is_true(z3.simplify(script.when))) for script in scripts] == [True], "the proof lets this script do nothing here"
    return changed(before, ({field: plain(term) for field, term in write.items() if field in before} for write in scripts[0].writes))


def plain(term: Any) -> Any:
    """Return the value of a constant term."""
    return term.as_long() if z3.is_int_value(term) else bool(z3.is_true(term))


def token_of(text: str) -> dict[str, Any]:
    """Return what a run says of tokens: the valid one, or behind `!` the one that was settled."""
    return {
        "t1": {"token": TOKEN},
        "!t1": {"token": NONE, "closed": TOKEN},
        "!": {"token": NONE},
    }[text.split(" ", maxsplit=1)[0]]


def written(words: list[str]) -> dict[str, Any]:
    """Return what a command writes of the job, in the words of the proof."""
    command, key = words[0].upper(), words[1].rpartition("}:")[2].split(":")[0]
    if key in PLACES and command in {"ZADD", "ZREM", "ZREMRANGEBYRANK"}:
        return {PLACES[key]: command == "ZADD"}
    if key == "jobs" and command == "HSET":
        return {"record": True}
    if key == "runs" and command in {"HSET", "HDEL"}:
        return token_of(words[3]) if command == "HSET" else {"token": NONE}
    if key == "results" and command == "HSET":
        return {"closed": token_of(words[3])["token"]}
    return {}


async def shipped(part: Partition, before: dict[str, Any], act: Callable[[Partition], Awaitable[Any]]) -> list[dict[str, Any]]:
    """Return what the commands of a call change, in their order."""
    async with monitored(part) as calls:
        await act(part)
    [call] = [each for each in calls if each.commands]  # a call before the server knows the script runs nothing
    return changed(before, (written([word.decode("utf-8", "replace") for word in words]) for words in call.commands))


async def nothing(_: Partition) -> None: ...


async def send(part: Partition) -> None:
    await part.send("j")


async def claim(part: Partition) -> None:
    await part.claim()


async def lease(part: Partition) -> None:
    await send(part)
    await claim(part)


async def delay(part: Partition) -> None:
    await lease(part)
    await part.settle(verdict("j", "r", delay_ms=1000))
    part.now_ms += 1000


async def let_it_end(part: Partition) -> None:
    await lease(part)
    part.now_ms += LEASE_MS + 1


def settles(code: str, payload: bytes, delay_ms: int = 0) -> Callable[[Partition], Awaitable[Any]]:
    async def act(part: Partition) -> None:
        assert await part.settle(verdict("j", code, payload, delay_ms=delay_ms)) == [1]

    return act


async def tick(part: Partition) -> None:
    await part.store.tick(["q"])


async def cancel(part: Partition) -> None:
    await part.store.cancel(["j"], "tester")


@pytest.mark.parametrize(
    ("name", "before", "prepare", "act"),
    [
        ("enqueue", NOWHERE, nothing, send),
        ("claim", READY, send, claim),
        ("settle: completed or failed", LEASED, lease, settles("c", b"null")),
        ("settle: completed or failed", LEASED, lease, settles("f", b"error")),
        ("settle: retry", LEASED, lease, settles("r", b"error", 1000)),
        ("settle: snooze", LEASED, lease, settles("s", b"", 1000)),
        ("settle: handed back", LEASED, lease, settles("x", b"")),
        ("expire", LEASED, let_it_end, tick),
        ("promote", DELAYED | {"closed": TOKEN}, delay, tick),
        ("cancel", READY, send, cancel),
    ],
)
async def test_shipped_scripts_write_in_the_order_that_is_proved(
    part: Partition,
    name: str,
    before: dict[str, Any],
    prepare: Callable[[Partition], Awaitable[None]],
    act: Callable[[Partition], Awaitable[Any]],
) -> None:
    await prepare(part)
    assert await shipped(part, before, act) == proved(name, before)
