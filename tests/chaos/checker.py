"""Replays a history against what angelrt promises, and names every breach. Pure: facts in, findings out."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from math import floor
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.lives import Delivery, Fault, Life, deliveries_of, explained_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Fact = dict[str, Any]
RATE_MIN: Final = 0.9999
"""Of the jobs whose send returned, at least this share completes; of a few jobs, all but one."""


@dataclass
class Finding:
    """What a history shows: breaches in words, each beginning with its kind, and figures."""

    problems: list[str] = field(default_factory=list[str])
    sent: int = 0
    completed: int = 0
    failed: int = 0
    lost: int = 0
    twice: int = 0
    extra: Counter[str] = field(default_factory=Counter[str])
    """Deliveries beyond the first, by the fault that they are tied to; `retry` and `handed back` are those that no fault caused."""
    unexplained: int = 0
    lives: list[Life] = field(default_factory=list[Life])

    @property
    def rate(self) -> float:
        """The share of sent jobs that completed."""
        return self.completed / self.sent if self.sent else 0.0


class History:
    """The facts of a run, by what they are about."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        """Sort them."""
        by_kind: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            by_kind[fact["fact"]].append(fact)
        self.of = by_kind
        self.workers: dict[int, str] = {fact["pid"]: fact["worker"] for fact in by_kind["worker"]}
        self.lease_ms = float(by_kind["run"][0]["lease_ms"])
        self.faults = [Fault.of(fact, self.workers) for fact in by_kind["fault"] if fact["met"]]
        self.ended: defaultdict[str, list[Fact]] = defaultdict(list)
        self.runs: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in by_kind["ended"]:
            self.ended[fact["job"]].append(fact)
        for kind in ("began", "done", "raised", "cut"):
            for fact in by_kind[kind]:
                self.runs[fact["job"]].append(fact)


def check(facts: Iterable[Fact]) -> Finding:
    """Replay a history."""
    history, finding = History(facts), Finding()
    sent = {fact["job"] for fact in history.of["sent"]}
    finding.sent = len(sent)
    for fact in history.of["left over"]:
        finding.problems.append(f"left over: job {fact['job']} has not ended, it is in {fact['place']}")
    _check_sent(history, finding, sent)
    for job_id, ends in history.ended.items():
        _replay(history, finding, job_id, ends[-1])
    finding.problems += [*_family(history), *_counts(history), *_hearing(history), *_processes(history)]
    finding.twice = sum(problem.startswith("twice") for problem in finding.problems)
    finding.problems += [f"unsound: {fact['what']}" for fact in history.of["unsound"]]
    if finding.completed < floor(RATE_MIN * finding.sent):
        finding.problems.append(f"rate: {finding.completed} of {finding.sent} sent jobs completed")
    return finding


def _check_sent(history: History, finding: Finding, sent: set[str]) -> None:
    """Every job whose send returned has ended, once."""
    for job_id in sent:
        outcomes = [fact["outcome"] for fact in history.ended.get(job_id, ())]
        if not outcomes:
            finding.lost += 1
            finding.problems.append(f"lost: job {job_id}: its send returned, and it has not ended")
        elif len(outcomes) > 1:
            finding.problems.append(f"twice: job {job_id} ended as {' and as '.join(outcomes)}")
        finding.completed += outcomes == ["completed"]
        finding.failed += "failed" in outcomes
    for job_id, ends in history.ended.items():
        if job_id not in sent and "parent" not in ends[-1]:
            finding.problems.append(f"unsent: job {job_id} ended, and no send of it returned")


def _replay(history: History, finding: Finding, job_id: str, end: Fact) -> None:
    """Follow one job from delivery to delivery, as the lease protocol allows it."""
    deliveries = deliveries_of(end)
    life = Life(job_id, end, deliveries, history.runs[job_id])
    finding.lives.append(life)
    if len(deliveries) != end["deliveries"]:
        finding.problems.append(f"forgotten: job {job_id}: {end['deliveries']} deliveries, and {len(deliveries)} are told of")
    for earlier, later in pairwise(deliveries):
        if later.started < earlier.ended:
            finding.problems.append(f"overlap: job {job_id} was leased to {later.worker} before the lease of {earlier.worker} had ended")
    finding.problems += _runs(history, life)
    if end["outcome"] == "completed":
        finding.problems += _settled_by_its_own(history, life)
    for delivery in deliveries[:-1]:
        _explain(history, finding, life, delivery)


def _explain(history: History, finding: Finding, life: Life, delivery: Delivery) -> None:
    """Tie what came after a delivery to a fault, or to what the actor or the worker said."""
    if delivery.how == "l":
        fault = explained_by(delivery, history.faults, history.lease_ms)
        if fault is None:
            finding.unexplained += 1
            finding.problems.append(f"unexplained: job {life.id}: {delivery.worker} lost it at {delivery.ended:.0f}, and no fault says why")
        else:
            delivery.fault = fault
            finding.extra[fault.kind] += 1
    elif delivery.how == "x":
        finding.extra["handed back"] += 1
    elif delivery.how == "r" and life.noted("raised", history.workers)[delivery.worker]:
        finding.extra["retry"] += 1
    else:
        finding.unexplained += 1
        finding.problems.append(f"unexplained: job {life.id}: {delivery.worker} gave it back ({delivery.how}), and no error says why")


def _runs(history: History, life: Life) -> Iterator[str]:
    """Yield runs that no delivery allowed: each is of a worker that was given the job, as often as it was."""
    allowed = Counter(delivery.worker for delivery in life.deliveries)
    for worker, times in (life.noted("began", history.workers) - allowed).items():
        yield f"unleased: job {life.id} ran {times} times more in {worker} than it was delivered"


def _settled_by_its_own(history: History, life: Life) -> Iterator[str]:
    """Yield a result that is of another run than the one whose lease was valid when the job ended."""
    pid, attempt = life.end["result"]
    if (history.workers.get(pid), attempt) != (life.end["worker"], life.end["attempts"]):
        yield f"fence: job {life.id} has the result of process {pid}, attempt {attempt}, which did not hold its lease"
    if not any(fact["fact"] == "done" and (fact["pid"], fact["attempt"]) == (pid, attempt) for fact in life.runs):
        yield f"fence: job {life.id} has the result of a run that did not come to its end"


def _family(history: History) -> Iterator[str]:
    """Yield children that came twice, not at all, or of a parent that did not complete."""
    born = Counter((fact["parent"], fact["child"]) for ends in history.ended.values() for fact in ends if "parent" in fact)
    born += Counter()
    parents = {job_id for job_id, ends in history.ended.items() if ends[-1]["actor"] == "parent" and ends[-1]["outcome"] == "completed"}
    children = int(history.of["run"][0]["children"])
    for (parent, number), times in born.items():
        if times > 1:
            yield f"twice: child {number} of job {parent} was sent {times} times"
        if parent not in parents:
            yield f"fence: job {parent} has children and did not complete"
    waiting = {fact["job"] for fact in history.of["left over"]}
    for parent in parents:
        missing = [number for number in range(children) if (parent, number) not in born]
        if missing and not waiting:
            yield f"lost: job {parent} completed, and its children {missing} are not there"


def _counts(history: History) -> Iterator[str]:
    """Yield counters of the server that are not what they count."""
    ended = Counter((end["actor"], end["outcome"]) for ends in history.ended.values() for end in ends)
    counted = Counter({(fact["actor"], fact["outcome"]): fact["times"] for fact in history.of["counted"]})
    for name in ended.keys() | counted.keys():
        if counted[name] != ended[name]:
            word = "twice" if counted[name] > ended[name] else "uncounted"
            yield f"{word}: {counted[name]} jobs of {name[0]} are counted as {name[1]}, and {ended[name]} are"


def _hearing(history: History) -> Iterator[str]:
    """Yield results that somebody heard and that are not what is stored."""
    for fact in history.of["heard"]:
        ends = history.ended.get(fact["job"])
        stored = ends[-1].get("result") or f"JobFailed: {ends[-1].get('error')}" if ends else "nothing"
        is_same = stored == fact["result"] if isinstance(fact["result"], list) else str(fact["result"]).partition(":")[0] in str(stored)
        if not is_same:
            yield f"misheard: who waited for job {fact['job']} heard {fact['result']}, and {stored} is stored"


def _processes(history: History) -> Iterator[str]:
    """Yield processes that ended without having been killed or asked, other than for want of a server when they began."""
    for fact in history.of["left"]:
        if fact["code"] > 0 and not fact["unreachable"]:
            yield f"broke: process {fact['pid']} in place {fact['place']} ended with {fact['code']}:\n{fact['words']}"
    yield from (f"hung: {fact['what']}" for fact in history.of["hung"])
