"""The fleet around a namespace: what each worker is about to do, and every step that may come next.

A worker has one slot. It is: down; about to look (a claim without waiting); popped (the marker has let its wait go, its claim comes next);
going (its wait is on the way to the server); blocked; running a job; sending a claim or a settle again whose answer was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .model import ENDED, GHOST, WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Db
    from .world import World

AWAKE: Final = ("look", "popped", "reclaim")


class Status(NamedTuple):
    """What a worker is about to do, with its job and verdict."""

    name: str
    job: int = -1
    verdict: str = ""

    def __str__(self) -> str:
        """Tell it in short."""
        return f"{self.name}{'' if self.job < 0 else f' {self.job}'}{self.verdict}"


DOWN, LOOK, POPPED, GOING, BLOCKED, RECLAIM = map(Status, ("down", "look", "popped", "going", "blocked", "reclaim"))


class Call(NamedTuple):
    """One call of a script, or an edit: what clocks and deaths do to a namespace by themselves."""

    verb: str
    arguments: tuple[Any, ...] = ()


class Fleet(NamedTuple):
    """A state. `line` are blocked workers, the longest waiting first; `owed` those who may have missed their marker.

    It died with the worker that had popped it, or it came by while they were on their way to wait: then it may stop at one that lacks the
    actor, and has handed it on before.
    """

    db: int
    workers: tuple[Status, ...]
    line: tuple[int, ...]
    owed: frozenset[int]


class Step(NamedTuple):
    """What may happen next. `is_progress` is what comes by itself, sooner or later."""

    label: str
    is_progress: bool
    calls: tuple[Call, ...]
    then: Callable[[int, Any], Fleet]


class Change(NamedTuple):
    """A step that only changes the namespace; `needs_worker` where a live worker takes it."""

    label: str
    is_progress: bool
    needs_worker: bool
    call: Call


class Backend(Protocol):
    """Namespaces by number, and what calls make of them: the model, or a server."""

    world: World

    def start(self) -> int:
        """Return the empty namespace."""
        ...

    def view(self, db: int) -> Db:
        """Return a namespace as the model sees it."""
        ...

    def prepare(self, wanted: set[tuple[int, Call]]) -> None:
        """Make calls that will be asked for, all at once."""
        ...

    def run(self, db: int, call: Call) -> tuple[int, Any]:
        """Return what a call makes of a namespace, and its answer."""
        ...


class Protocols:
    """What workers do; a mutant may replace a rule."""

    block_has_limit = True
    looks_after_running = True

    def __init__(self, backend: Backend) -> None:
        """Keep the backend."""
        self.backend = backend
        self.world = backend.world
        self._changes_of: dict[int, list[Change]] = {}

    def first(self) -> Fleet:
        """Return the state in which every worker begins to look."""
        return Fleet(self.backend.start(), tuple(LOOK for _ in self.world.workers), (), frozenset())

    def settle_marker(self, fleet: Fleet) -> Fleet:
        """Hand a marker that is set to the worker that has waited longest, as the server does at once."""
        if not fleet.line or not self.backend.view(fleet.db).marker:
            return fleet
        db, _ = self.backend.run(fleet.db, Call("pop"))
        first = fleet.line[0]
        return Fleet(db, _put(fleet.workers, first, POPPED), fleet.line[1:], fleet.owed - {first})

    def steps(self, fleet: Fleet) -> Iterator[Step]:
        """Name all that may happen next."""
        view = self.backend.view(fleet.db)
        for index, status in enumerate(fleet.workers):
            yield from self._of_worker(fleet, view, index, status)
        is_served = any(status != DOWN for status in fleet.workers)
        for label, is_progress, needs_worker, call in self._changes(fleet.db, view):
            if is_served or not needs_worker:
                yield Step(label, is_progress, (call,), lambda db, _: fleet._replace(db=db))

    def _changes(self, db: int, view: Db) -> list[Change]:
        """Return what time and people may do to a namespace, whatever its workers are about to do."""
        if db not in self._changes_of:
            self._changes_of[db] = [*_of_time(self.world, view), *_of_housekeeping(self.world, view), *_of_people(self.world, view)]
        return self._changes_of[db]

    # -- workers ---------------------------------------------------------------------------------------------------------------------

    def _of_worker(self, fleet: Fleet, view: Db, index: int, status: Status) -> Iterator[Step]:
        events, name = self.world.events, f"w{index}"
        if status == DOWN:
            if "die" in events:
                yield self._becomes(fleet, index, LOOK, f"{name} arrives", Call("arrive", (index,)), is_progress=False)
            return
        if "die" in events:
            yield self._dies(fleet, index, status)
        if status.name in AWAKE:
            yield from self._claims(fleet, index, status)
        elif status == GOING:
            yield self._waits(fleet, view, index)
        elif status == BLOCKED and self.block_has_limit and (index in fleet.owed or "idle" in events):
            yield Step(f"the wait of {name} is over", index in fleet.owed, (), lambda db, _: self._woken(fleet, db, index))
        elif status.name == "run":
            yield from self._ends_run(fleet, view, index, status)
        elif status.name == "resettle":
            yield self._settles(fleet, index, status.job, status.verdict, is_progress=True)

    def _becomes(self, fleet: Fleet, index: int, status: Status, label: str, *calls: Call, is_progress: bool = True) -> Step:
        return Step(label, is_progress, calls, lambda db, _: fleet._replace(db=db, workers=_put(fleet.workers, index, status)))

    def _dies(self, fleet: Fleet, index: int, status: Status) -> Step:
        asleep = frozenset(other for other, its in enumerate(fleet.workers) if its in (GOING, BLOCKED))
        owed = fleet.owed - {index} | (asleep if status == POPPED else frozenset())
        line = tuple(other for other in fleet.line if other != index)
        workers = _put(fleet.workers, index, DOWN)
        return Step(f"w{index} dies", False, (Call("die", (index,)),), lambda db, _: Fleet(db, workers, line, owed))

    def _claims(self, fleet: Fleet, index: int, status: Status) -> Iterator[Step]:
        call = Call("claim", (index, status == RECLAIM))

        def then(db: int, reply: Any) -> Fleet:
            job, again = reply
            after = LOOK if again else GOING
            return self._has_claimed(fleet, db, index, after if job is None else Status("run", job))

        yield Step(f"w{index} claims", True, (call, Call("remember", (index,))) if self.world.has_rare_actors else (call,), then)
        if "lost" in self.world.events and status != RECLAIM:
            yield Step(f"w{index} claims, its answer is lost", False, (call,), lambda db, _: self._has_claimed(fleet, db, index, RECLAIM))

    def _has_claimed(self, fleet: Fleet, db: int, index: int, status: Status) -> Fleet:
        lacked = self.backend.view(db).marks - self.world.workers[index]
        late = {other for other, its in enumerate(fleet.workers) if its == GOING and self.world.workers[other] & lacked}
        return fleet._replace(db=db, workers=_put(fleet.workers, index, status), owed=fleet.owed | late)

    def _waits(self, fleet: Fleet, view: Db, index: int) -> Step:
        if view.marker:
            paid = fleet._replace(owed=fleet.owed - {index})
            return self._becomes(paid, index, POPPED, f"w{index} waits and pops", Call("pop"))
        workers, line = _put(fleet.workers, index, BLOCKED), (*fleet.line, index)
        return Step(f"w{index} waits", True, (), lambda db, _: fleet._replace(db=db, workers=workers, line=line))

    def _woken(self, fleet: Fleet, db: int, index: int) -> Fleet:
        line = tuple(other for other in fleet.line if other != index)
        return Fleet(db, _put(fleet.workers, index, LOOK), line, fleet.owed - {index})

    def _ends_run(self, fleet: Fleet, view: Db, index: int, status: Status) -> Iterator[Step]:
        events, job = self.world.events, status.job
        yield self._settles(fleet, index, job, "c", is_progress=True)
        for event, verdict in (("retry", "r"), ("release", "x")):
            if event in events:
                yield self._settles(fleet, index, job, verdict, is_progress=False)
        if job in view.asked and "cancel" in events:
            yield self._settles(fleet, index, job, "k", is_progress=False)
        if "lost" in events:
            for verdict in "cr" if "retry" in events else "c":
                lost = Status("resettle", job, verdict)
                call = Call("settle", (index, job, verdict))
                yield self._becomes(fleet, index, lost, f"w{index} settles {job} {verdict}, its answer is lost", call, is_progress=False)
        if "renew" in events:
            yield Step(
                f"w{index} renews {job}", False, (Call("renew", (index, job)),), lambda db, reply: self._renewed(fleet, db, index, reply)
            )

    def _renewed(self, fleet: Fleet, db: int, index: int, reply: Any) -> Fleet:
        if reply != "lost":
            return fleet._replace(db=db)
        db, _ = self.backend.run(db, Call("forget", (index,)))
        return fleet._replace(db=db, workers=_put(fleet.workers, index, self._after_run()))

    def _after_run(self) -> Status:
        return LOOK if self.looks_after_running else GOING

    def _settles(self, fleet: Fleet, index: int, job: int, verdict: str, *, is_progress: bool) -> Step:
        calls = (Call("settle", (index, job, verdict)), Call("forget", (index,)))
        return self._becomes(fleet, index, self._after_run(), f"w{index} settles {job} {verdict}", *calls, is_progress=is_progress)


def _of_time(world: World, view: Db) -> Iterator[Change]:
    for job, (state, of) in enumerate(view.places):
        if job in view.overdue:
            continue
        if state == "leased" and (of == GHOST or "stall" in world.events):
            yield Change(f"the lease of {job} ends", of == GHOST, False, Call("ends", (job,)))
        if state == "delayed":
            yield Change(f"{job} is due", True, False, Call("ends", (job,)))
        if state in WAITING and job in view.watched:
            yield Change(f"{job} is too late", False, False, Call("ends", (job,)))


def _of_housekeeping(world: World, view: Db) -> Iterator[Change]:
    if view.overdue:
        yield Change("a timer ticks", True, True, Call("tick"))
    for rule in sorted(view.sweeping):
        yield Change(f"the sweep of {rule} goes on", True, True, Call("sweep", (rule,)))
    if "strike" in world.events and ("leased", GHOST) in view.places:
        yield Change("the dead are struck off", False, True, Call("strike"))


def _of_people(world: World, view: Db) -> Iterator[Change]:
    events = world.events
    for job, (state, _) in enumerate(view.places):
        if state == "unsent" or "again" in events:
            yield Change(f"{job} is sent", False, False, Call("enqueue", (job,)))
        if "cancel" in events and state != "unsent" and ("again" in events or not (state in ENDED or job in view.asked)):
            yield Change(f"{job} is cancelled", False, False, Call("cancel", (job,)))
    for what in world.pauses:
        verb = "resume" if what in view.paused else "pause"
        yield Change(f"{verb} {what}", False, False, Call(verb, (what,)))
    for rule, now in zip(world.rules, view.limits, strict=True) if "limits" in events else ():
        for most in set(world.limits) - {now}:
            yield Change(f"the limit of {rule} becomes {most}", False, False, Call("limit", (rule, most)))
            if "half" in events:
                yield Change(f"the limit of {rule} becomes {most}, half", False, False, Call("half_limit", (rule, most)))


def _put(workers: tuple[Status, ...], index: int, status: Status) -> tuple[Status, ...]:
    return (*workers[:index], status, *workers[index + 1 :])
