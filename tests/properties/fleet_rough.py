"""A fleet whose calls break off in the middle and are sent again, beside the looser model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from angelrt import Retention
from angelrt.config import Keep
from tests.properties import observed, steps
from tests.properties.fleet_lives import LivesFleet
from tests.properties.lossy import BreakingLink
from tests.properties.model_rough import Rough
from tests.properties.model_turns import Line, Shares, line_of, waiting_for_turns
from tests.properties.steps import LEASE_MS, QUEUES
from tests.state import GATE_LANE, problems, read_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.properties.observed import Seen
    from tests.properties.steps import Fate, JobDraft
    from tests.state import State

FOR_EVER = Keep(315_360_000)
BACKLOG = 6
"""With less, who gets more than its share would never be seen: so many jobs have tenants at first, and those who join later."""
COMPARED = ("jobs", "queues", "rules", "paused", "watched", "beats", "workers", "watchers", "uniques", "schedules")


class Either:
    """What a call answers that was carried out twice, perhaps in part: each part of it is of the first time or of the second."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, first: Any, second: Any) -> None:
        """Keep both."""
        self.both = first, second

    def __eq__(self, other: object) -> bool:
        """Whether an answer is made of these."""
        return _is_of(other, *self.both)

    def __repr__(self) -> str:
        """Show both."""
        return f"either {self.both[0]!r} or {self.both[1]!r}"


def _is_of(answer: Any, first: Any, second: Any) -> bool:
    if answer in (first, second):
        return True
    if isinstance(answer, list | tuple) and len(answer) == len(first) == len(second):
        return all(map(_is_of, answer, first, second))
    return isinstance(answer, int) and isinstance(first, int) and isinstance(second, int) and first >= answer >= second


