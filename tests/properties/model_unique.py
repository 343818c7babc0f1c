"""Jobs that are the same work, and what takes no new jobs, in the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tests.properties.model_gates import Gates
from tests.properties.model_parts import DEFAULT_PRIORITY, ENDED, NOTHING, WAITING, actor_of, gates_of, with_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.new_jobs import NewJob
    from tests.properties.model_parts import Job


class Key(NamedTuple):
    """What a flow says of its unique key: until it is f finished, s started, or so many ms; on conflict e existing, r replace, j reject."""

    name: str
    till: str
    how: str


def key_of(flow: str) -> Key | None:
    """Return the unique key of a flow."""
    return next((Key(*item[1:].split("*")) for item in flow.split(",") if item[0] == "u"), None)


@dataclass
class Uniques(Gates):
    """Who has each unique key, and until when; infinity for as long as it has not ended.

    What comes back in a call still runs for the children that this call sends.
    """

    uniques: dict[str, tuple[str, float]] = field(default_factory=dict)
    coming_back: set[str] = field(default_factory=set)

    def holder(self, key: str) -> str | None:
        """Return the job that stands in the way of another with this key."""
        job_id, until_ms = self.uniques.get(key, ("", 0.0))
        job = self.jobs.get(job_id)
        is_held = until_ms < math.inf or (job is not None and job.place not in ENDED.values())
        return job_id if is_held and until_ms > self.now_ms else None

    def take_key(self, key: Key, job_id: str) -> None:
        """Note that a job has a key from now on."""
        self.uniques[key.name] = (job_id, round(self.now_ms + float(key.till)) if key.till.isdecimal() else math.inf)

    def start_of_key(self, job: Job) -> None:
        """Let the key go that a job has until it starts."""
        key = key_of(job.flow)
        if key and key.till == "s":
            self.end_of_key(job)

    def end_of_key(self, job: Job) -> None:
        """Let the key go that a job has until it has ended."""
        key = key_of(job.flow)
        if key and self.uniques.get(key.name) == (job.id, math.inf):
            del self.uniques[key.name]

    def forget_windows(self) -> None:
        """Forget the keys whose window has passed: a clock that goes back does not bring them back."""
        self.uniques = {key: (job_id, until_ms) for key, (job_id, until_ms) in self.uniques.items() if until_ms > self.now_ms}

    def drained(self, queue: str, actor: str, flow: str) -> str | None:
        """Return what takes no new jobs: the queue, the actor or a gate of a job."""
        parts = [("q", "queue", queue), ("a", "actor", actor), *(("g", "key", gate.name) for gate in gates_of(flow))]
        return next((f"#{word} {name}" for kind, word, name in parts if f"d{kind}{name}" in self.paused), None)

    def last_of_each_key(self, new: Sequence[NewJob], *, are_children: bool) -> dict[str, str]:
        """Of the jobs of one call that replace each other, the last one that is not refused, nor was there before, stays."""
        found: dict[str, str] = {}
        come: set[str] = set()
        for one in new:
            key, known = key_of(one.flow or NOTHING), self.jobs.get(one.id)
            is_taken = known or are_children or not self.drained(one.queue, actor_of(one.record), one.flow or NOTHING)
            if key and key.how == "r" and is_taken and one.id not in come and (known is None or known.record == one.record):
                found[key.name] = one.id
            come.add(one.id)
        return found

    def conflict(self, one: NewJob, taken: dict[str, str], last: dict[str, str]) -> str | None:
        """Return what is answered to a job whose key another one has, or which another one of the call replaces; else it has the key."""
        key = key_of(one.flow or NOTHING)
        if key is None:
            return None
        heir = last.get(key.name, one.id)
        holder = taken.get(key.name) or self.holder(key.name)
        if holder == one.id:
            return None
        if holder and holder == last.get(key.name):
            return holder
        if holder and key.how == "r" and key.name not in taken:
            other = self.jobs.get(holder)
            if other and other.place in WAITING and other.queue == one.queue and holder not in self.coming_back:
                self.cancel_waiting(other.id, _replaced_by(heir))
                holder = None
            elif other and other.outcome and _replaced_by(heir) in other.outcome.flow.split(","):
                holder = None
        if holder:
            return f"!{holder}" if key.how == "j" else holder
        taken[key.name] = heir
        self.take_key(key, heir)
        return heir if heir != one.id else None

    def cancel_waiting(self, job_id: str, why: str) -> None:
        """End a job that waits."""
        raise NotImplementedError

    def with_priority(self, queue: str, priority: int, flow: str) -> str:
        """Return a flow that tells the priority where the rank does not, since priorities age."""
        return with_item(flow, f"p{priority}") if f"aging {queue}" in self.rules and priority != DEFAULT_PRIORITY else flow


def _replaced_by(job_id: str) -> str:
    return f"o{quote(job_id, safe='')}"
