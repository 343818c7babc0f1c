"""Turns of tenants in the model: not who is next, but that nobody who waits falls behind its share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from tests.properties.model_parts import PRIORITY_STEP, WAITING, deaths_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from tests.properties.model import Model
    from tests.properties.model_parts import Job

Line = tuple[str, int, str]
"""Whose jobs wait in turns: a queue, a band of priority, a tenant (empty for the jobs of nobody)."""


def tenant_of(job: Job) -> str:
    """Return the tenant of a job."""
    return next((item[1:] for item in job.flow.split(",") if item[0] == "t"), "")


def band_of(model: Model, job: Job) -> int:
    """Return the band in which a job takes turns: its priority, unless priorities age."""
    return 0 if f"aging {job.queue}" in model.rules else job.rank // PRIORITY_STEP


@dataclass
class Shares:
    """What any two tenants got since both wait: by their weights, neither is ahead of the other by more than a turn of each."""

    got: dict[tuple[Line, Line], dict[Line, int]] = field(default_factory=dict)

    def look(self, model: Model) -> None:
        """Note who waits; an account ends where one of the two does not wait any more."""
        lines = sorted({line_of(model, job) for job in model.jobs.values() if job.place in WAITING and job.place != "delayed"})
        pairs = [(one, other) for one, other in combinations(lines, 2) if one[:2] == other[:2]]
        self.got = {pair: self.got.get(pair, dict.fromkeys(pair, 0)) for pair in pairs}

    def breaches(self, model: Model, job: Job) -> Iterator[str]:
        """Note that a job is leased, and name every tenant that is too far ahead of another."""
        line = line_of(model, job)
        for pair, got in self.got.items():
            if line not in pair:
                continue
            got[line] += 1
            turns = {one: 1 / float(model.rules.get(f"weight {one[0]} {one[2]}", 1)) for one in pair}
            ahead = abs(got[pair[0]] * turns[pair[0]] - got[pair[1]] * turns[pair[1]])
            if ahead > sum(turns.values()) + 0.001:
                yield f"of {pair[0]} and {pair[1]}, both of whom waited, one is ahead by {ahead:g}: {got}"


def line_of(model: Model, job: Job) -> Line:
    """Return in whose line a job waits."""
    return job.queue, band_of(model, job), tenant_of(job)


def overtaken(
    model: Model, queues: AbstractSet[str], known: AbstractSet[str], leased: AbstractSet[str], ordered: AbstractSet[str]
) -> Iterator[str]:
    """Name who was passed over by a claim of these jobs, as they stood before it.

    Of jobs that the same things hold back, the first go first, and of those that nothing holds back, the higher priority. The first is
    so in the `ordered` queues: where tenants take turns, what has waited for something else has had its turn.
    """
    waiting = [job for job in model.jobs.values() if job.place in ("ready", "lane") and job.queue in queues and _may_run(model, job, known)]
    for passed in (job for job in waiting if job.id not in leased):
        for job in (model.jobs[job_id] for job_id in leased):
            if job.queue != passed.queue or job.place not in WAITING:
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