class RoughFleet(LivesFleet):
    """Every call may be lost, or break off; its answer is checked against what it must never say."""

    retention = Retention(completed=FOR_EVER, failed=FOR_EVER, cancelled=FOR_EVER)  # what is forgotten by a call that broke off varies
    make_model = Rough
    make_link = BreakingLink

    def __init__(self, url: str) -> None:
        """Take a namespace, in which nobody waits at a gate."""
        super().__init__(url)
        self.at_gates: dict[str, Line] = {}
        self.shares_at_gates = Shares()

    @property
    def rough(self) -> Rough:
        """The model."""
        return cast("Rough", self.model)

    def begin(self, theme: str) -> None:
        """Declare what the theme needs."""
        self.theme = theme
        self.rough.all_known = theme in steps.SHARED
        self.rough.at_gates = theme == "shared"
        for rule, value in steps.MORE_RULES.get(theme, {}).items():
            self._control("declare", rule, value, "")
        if self.rough.all_known:
            self._send_backlogs("tann", "tbob", "", *steps.SHARED[theme])

    def _send_backlogs(self, *flows: str) -> None:
        plain = steps.JobDraft("m", "q", "a", None, "", is_long=False, flow=0)
        self._enqueue([self._new_job(plain)._replace(flow=flow) for flow in flows for _ in range(BACKLOG)], "")

    def check(self) -> None:
        """Check the invariant, what explain says, and that the server holds what the model says of each job."""
        state = self.run(read_state(self.store, *QUEUES))
        assert problems(state, may_wait_twice=True) == []
        assert {*self.listener.news()} == {*self.model.news}
        self.model.news.clear()
        assert self.guard.breaches(state, self.clock_ms) == []
        seen, expected = observed.seen(state, self.model), observed.expected(self.model)
        for name in COMPARED:
            assert _roughly(name, getattr(seen, name)) == _roughly(name, getattr(expected, name)), name
        self.rough.shares.look(waiting_for_turns(self.model))
        self._look_at_gates(state)
        self.explain("abc")

    def _look_at_gates(self, state: State) -> None:
        """Who stands at a gate, as the server says: the model knows only that it waits."""
        waiters = [waiter for queue in state.queues.values() for waiter in queue.lanes if len(waiter.lane) >= GATE_LANE]
        jobs = self.model.jobs
        self.at_gates = {waiter.id: line_of(self.model, jobs[waiter.id], waiter.lane[:GATE_LANE]) for waiter in waiters}
        self.shares_at_gates.look(self.at_gates.values())
        assert not self.rough.at_gates or [*self.shares_at_gates.unfair(self.model.rules)] == []

    def enqueue(self, drafts: list[JobDraft], twice: str, fate: Fate) -> None:
        """Send new jobs, and where tenants take turns more for one who is new."""
        super().enqueue(drafts, twice, fate)
        if self.rough.all_known and len(drafts) > 2:
            self._send_backlogs(f"tnew{len(self.sent)}")

    def schedule(self, change: str, occurrences: list[tuple[int, JobDraft]], previous: list[int], how: str, fate: Fate) -> None:
        """Change a schedule; of occurrences of several kinds, a call that is sent again may hear of another holder of their key."""
        same_kind = [(number, draft._replace(flow=occurrences[0][1].flow)) for number, draft in occurrences]
        super().schedule(change, same_kind, previous, how, fate)

    def claim(self, **arguments: Any) -> None:
        """Claim, where tenants take turns by a worker that knows every actor: what it does not know is let by, and has its turn later."""
        known = "abc" if self.rough.all_known else arguments["known"]
        super().claim(**{**arguments, "known": known})

    def control(self, change: tuple[str, str], pick: int, fate: Fate) -> None:
        """Pause, resume, or change a limit, but no actor where tenants take turns."""
        if not self.rough.all_known or change[1][0] != "a":
            super().control(change, pick, fate)

    def _claim(self, worker: str, fate: Fate, *, block: bool, pause_ms: float) -> None:
        """Claim and follow; a claim that is carried out twice has leased in two goes, so that its order says little."""
        del block, pause_ms
        asked = self.asked[worker]
        actors = "\0".join(("", *sorted(asked.known), "")).encode()
        self.guard.is_one_claim = not fate or fate == "request lost"
        options: dict[str, Any] = {"queues": asked.queues, "lease_ms": LEASE_MS, "capacity": asked.capacity, "free": asked.free}
        claimed = self._real(fate, self.store.claim(self.link, worker, asked.token, actors=actors, block=False, **options))
        self.rough.sign_of_life(worker)
        self.rough.move_on(asked.queues)
        held = self.rough.held(worker, asked.token) if fate else []
        ids = [delivery.id.decode() for delivery in claimed.deliveries]
        assert ids[: len(held)] == held or (not self.guard.is_one_claim and {*held} <= {*ids})
        new = [job_id for job_id in ids if job_id not in held]
        room, free = max(asked.capacity - len(held), 0), max(asked.free - len(held), 0)
        assert list(self.rough.forbidden(new, room, free, asked.queues, asked.known, again=claimed.again)) == []
        if not self.guard.is_one_claim:
            self.rough.shares.repeat()
            self.shares_at_gates.repeat()
        for job_id in self.at_gates.keys() & {*new}:
            self.shares_at_gates.count(self.at_gates[job_id])
        unfair = self.rough.follow(new, worker, asked.token, LEASE_MS)
        assert not self.rough.all_known or not self.guard.is_one_claim or unfair == []
        for delivery in claimed.deliveries:
            self._check_delivery(worker, asked.token, delivery)
        self._check_due(claimed.next_due_ms, self.model.next_due_ms(asked.queues))

    def _place_of(self, state: str) -> str:
        return "ready" if state == "lane" else state

    def _check_due(self, due_ms: float, expected_ms: float) -> None:
        """A gate may open before anything else is due, and that is not foretold."""
        assert due_ms == expected_ms or self.clock_ms < due_ms < (expected_ms if expected_ms >= 0 else float("inf"))

    def _model(self, fate: Fate, call: Callable[[], Any]) -> Any:
        first = call()
        second = call() if fate not in ("", "request lost") else first
        return first if fate in ("", "request lost") or first == second else second if fate == "reply lost" else Either(first, second)


def _roughly(name: str, part: Any) -> Any:
    """Return what is compared of a part: of a job, not where it waits, nor its priority where only a rank tells it."""
    return {job_id: _as_waiting(job) for job_id, job in part.items()} if name == "jobs" else part


def _as_waiting(job: Seen) -> Seen:
    kind, _, rest = job.place.partition(":")
    place = f"waits:{re.split('[:,]', rest)[0]}" if kind in ("ready", "lane") else job.place
    return job._replace(place=place, priority=None)
