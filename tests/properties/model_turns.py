"""Turns of tenants in the model: not who is next, but that nobody who waits, for its turn or at a gate, falls behind its share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from tests.properties.model_parts import PRIORITY_STEP, WAITING, deaths_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from tests.properties.model import Model
    from tests.properties.model_parts import Job


class Line(NamedTuple):
    """Whose jobs wait in turns: in a queue, or in the lane of one of its gates; in a band of priority; a tenant, empty for nobody."""

    queue: str
    gate: str
    band: int
    tenant: str


def tenant_of(job: Job) -> str:
    """Return the tenant of a job."""
    return next((item[1:] for item in job.flow.split(",") if item[0] == "t"), "")


def band_of(model: Model, job: Job) -> int:
    """Return the band in which a job takes turns: its priority, unless priorities age."""
    return 0 if f"aging {job.queue}" in model.rules else job.rank // PRIORITY_STEP


@dataclass
class Account:
    """What two got since both wait; and how many claims were carried out twice meanwhile, in each of which one may have paid twice."""

    got: dict[Line, int]
    repeated: int = 0


@dataclass
class Shares:
    """By their weights, neither of any two is ahead of the other by more than a turn of each."""

    accounts: dict[tuple[Line, Line], Account] = field(default_factory=dict)

    def look(self, waiting: Iterable[Line]) -> None:
        """Note who waits; an account ends where one of the two does not wait any more."""
        pairs = [(one, other) for one, other in combinations(sorted({*waiting}), 2) if one[:3] == other[:3]]
        self.accounts = {pair: self.accounts.get(pair) or Account(dict.fromkeys(pair, 0)) for pair in pairs}

    def count(self, line: Line) -> None:
        """Note that a job is leased."""
        for account in self.accounts.values():
            if line in account.got:
                account.got[line] += 1

    def repeat(self) -> None:
        """Note that a claim was carried out twice."""
        for account in self.accounts.values():
            account.repeated += 1

    def unfair(self, rules: Mapping[str, str]) -> Iterator[str]:
        """Name every two of whom one is too far ahead."""
        for pair, account in self.accounts.items():
            turns = [1 / float(rules.get(f"weight {one.queue} {one.tenant}", 1)) for one in pair]
            had = [account.got[one] * turn for one, turn in zip(pair, turns, strict=True)]
            if abs(had[0] - had[1]) > sum(turns) * (1 + account.repeated) + 0.001:
                yield f"of {pair[0]} and {pair[1]}, both of whom waited, one is ahead: {account}"


def line_of(model: Model, job: Job, gate: str = "") -> Line:
    """Return in whose line a job waits, in its queue or at a gate."""
    return Line(job.queue, gate, band_of(model, job), tenant_of(job))


def waiting_for_turns(model: Model) -> set[Line]:
    """Return who waits for nothing but turns, as suspects do not. What such a one gets through gates counts, too."""
    waiting = [job for job in model.jobs.values() if job.place in WAITING and job.place != "delayed"]
    return {line_of(model, job) for job in waiting if not job.gates and not deaths_of(job.flow)}


def overtaken(
    model: Model, queues: AbstractSet[str], known: AbstractSet[str], leased: AbstractSet[str], ordered: AbstractSet[str]
) -> Iterator[str]:
    """Name who was passed over by a claim of these jobs, as they stood before it.

    Of jobs that the same things hold back, the first go first, and of those that nothing holds back, the higher priority. The first is
    so in the `ordered` queues: where tenants take turns, what has waited for something else, as for a gate, has had its turn.
    """
    waiting = [job for job in model.jobs.values() if job.place in ("ready", "lane") and job.queue in queues and _may_run(model, job, known)]
    for passed in (job for job in waiting if job.id not in leased):
        for job in (model.jobs[job_id] for job_id in leased):
            if job.queue != passed.queue or job.place not in WAITING or deaths_of(job.flow):
                continue
            is_kin = (tenant_of(job), job.gates) == (tenant_of(passed), passed.gates) and (job.actor == passed.actor or not job.gates)
            is_higher = not job.gates and not passed.gates and band_of(model, passed) < band_of(model, job)
            if (is_kin and job.queue in ordered and passed.order < job.order) or is_higher:
                yield f"{job.id} was leased before {passed.id}, which comes first"


def left_over(model: Model, queues: AbstractSet[str], known: AbstractSet[str]) -> list[str]:
    """Return the jobs that a claim of these queues could still lease, since nothing holds them back."""
    ready = [job for job in model.jobs.values() if job.place in ("ready", "lane") and job.queue in queues]
    return [job.id for job in ready if not job.gates and _may_run(model, job, known)]


def _may_run(model: Model, job: Job, known: AbstractSet[str]) -> bool:
    # A suspect waits until a worker holds nothing, which is a matter of its own.
    return job.actor in known and not {f"a{job.actor}", f"q{job.queue}"} & model.paused and not deaths_of(job.flow)
