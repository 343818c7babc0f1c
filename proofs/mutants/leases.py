"""Lease protocols that are wrong on purpose. Each must be caught by the proof."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import z3

from ..lease import FALSE, NONE, TRUE, Protocol, Script, State, Write

if TYPE_CHECKING:
    from collections.abc import Iterator


def reordered(scripts: Iterator[Script], name: str, order: tuple[int, ...]) -> Iterator[Script]:
    """Return the scripts, one of them with its writes in another order."""
    for script in scripts:
        writes = tuple(script.writes[i] for i in order) if script.name == name else script.writes
        yield replace(script, writes=writes)


class NoFence(Protocol):
    """A settle is accepted from whoever ever had the job."""

    def fence(self, s: State, t: Any) -> Any:
        return z3.IsMember(t, s.issued)


class FenceByLease(Protocol):
    """A settle is accepted while the job is leased, by whomever."""

    def fence(self, s: State, t: Any) -> Any:
        return z3.And(s.leased, z3.IsMember(t, s.issued))


class TokenOfTheWorker(Protocol):
    """The token is the worker's name, the same for all its claims."""

    def is_new(self, s: State, t: Any) -> Any:
        return TRUE


class TokenOutlivesLease(Protocol):
    """A lease that ends leaves its token valid."""

    def expire(self, s: State, _: Any) -> Iterator[Script]:
        yield Script("expire", s.leased, ({"ready": TRUE}, {"leased": FALSE}))


class TokenOutlivesVerdict(Protocol):
    """A settle leaves its token valid."""

    def settle(self, s: State, t: Any) -> Iterator[Script]:
        yield Script("settle: completed or failed", self.fence(s, t), ({"ended": TRUE}, {"leased": FALSE}), t, is_final=True)


class ReadyFirst(Protocol):
    """A claim takes the job out of ready before it is leased."""

    def claim(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().claim(s, t), "claim", (2, 0, 1))


class TokenFirst(Protocol):
    """A claim writes the token before the lease that can end."""

    def claim(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().claim(s, t), "claim", (1, 0, 2))


class LeaseFirst(Protocol):
    """A verdict removes the lease before the job is in its next place."""

    def settle(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().settle(s, t), "settle: snooze", (2, 0, 1))


class TokenLast(Protocol):
    """A verdict that ends the job removes the lease, then makes the token void."""

    def settle(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().settle(s, t), "settle: completed or failed", (0, 1, 3, 2))


class ExpireLeaseFirst(Protocol):
    """A lease that ends goes before the job is back in ready."""

    def expire(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().expire(s, t), "expire", (2, 0, 1))


class RecordFirst(Protocol):
    """A send writes the record before the job has a place."""

    def enqueue(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().enqueue(s, t), "enqueue", (1, 0))


class DelayedFirst(Protocol):
    """What is due leaves delayed before it is in ready."""

    def promote(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().promote(s, t), "promote", (1, 0))


class DropsValidLease(Protocol):
    """A claim that is sent again drops a lease that is not its own."""

    def claim(self, s: State, t: Any) -> Iterator[Script]:
        yield from super().claim(s, t)
        yield Script("claim again: drops", z3.And(s.leased, s.token != t), ({"leased": FALSE},))


class SettlesOthersLease(Protocol):
    """A settle that is sent again removes the lease, though the job was leased to somebody since."""

    def settle(self, s: State, t: Any) -> Iterator[Script]:
        yield from super().settle(s, t)
        yield Script("settle again", z3.And(s.closed == t, t > NONE), ({"leased": FALSE},))


class CancelsRunning(Protocol):
    """A job that runs is cancelled as one that waits."""

    def cancel(self, s: State, _: Any) -> Iterator[Script]:
        end: tuple[Write, ...] = ({"ended": TRUE}, {"ready": FALSE, "delayed": FALSE})
        yield Script("cancel", z3.And(s.record, z3.Or(s.ready, s.delayed, s.leased)), end)


class CancelForgetsFirst(Protocol):
    """A cancelled job leaves its place before it is among those that ended."""

    def cancel(self, s: State, t: Any) -> Iterator[Script]:
        return reordered(super().cancel(s, t), "cancel", (1, 0))


MUTANTS: Final = (
    NoFence, FenceByLease, TokenOfTheWorker, TokenOutlivesLease, TokenOutlivesVerdict, ReadyFirst, TokenFirst, LeaseFirst, TokenLast,
    ExpireLeaseFirst, RecordFirst, DelayedFirst, DropsValidLease, SettlesOthersLease, CancelsRunning, CancelForgetsFirst,
)  # fmt: skip
