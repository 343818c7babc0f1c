"""Second lives in the model: dead letters that are replayed or purged, and occurrences of schedules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.properties.model import Model
from tests.properties.model_parts import DEFAULT_PRIORITY, ENDED, NOTHING, WAITING, Event, Job
from tests.properties.model_unique import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.new_jobs import NewJob

KEPT: Final = ("c", "r", "p", "t", "u")
"""What a replay keeps of a flow: not what ended the job, nor until when it was to begin."""
TAKEN_AWAY: Final = "kschedule"


class Again(NamedTuple):
    """A failure that is to be replayed: the job as it is to be, its record empty where it stays as it is, and when it failed."""

    job: NewJob
    failed_ms: int


@dataclass
class Lives(Model):
    """A whole partition, with the records of its schedules: a head, a NUL, and the rest."""

    schedules: dict[str, str] = field(default_factory=dict)

    # -- dead letters --------------------------------------------------------------------------------------------------------------

    def replay(self, failures: Sequence[Again]) -> list[int | str]:
        """Let failed jobs wait again: 1, by this call or before; 0 where this failure is not there; or what stands in the way."""
        found = [self._failed(again) for again in failures]
        taken: dict[str, str] = {}
        codes = [self._check(again, job, taken) if job else self._was_replayed(again) for again, job in zip(failures, found, strict=True)]
        accepted = [(again, job) for again, job, code in zip(failures, found, codes, strict=True) if job and code == 1]
        for again, job in accepted:
            self._live_again(job, again)
        if accepted:
            self.events.append(Event("replay", "-", len(accepted)))
        self.end_call()
        return codes

    def _failed(self, again: Again) -> Job | None:
        job = self.jobs.get(again.job.id)
        return job if job and job.place == "failed" and job.score == again.failed_ms else None

    def _was_replayed(self, again: Again) -> int:
        job = self.jobs.get(again.job.id)
        is_known = job is not None and any(entry.how == "f" and entry.ended_ms == again.failed_ms for entry in job.history)
        return int(is_known and job is not None and again.job.record in (b"", job.record))

    def _flow(self, job: Job, again: Again) -> str:
        items = (job.flow if again.job.record == b"" else again.job.flow).split(",")
        return ",".join(item for item in items if item[0] in KEPT) or NOTHING

    def _check(self, again: Again, job: Job, taken: dict[str, str]) -> int | str:
        flow = self._flow(job, again)
        key = key_of(flow)
        if what := self.drained(job.queue, job.actor, flow):
            return what
        other = key and (taken.get(key.name) or self.holder(key.name))
        if key and other in (None, job.id):
            taken[key.name] = job.id
        return other if other and other != job.id else 1

    def _live_again(self, job: Job, again: Again) -> None:
        """All attempts are before it again; the failed run stays in its history, and its deliveries go on."""
        job.flow, job.attempts, job.losses = self._flow(job, again), 0, 0
        key = key_of(job.flow)
        if key and self.holder(key.name) != job.id:
            self.take_key(key, job.id)
        job.close_run("f", again.failed_ms)
        if f"aging {job.queue}" in self.rules:
            job.priority = next((int(item[1:]) for item in job.flow.split(",") if item[0] == "p"), DEFAULT_PRIORITY)
        if again.job.record:
            job.record, job.blob = again.job.record, again.job.blob
        self._place(job, self._due_ms(again.job.when))

    def purge(self, failures: Sequence[tuple[str, int]]) -> list[int]:
        """Forget failed jobs: 1 for one that is gone, by this call or before; 0 for one that is there and whose failure is another."""
        codes: list[int] = []
        gone: list[str] = []
        for job_id, failed_ms in failures:
            job = self.jobs.get(job_id)
            is_meant = job is not None and job.place == "failed" and job.score == failed_ms
            gone += [job_id] * is_meant
            codes.append(int(is_meant or job is None))
        for job_id in gone:
            self.jobs.pop(job_id, None)
        if gone:
            self.events.append(Event("purge", "-", len(gone)))
        return codes

    # -- schedules -----------------------------------------------------------------------------------------------------------------

    def schedule(
        self, name: str, expected: str, new: str, jobs: Sequence[NewJob], *, previous: str, how: str
    ) -> tuple[bool, list[int | str]]:
        """Change a record if its head is as expected, with the jobs of the occurrences that follow; who comes later changes nothing."""
        record = self.schedules.get(name, "")
        if _head(record) != expected:
            return _head(record) == _head(new), []
        self.queues |= {one.queue for one in jobs}
        if how == "d":
            for job_id in previous.split():
                self._take_away(job_id)
        elif how and self._makes_up(previous, float(how)):
            jobs = jobs[1:]
        for one in jobs:
            known = self.jobs.get(one.id)
            if known and known.deliveries == 0 and TAKEN_AWAY in known.flow.split(","):
                del self.jobs[one.id]
        codes = self._store(jobs)
        if jobs:
            self.events.append(Event("schedule", "-", len(jobs)))
        self.schedules[name] = new if "\0" in new else new + record[len(expected) :]
        if not new:
            del self.schedules[name]
        self.end_call()
        return True, codes

    def _take_away(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        if job and job.place in WAITING and job.deliveries == 0:
            self.cancel_waiting(job_id, TAKEN_AWAY)

    def _makes_up(self, job_id: str, missed_ms: float) -> bool:
        """Whether an occurrence has not ended, or was begun after that time."""
        job = self.jobs.get(job_id)
        return job is not None and (job.place not in ENDED.values() or job.started_ms >= missed_ms)


def _head(record: str) -> str:
    return record.partition("\0")[0]
