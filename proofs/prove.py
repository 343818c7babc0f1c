"""Prove the lease protocol by induction, for any number of workers, tokens, retries and repeated calls, and for calls that break off.

`python -m proofs.prove`. An invariant is proved in three parts: it holds at the beginning, each step keeps it, and what was promised
follows from it. Each mutant must be caught twice: a step breaks the invariant, and a history from the beginning breaks a promise.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import z3

from .lease import NONE, Protocol, Script, State, after
from .mutants.leases import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORY_MAX: Final = 7
"""Steps of the longest history that is looked for when a mutant is to be shown wrong."""


def beginning(s: State) -> Any:
    """Nothing was sent."""
    empty = z3.EmptySet(z3.IntSort())
    nowhere = z3.Not(z3.Or(s.record, s.ready, s.delayed, s.leased, s.ended))
    return z3.And(nowhere, s.token == NONE, s.closed == NONE, s.accepted == 0, z3.Not(s.stolen), s.issued == empty, s.void == empty)


def places(s: State) -> list[Any]:
    """Return where a job may be."""
    return [s.ready, s.delayed, s.leased, s.ended]


def promises(s: State, *, breaks: bool) -> dict[str, Any]:
    """Return what is promised, by name; more of it where no call breaks off."""
    always = {
        "a job whose send returned is somewhere": z3.Implies(s.record, z3.Or(places(s))),
        "a token that was given up is never valid again": z3.Not(z3.IsMember(s.token, s.void)),
        "a verdict is applied under the valid token alone": z3.Not(s.stolen),
        "whoever may settle has a lease that can end": z3.Implies(s.token != NONE, s.leased),
    }
    if breaks:
        return always
    return always | {
        "a job is in one place": z3.Implies(s.record, z3.PbEq([(place, 1) for place in places(s)], 1)),
        "one verdict at most ends a job": s.accepted <= 1,
        "what has ended stays so": z3.Implies(s.accepted > 0, z3.And(s.ended, s.token == NONE)),
    }


def invariant(s: State, *, breaks: bool) -> Any:
    """Return what each step keeps: the promises, and what they rest on."""
    t = z3.Int("t")
    known = z3.ForAll([t], z3.Implies(z3.IsMember(t, s.void), z3.And(z3.IsMember(t, s.issued), t > NONE)))
    parts = [*promises(s, breaks=breaks).values(), s.token >= NONE, known, s.accepted >= 0]
    parts.append(z3.Implies(s.token != NONE, z3.IsMember(s.token, s.issued)))
    if breaks:
        # A lease without a token is what a call has left that broke off: the job is elsewhere, too, so that the lease may go.
        parts.append(z3.Implies(z3.And(s.record, s.leased, s.token == NONE), z3.Or(s.ready, s.delayed, s.ended)))
    else:
        parts += [s.leased == (s.token != NONE), z3.Implies(z3.Not(s.record), z3.Not(z3.Or(places(s))))]
    return z3.And(parts)


def steps(protocol: Protocol, s: State, t: Any, *, breaks: bool) -> Iterator[tuple[str, Script, State]]:
    """Return all that may happen next, with its name: each script, to its end or broken off after some of its writes."""
    for script in protocol.scripts(s, t):
        for writes in range(1 if breaks else len(script.writes), len(script.writes) + 1):
            broken = "" if writes == len(script.writes) else f", broken off after {writes} of {len(script.writes)} writes"
            yield script.name + broken, script, after(s, script, writes)


def is_refuted(claim: Any) -> bool:
    """Whether the prover finds a case against a claim. Raises RuntimeError when it cannot tell."""
    solver = z3.Solver()
    solver.set("timeout", 60_000)
    solver.add(z3.Not(claim))
    answer = solver.check()
    if answer == z3.unknown:
        message = f"the prover cannot tell: {solver.reason_unknown()}"
        raise RuntimeError(message)
    return bool(answer == z3.sat)


def broken_steps(protocol: Protocol, *, breaks: bool) -> tuple[int, list[str]]:
    """Return how many steps there are, and which do not keep the invariant."""
    s, t = State.named("s"), z3.Int("presented")
    every = list(steps(protocol, s, t, breaks=breaks))
    holds = invariant(s, breaks=breaks)
    found = [name for name, script, then in every if is_refuted(z3.Implies(z3.And(holds, script.when), invariant(then, breaks=breaks)))]
    return len(every), found


def counterexample(protocol: Protocol, *, breaks: bool) -> list[str]:
    """Return the shortest history that breaks a promise, as words, the promise last; nothing when none is that short."""
    solver, states = z3.Solver(), [State.named("s0")]
    solver.add(beginning(states[0]))
    chosen: list[Any] = []
    for number in range(HISTORY_MAX):
        s, then, choice, t = states[-1], State.named(f"s{number + 1}"), z3.Int(f"choice{number}"), z3.Int(f"t{number}")
        every = list(steps(protocol, s, t, breaks=breaks))
        solver.add(z3.Or([z3.And(choice == i, x.when, then.equals(end)) for i, (_, x, end) in enumerate(every)]))
        states.append(then)
        chosen.append((choice, t, [name for name, _, _ in every]))
        for name, promise in promises(then, breaks=breaks).items():
            if solver.check(z3.Not(promise)) == z3.sat:
                model = solver.model()
                taken = [(names[model.eval(choice).as_long()], model.eval(token)) for choice, token, names in chosen]
                return [
                    *(f"{step} ({token})" if step.startswith(("claim", "settle")) else step for step, token in taken),
                    f"broken: {name}",
                ]
    return []


def prove(*, breaks: bool) -> list[str]:
    """Prove one invariant; print and return what does not hold."""
    count, wrong = broken_steps(Protocol(), breaks=breaks)
    s = State.named("s")
    if is_refuted(z3.Implies(beginning(s), invariant(s, breaks=breaks))):
        wrong.append("the beginning")
    what = "calls may break off after any write" if breaks else "each call runs to its end"
    print(f"lease, {what}: {count} steps, {len(promises(s, breaks=breaks))} promises: {wrong or 'proved'}", flush=True)
    return wrong


def catch(mutant: type[Protocol]) -> bool:
    """Whether the proof and a history both show that a mutant is wrong; print which."""
    for breaks in (False, True):
        history = counterexample(mutant(), breaks=breaks)
        if history and broken_steps(mutant(), breaks=breaks)[1]:
            print(f"caught: {mutant.__doc__}\n        " + " -> ".join(history), flush=True)
            return True
    print(f"NOT CAUGHT: {mutant.__doc__}")
    return False


def main() -> int:
    """Prove, then break; 1 when a proof fails or a mutant is not caught."""
    wrong = [step for breaks in (False, True) for step in prove(breaks=breaks)]
    caught = [catch(mutant) for mutant in MUTANTS]
    print(f"mutants of the lease: {sum(caught)} of {len(caught)} caught")
    return int(bool(wrong) or not all(caught))


if __name__ == "__main__":
    sys.exit(main())
