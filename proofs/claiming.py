"""The model of `claim`: the one verb that looks at marks, and that decides whether anybody needs to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .model import Place, Rules

if TYPE_CHECKING:
    from .model import Draft


class Claimed(NamedTuple):
    """The answer of a claim for one slot."""

    job: int | None
    again: bool


@dataclass
class Look:
    """What one claim has seen: the lanes it serves, those it has met closed, with whether a time is known at which they open."""

    worker: str
    actors: frozenset[str]
    lanes: list[str]
    looked: set[str] = field(default_factory=set[str])
    closed: dict[str, bool] = field(default_factory=dict[str, bool])


class Claiming(Rules):
    """All rules of the scripts."""

    def claim(self, d: Draft, worker: str, actors: frozenset[str], resend: bool) -> Claimed:  # noqa: FBT001 - as the script has it
        """Lease the first job in line that nothing holds back."""
        self.move_overdue(d)
        job = self.taken_up(d, worker) if resend else None
        if "q" in d.paused:
            return Claimed(job, again=False)
        look = Look(worker, actors, self.open_lanes(d, actors))
        look.looked.update(look.lanes)
        while job is None and (found := self.first_in_line(d, look)) is not None:
            job = self.place(d, look, found)
        more = self.first_in_line(d, look) is not None
        self.mark_again(d, look)
        again = self.is_more(d, look, more=more)
        d.marker = d.marker or again
        self.hand_on(d, worker, actors)
        return Claimed(job, again)

    def taken_up(self, d: Draft, worker: str) -> int | None:
        """Return what the token of a call that is sent again holds."""
        return next((j for j, place in enumerate(d.places) if place == ("leased", worker)), None)

    def open_lanes(self, d: Draft, actors: frozenset[str]) -> list[str]:
        """Return the lanes in which this worker may find something."""
        own = [actor for actor in sorted(actors) if actor in d.marks and f"a{actor}" not in d.paused]
        return [*own, *(gate for gate in d.world.gates if gate in d.marks)]

    def first_in_line(self, d: Draft, look: Look) -> int | None:
        """Return the first job of ready and of the open lanes."""
        lanes = [lane for lane in look.lanes if lane not in look.closed]
        line = [j for j, (state, of) in enumerate(d.places) if state == "ready" or (state == "lane" and of in lanes)]
        return min(line, default=None)

    def place(self, d: Draft, look: Look, job: int) -> int | None:
        """Lease a job, or let it stand where it has to wait. Answers the job if it is leased."""
        lane, actor = d.places[job].of, d.world.jobs[job].actor
        if actor not in look.actors or f"a{actor}" in d.paused:
            d.places[job] = Place("lane", actor)
            self.miss(d, actor)
            return None
        closed = self.first_closed(d, job, lane, look.looked)
        if closed is None:
            self.lease(d, look.worker, job)
            return job
        gate, has_time = closed
        look.closed.setdefault(gate, has_time)
        look.looked.discard(gate)
        if gate != lane:
            d.places[job] = Place("lane", gate)
            look.closed[gate] = look.closed[gate] or has_time
        return None

    def miss(self, d: Draft, actor: str) -> None:
        """Open the lane of an actor that this worker does not have, and wake another one."""
        d.mark(actor)
        d.marker = True

    def hand_on(self, d: Draft, worker: str, actors: frozenset[str]) -> None:
        """Wake one more, if a lane of an actor that this worker lacks was marked since it looked last."""
        if any(not d.is_gate(lane) and lane not in actors and (lane, worker) not in d.passed for lane in d.marks):
            d.marker = True

    def lease(self, d: Draft, worker: str, job: int) -> None:
        """Give a job to a worker."""
        d.places[job] = Place("leased", worker)
        d.watched.discard(job)
        self.forget_verdicts(d, job)

    def mark_again(self, d: Draft, look: Look) -> None:
        """After a look: a lane that is empty loses its mark, and so does one whose gate has closed."""
        for lane in look.lanes:
            if (lane in look.closed and not look.closed[lane]) or not d.waiters(lane):
                d.marks.discard(lane)

    def is_more(self, d: Draft, look: Look, *, more: bool) -> bool:
        """Whether somebody needs to look again."""
        return more or (bool(look.lanes) and any(d.is_gate(lane) for lane in d.marks))
