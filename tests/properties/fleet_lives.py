"""The steps of dead letters and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from angelrt.job import blob_field, write_record
from tests.properties.fleet import LONG, SHORT, Fleet, decoded
from tests.properties.model_lives import Again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.new_jobs import NewJob
    from tests.properties.steps import Fate, JobDraft

SCHEDULE = "nightly"


class LivesFleet(Fleet):
    """A fleet whose failed jobs may live again."""

    def _failures(self, chosen: Sequence[int], *, is_late: bool) -> dict[str, int]:
        """Choose failures by id, with the time of each; late, they are any jobs, and failures that are none any more."""
        failed = [job_id for job_id, job in self.model.jobs.items() if job.place == "failed"]
        known = sorted(self.model.jobs) if is_late or not failed else failed
        ids = {known[pick % len(known)]: None for pick in chosen if known}
        found: dict[str, int] = {}
        for job_id in ids:
            job = self.model.jobs[job_id]
            earlier = [entry.ended_ms for entry in job.history if entry.how == "f"]
            found[job_id] = earlier[0] if is_late and earlier else int(job.score)
        return found

    def replay(self, chosen: list[tuple[int, str, JobDraft]], fate: Fate, *, is_late: bool) -> None:
        """Let failed jobs wait again, as they are or with another record and flow."""
        failures = self._failures([pick for pick, *_ in chosen], is_late=is_late)
        again: list[Again] = []
        voids: list[str] = []
        for (job_id, failed_ms), (_, how, draft) in zip(failures.items(), chosen, strict=False):
            job = self.model.jobs[job_id]
            again.append(Again(self._replayed(job_id, draft, is_edited=how == "edited"), failed_ms))
            voids.append(blob_field(job_id, job.record) if again[-1].job.record and job.record.endswith(b"\0") else "")
        expected = self._model(fate, lambda: self.model.replay(again))
        calls = [(one.job, one.failed_ms, void) for one, void in zip(again, voids, strict=True)]
        now_ms, codes = self._real(fate, self.store.replay(calls))
        assert (now_ms, decoded(codes)) == (self.clock_ms, expected)

    def _replayed(self, job_id: str, draft: JobDraft, *, is_edited: bool) -> NewJob:
        job = self.model.jobs[job_id]
        new = self._new_job(draft._replace(queue=job.queue))._replace(id=job_id, priority=None)
        if not is_edited:
            return new._replace(record=b"", blob=None, flow="")
        record = write_record(job.actor, f"{len(self.sent):04}", {}, b"" if draft.is_long else SHORT)
        return new._replace(record=record, blob=LONG if draft.is_long else None, flow=new.flow or "-")

    def purge(self, chosen: list[int], fate: Fate, *, is_late: bool) -> None:
        """Forget failed jobs, one that never was among them."""
        failures = [*self._failures(chosen, is_late=is_late).items(), ("nobody", 1)]
        expected = self._model(fate, lambda: self.model.purge(failures))
        assert self._real(fate, self.store.purge(failures)) == expected

    def schedule(self, change: str, occurrences: list[tuple[int, JobDraft]], previous: list[int], how: str, fate: Fate) -> None:
        """Change a schedule as it goes on to its next occurrences, is paused or removed, or as somebody does who comes too late."""
        record = self.model.schedules.get(SCHEDULE, "")
        expected = record.partition("\0")[0] + "?" * (change == "too late")
        new = "" if change == "remove" else f"r{len(self.sent)}" + "\0plan" * (change == "pause" or not record)
        jobs = [self._new_job(draft)._replace(id=f"{SCHEDULE}:{number}") for number, draft in dict(occurrences).items()]
        jobs = [] if change in ("pause", "remove") else jobs
        given = {one.id for one in jobs}
        earlier = [job_id for job_id in (f"{SCHEDULE}:{number}" for number in previous) if job_id not in given]
        how = how if earlier and jobs else ""
        how = "d" if change in ("pause", "remove") else f"{self.clock_ms - 3_000:.0f}" if how == "once" else how
        before = " ".join(earlier if how == "d" else earlier[:1]) if how else ""
        told = self._model(fate, lambda: self.model.schedule(SCHEDULE, expected, new, jobs, previous=before, how=how))
        found, codes = self._real(fate, self.store.schedule(SCHEDULE, expected, new, jobs, previous=before, how=how))
        assert (found, decoded(codes)) == told
