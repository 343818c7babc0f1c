"""The checker can say no: each promise is broken in a history that is else sound, and the breach is named."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos import report
from tests.chaos.checker import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.checker import Fact

LEASE_MS = 4_000
KILLED, OTHER = 11, 12


def history() -> list[Fact]:
    """Return a sound history: one plain job, one that a kill took from its worker, one with two children, one that was retried."""
    facts: list[Fact] = [
        {"fact": "run", "at": 0.0, "lease_ms": LEASE_MS, "children": 2, "server": "none", "commit": "none", "command": "none", "seed": 1},
        {"fact": "worker", "pid": KILLED, "worker": "killed"},
        {"fact": "worker", "pid": OTHER, "worker": "other"},
        {"fact": "fault", "at": 150.0, "number": 0, "kind": "kill", "pid": KILLED, "begin": 150.0, "end": 150.0, "met": True},
        {"fact": "left", "at": 150.0, "place": "worker 0", "pid": KILLED, "code": -9, "unreachable": False, "words": ""},
        {"fact": "heard", "at": 130.0, "job": "plain", "result": [OTHER, 1]},
        *(sent("plain"), *ran("plain", OTHER), ended("plain", "work")),
        *(sent("taken"), began("taken", KILLED), *ran("taken", OTHER, 2, at=4_160), ended("taken", "work", lost_of("killed", 4_155))),
        *(sent("parent"), *ran("parent", OTHER), ended("parent", "parent")),
        *(sent("again"), began("again", OTHER), {"fact": "raised", "at": 125.0, "job": "again", "pid": OTHER, "attempt": 1}),
        *(*ran("again", OTHER, 2, at=200), ended("again", "flaky", ["r", 100.0, 125.0, "other"])),
    ]
    for number in range(2):
        facts += [*ran(f"child {number}", OTHER), ended(f"child {number}", "child") | {"parent": "parent", "child": number}]
    for actor, times in {"work": 2, "parent": 1, "child": 2, "flaky": 1}.items():
        facts.append({"fact": "counted", "actor": actor, "outcome": "completed", "times": times})
    return facts


def sent(job: str) -> Fact:
    return {"fact": "sent", "at": 90.0, "job": job, "created": True}


def began(job: str, pid: int, attempt: int = 1, at: float = 110) -> Fact:
    return {"fact": "began", "at": at, "job": job, "pid": pid, "attempt": attempt}


def ran(job: str, pid: int, attempt: int = 1, at: float = 110) -> list[Fact]:
    return [began(job, pid, attempt, at), began(job, pid, attempt, at + 10) | {"fact": "done"}]


def lost_of(worker: str, ended_ms: float) -> list[Any]:
    return ["l", 100.0, ended_ms, worker]


def ended(job: str, actor: str, *earlier: list[Any]) -> Fact:
    started = earlier[-1][2] if earlier else 100.0
    deliveries = len(earlier) + 1
    return {
        "fact": "ended", "at": started + 30, "job": job, "outcome": "completed", "actor": actor, "deliveries": deliveries,
        "worker": "other", "attempts": deliveries, "started": started, "ready": 95.0, "timeline": list(earlier),
        "result": [OTHER, deliveries],
    }  # fmt: skip


def of(facts: list[Fact], fact: str, job: str) -> Fact:
    """Return the fact of a job that is to be broken: the last one of its kind."""
    return [one for one in facts if one["fact"] == fact and one.get("job") == job][-1]


def test_a_sound_history_has_no_breach_and_its_extra_deliveries_are_tied_to_what_caused_them() -> None:
    finding = check(history())
    assert finding.problems == []
    assert (finding.sent, finding.completed, finding.failed, finding.lost, finding.twice) == (4, 4, 0, 0, 0)
    assert finding.extra == {"kill": 1, "retry": 1}


def remove_end(facts: list[Fact]) -> None:
    facts.remove(of(facts, "ended", "plain"))


def end_twice(facts: list[Fact]) -> None:
    facts.append(of(facts, "ended", "plain") | {"outcome": "failed"})


def send_child_twice(facts: list[Fact]) -> None:
    facts += [*ran("third", OTHER), of(facts, "ended", "child 1") | {"job": "third"}]


def send_no_child(facts: list[Fact]) -> None:
    facts.remove(of(facts, "ended", "child 1"))


def count_twice(facts: list[Fact]) -> None:
    next(fact for fact in facts if fact["fact"] == "counted" and fact["actor"] == "work")["times"] = 3


def forget_the_fault(facts: list[Fact]) -> None:
    facts[:] = [fact for fact in facts if fact["fact"] != "fault"]


def meet_another_worker(facts: list[Fact]) -> None:
    next(fact for fact in facts if fact["fact"] == "fault")["pid"] = OTHER


def meet_it_too_early(facts: list[Fact]) -> None:
    fault = next(fact for fact in facts if fact["fact"] == "fault")
    fault |= {"begin": -60_000.0, "end": -60_000.0}


def meet_it_too_late(facts: list[Fact]) -> None:
    fault = next(fact for fact in facts if fact["fact"] == "fault")
    fault |= {"begin": 60_000.0, "end": 60_000.0}


def raise_nothing(facts: list[Fact]) -> None:
    facts.remove(of(facts, "raised", "again"))


def lease_to_two(facts: list[Fact]) -> None:
    of(facts, "ended", "taken")["started"] = 4_000.0


def run_without_a_lease(facts: list[Fact]) -> None:
    facts.append(began("plain", KILLED))


def keep_the_result_of_the_killed(facts: list[Fact]) -> None:
    of(facts, "ended", "taken")["result"] = [KILLED, 1]


def keep_a_result_of_nobody(facts: list[Fact]) -> None:
    facts.remove(of(facts, "done", "plain"))


def tell_of_one_delivery(facts: list[Fact]) -> None:
    of(facts, "ended", "taken")["deliveries"] = 3


def hear_something_else(facts: list[Fact]) -> None:
    of(facts, "heard", "plain")["result"] = [OTHER, 2]


def leave_it_waiting(facts: list[Fact]) -> None:
    facts.remove(of(facts, "ended", "plain"))
    facts.append({"fact": "left over", "job": "plain", "place": "ready:default"})


def fail_two(facts: list[Fact]) -> None:
    of(facts, "ended", "plain")["outcome"] = of(facts, "ended", "again")["outcome"] = "failed"


def end_unsent(facts: list[Fact]) -> None:
    facts.remove(of(facts, "sent", "plain"))


def end_a_process(facts: list[Fact]) -> None:
    facts.append({"fact": "left", "at": 1.0, "place": "worker 1", "pid": OTHER, "code": 1, "unreachable": False, "words": "KeyError: 'x'"})


def hang(facts: list[Fact]) -> None:
    facts.append({"fact": "hung", "at": 1.0, "what": "sender 0 has not come to its end"})


def break_the_invariant(facts: list[Fact]) -> None:
    facts.append({"fact": "unsound", "what": "job plain is in no place"})


BREACHES: list[tuple[Callable[[list[Fact]], None], str]] = [
    (remove_end, "lost: job plain: its send returned, and it has not ended"),
    (end_twice, "twice: job plain ended as completed and as failed"),
    (send_child_twice, "twice: child 1 of job parent was sent 2 times"),
    (send_no_child, "lost: job parent completed, and its children [1] are not there"),
    (count_twice, "twice: 3 jobs of work are counted as completed, and 2 are"),
    (forget_the_fault, "unexplained: job taken: killed lost it at 4155, and no fault says why"),
    (meet_another_worker, "unexplained: job taken"),
    (meet_it_too_early, "unexplained: job taken"),
    (meet_it_too_late, "unexplained: job taken"),
    (raise_nothing, "unexplained: job again: other gave it back (r), and no error says why"),
    (lease_to_two, "overlap: job taken was leased to other before the lease of killed had ended"),
    (run_without_a_lease, "unleased: job plain ran 1 times more in killed"),
    (keep_the_result_of_the_killed, f"fence: job taken has the result of process {KILLED}, attempt 1, which did not hold its lease"),
    (keep_a_result_of_nobody, "fence: job plain has the result of a run that did not come to its end"),
    (tell_of_one_delivery, "forgotten: job taken: 3 deliveries, and 2 are told of"),
    (hear_something_else, "misheard: who waited for job plain"),
    (leave_it_waiting, "left over: job plain has not ended, it is in ready:default"),
    (fail_two, "rate: 2 of 4 sent jobs completed"),
    (end_unsent, "unsent: job plain ended, and no send of it returned"),
    (end_a_process, "broke: process 12 in place worker 1 ended with 1:\nKeyError: 'x'"),
    (hang, "hung: sender 0 has not come to its end"),
    (break_the_invariant, "unsound: job plain is in no place"),
]


@pytest.mark.parametrize(("breach", "words"), BREACHES, ids=[breach.__name__ for breach, _ in BREACHES])
def test_a_breach_is_named(breach: Callable[[list[Fact]], None], words: str) -> None:
    facts = copy.deepcopy(history())
    breach(facts)
    problems = check(facts).problems
    assert any(problem.startswith(words) for problem in problems), problems


def test_a_job_that_was_lost_or_applied_twice_is_counted() -> None:
    facts = history()
    remove_end(facts)
    send_child_twice(facts)
    finding = check(facts)
    assert (finding.lost, finding.completed) == (1, 3)
    assert finding.twice >= 1
    found = report.summary(facts, finding)
    assert (found["lost"], found["problems"]) == (1, finding.problems)
    assert "PROBLEM" in report.table(found)


def test_recovery_is_told_by_kind_of_fault_and_pickup_from_ready_to_the_first_run() -> None:
    facts = history()
    found = report.summary(facts, check(facts))
    assert found["recovery_ms"] == {"kill": {"count": 1, "p50": 4_005.0, "p99": 4_005.0, "max": 4_005.0}}
    assert found["pickup_ms"]["count"] == 3, "the retried job is left out"
    assert found["pickup_ms"]["max"] == 15.0
