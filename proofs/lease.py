"""The lease protocol of one job for a prover: any number of workers, tokens, retries and repeated calls, and any time.

A step is one call of a script, or any beginning of it: each script is a list of writes, and one that breaks off has done the first of
them. Who presents a token is free: whatever was ever answered may be presented again, by whomever and whenever. Time is free, too: a lease
may end before any step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import z3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NONE: Final = 0
"""No token. Real ones are greater."""


@dataclass(frozen=True)
class State:
    """What Redis holds of a job, and what has been answered; each field is a term of the prover."""

    record: Any
    ready: Any
    delayed: Any
    leased: Any
    ended: Any
    token: Any
    """The token in the job's run; NONE when it is void or there is no run."""
    closed: Any
    """The token by which the last run was settled, that of the result or behind `!`."""
    issued: Any
    """Set of the tokens under which this job was leased."""
    void: Any
    """Set of the tokens that were given up."""
    accepted: Any
    """How often a final verdict was accepted."""
    stolen: Any
    """Whether a verdict was ever applied under another token than the valid one."""

    @classmethod
    def named(cls, name: str) -> State:
        """Return a state of free terms."""
        sorts: dict[str, Any] = {"token": z3.IntSort(), "closed": z3.IntSort(), "accepted": z3.IntSort()}
        sorts |= dict.fromkeys(("issued", "void"), z3.SetSort(z3.IntSort()))
        return cls(**{field.name: z3.Const(f"{name}.{field.name}", sorts.get(field.name, z3.BoolSort())) for field in fields(cls)})

    def equals(self, other: State) -> Any:
        """Whether two states are the same."""
        return z3.And([getattr(self, field.name) == getattr(other, field.name) for field in fields(State)])


Write = dict[str, Any]
"""Fields that one `redis.call` changes, with their new terms."""


@dataclass(frozen=True)
class Script:
    """What one verb does with the job: under a condition, these writes in this order."""

    name: str
    when: Any
    writes: tuple[Write, ...]
    verdict_of: Any = None
    """The token under which the call applies a verdict, if it does."""
    is_final: bool = False
    """Whether that verdict ends the job."""


def after(state: State, script: Script, writes: int) -> State:
    """Return the state after the first of its writes."""
    before = state
    for write in script.writes[:writes]:
        state = replace(state, **write)
    if script.is_final and writes == len(script.writes):
        state = replace(state, accepted=state.accepted + 1)
    given_up = z3.And(before.token != NONE, state.token != before.token)
    if script.verdict_of is not None:
        state = replace(state, stolen=z3.Or(state.stolen, script.verdict_of != before.token))
    return replace(state, void=z3.If(given_up, z3.SetAdd(before.void, before.token), before.void))


TRUE, FALSE = z3.BoolVal(True), z3.BoolVal(False)


class Protocol:
    """The verbs. A mutant replaces one of them."""

    def enqueue(self, s: State, _: Any) -> Iterator[Script]:
        """Put a new job into ready; its record last, since a record without a place would be lost."""
        yield Script("enqueue", z3.Not(s.record), ({"ready": TRUE}, {"record": TRUE}))

    def claim(self, s: State, t: Any) -> Iterator[Script]:
        """Lease what is ready. A token is drawn anew for each call; one that was not answered may be sent again with its token."""
        waits = z3.And(s.ready, s.record, t > NONE)
        lease: tuple[Write, ...] = ({"leased": TRUE}, {"token": t, "issued": z3.SetAdd(s.issued, t)}, {"ready": FALSE})
        yield Script("claim", z3.And(waits, s.token == NONE, self.is_new(s, t)), lease)
        yield Script("claim: left in ready by a call that broke off", z3.And(waits, s.token != NONE), ({"ready": FALSE},))
        yield Script("claim: ended by a call that broke off", z3.And(waits, s.token == NONE, s.ended), ({"ready": FALSE},))
        yield Script("claim: without a record", z3.And(s.ready, z3.Not(s.record)), ({"ready": FALSE},))
        yield Script("claim again: the lease is there", z3.And(s.leased, s.token == t, t > NONE), ({"ready": FALSE},))
        yield Script("claim again: the lease came, its token did not", z3.And(s.leased, s.token == NONE), ({"leased": FALSE},))

    def is_new(self, s: State, t: Any) -> Any:
        """Whether a token was never used for this job: it is drawn at random for each call."""
        return z3.Not(z3.IsMember(t, s.issued))

    def settle(self, s: State, t: Any) -> Iterator[Script]:
        """Write the verdict of the run whose token is valid."""
        holds = self.fence(s, t)
        end: tuple[Write, ...] = ({"closed": t}, {"ended": TRUE}, {"token": z3.IntVal(NONE)}, {"leased": FALSE})
        yield Script("settle: completed or failed", holds, end, t, is_final=True)
        void: tuple[Write, ...] = ({"token": z3.IntVal(NONE), "closed": t}, {"leased": FALSE})
        yield Script("settle: retry", holds, ({"closed": t}, {"delayed": TRUE}, *void), t)
        yield Script("settle: snooze", holds, ({"delayed": TRUE}, *void), t)
        yield Script("settle: handed back", holds, ({"ready": TRUE}, *void), t)
        yield Script("settle again", z3.And(s.closed == t, s.token == NONE, t > NONE), ({"leased": FALSE},))

    def fence(self, s: State, t: Any) -> Any:
        """Whether this token may change the job."""
        return z3.And(s.token == t, t > NONE)

    def expire(self, s: State, _: Any) -> Iterator[Script]:
        """Take a lease back, whenever: its end has come, or its worker is thought dead."""
        lost: tuple[Write, ...] = ({"ready": TRUE}, {"token": z3.IntVal(NONE)}, {"leased": FALSE})
        yield Script("expire", z3.And(s.leased, s.token != NONE), lost)
        yield Script("expire: what a call that broke off has left", z3.And(s.leased, s.token == NONE), ({"leased": FALSE},))

    def promote(self, s: State, _: Any) -> Iterator[Script]:
        """Move what is due."""
        yield Script("promote", s.delayed, ({"ready": TRUE}, {"delayed": FALSE}))

    def cancel(self, s: State, _: Any) -> Iterator[Script]:
        """End a job that waits."""
        waits = z3.And(s.record, z3.Not(s.leased), z3.Or(s.ready, s.delayed))
        yield Script("cancel", waits, ({"ended": TRUE}, {"ready": FALSE, "delayed": FALSE}))

    def verbs(self) -> tuple[Callable[[State, Any], Iterator[Script]], ...]:
        """Return them all."""
        return self.enqueue, self.claim, self.settle, self.expire, self.promote, self.cancel

    def scripts(self, s: State, t: Any) -> Iterator[Script]:
        """Return what may happen in a state, with any token."""
        for verb in self.verbs():
            yield from verb(s, t)
