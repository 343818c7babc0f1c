"""Clients, workers and a housekeeper on one namespace of a real server, and the model beside them: every answer is compared."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from angelrt import Retention, scripts
from angelrt.config import BLOB_MIN_BYTES, Keep
from angelrt.job import write_record
from angelrt.keys import Keys
from angelrt.new_jobs import NewJob
from angelrt.store import Lease, Store, Verdict
from angelrt.views import read_lease, read_outcome
from tests.properties import observed, steps
from tests.properties.explained import Copy
from tests.properties.guard import Guard
from tests.properties.lossy import Listener, LossyLink
from tests.properties.model_lives import Lives
from tests.properties.model_parts import Keep as Kept
from tests.properties.steps import LEASE_MS, QUEUES
from tests.state import problems, read_state

if sys.platform == "win32":
    new_loop = None
else:
    from uvloop import new_event_loop as new_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from angelrt.store import Delivery
    from tests.properties.model_parts import Claimed
    from tests.properties.steps import Fate, JobDraft, VerdictDraft

T = TypeVar("T")

START_MS = 1_763_000_000_000.0
SHORTLY = Retention(completed=Keep(1_000, number=1), failed=Keep(61), cancelled=Keep(64))  # by number, by age, and by age
LONG = b'"' + b"x" * BLOB_MIN_BYTES + b'"'
SHORT = b'"x"'


class Grant(NamedTuple):
    """A lease that was given out, valid or not by now."""

    worker: str
    lease: Lease
    label: str


class Asked(NamedTuple):
    """The last claim of a worker, as long as it may be that its answer was lost."""

    token: str
    queues: tuple[str, ...]
    capacity: int
    free: int
    known: frozenset[str]


class Fleet:
    """What the steps of `steps.py` do. The clock of the namespace is the test's."""

    retention = SHORTLY
    make_model: type[Lives] = Lives
    make_link: type[LossyLink] = LossyLink

    def __init__(self, url: str) -> None:
        """Take a namespace."""
        self.runner = asyncio.Runner(loop_factory=new_loop)
        self.store = Store(url, Keys(f"test-{secrets.token_hex(8)}"), retention=self.retention)
        self.store.link = self.link = self.make_link(url)
        self.clock_ms = START_MS
        self.store.clock = lambda: self.clock_ms
        self.store.long_way_s = 0
        self.theme = "all"
        keeps = {name: Kept(keep.age_ms, keep.number) for name in observed.OUTCOMES for keep in [getattr(self.retention, name)]}
        self.model = self.make_model(self.clock_ms, keeps=keeps)
        self.guard = Guard()
        self.listener = Listener(url, self.store.keys.inbox("").removesuffix("ended:"))
        self.copy = Copy(self.link, url, self.store.keys, QUEUES)
        self.sent: list[NewJob] = []
        self.grants: list[Grant] = []
        self.asked: dict[str, Asked] = {}
        self.looked_ms: dict[str, float] = {}
        self.batches: list[tuple[str, list[Verdict]]] = []
        self.settled: set[Lease] = set()
        self.tokens = 0
        # A script that the server does not know yet takes two calls, and the link would lose the first.
        self.run(self.store.commands(*[["SCRIPT", "LOAD", script.source] for script in scripts.SCRIPTS.values()]))
        for rule, spec in steps.DECLARED.items():
            self._control("declare", rule, spec, "")

    def close(self) -> None:
        """Remove every key, and close the connections."""
        try:
            self.run(self.store.command("UNLINK", *self.store.keys.every(QUEUES), *self.copy.every()))
        finally:
            self.listener.close()
            self.run(self.store.close())
            self.runner.close()

    def check(self) -> None:
        """Check the invariant, and that the server holds what the model says."""
        state = self.run(read_state(self.store, *QUEUES))
        assert problems(state) == []
        assert sorted(self.listener.news()) == sorted(self.model.news)
        self.model.news.clear()
        assert self.guard.breaches(state, self.clock_ms) == []
        seen, expected = observed.seen(state, self.model), observed.expected(self.model)
        for name in observed.Partition._fields:
            assert getattr(seen, name) == getattr(expected, name), name

    # -- clients -------------------------------------------------------------------------------------------------------------------

    def enqueue(self, drafts: list[JobDraft], twice: str, fate: Fate) -> None:
        """Send new jobs, perhaps one of them twice in the same call: with the very record, or with another."""
        jobs = [self._new_job(draft) for draft in drafts]
        if twice:
            jobs.append(jobs[0] if twice == "same" else self._new_job(drafts[0])._replace(id=jobs[0].id))
        self._enqueue(jobs, fate)

    def enqueue_again(self, some: list[tuple[int, bool, JobDraft]], fate: Fate) -> None:
        """Send ids that were sent before: with the very record, as after a lost reply, or with another."""
        jobs: list[NewJob] = []
        for pick, same, draft in some:
            before = self.sent[pick % len(self.sent)]
            jobs.append(before if same else self._new_job(draft)._replace(id=before.id))
        self._enqueue(jobs, fate)

    def watch(self, client: str, chosen: list[int], fate: Fate) -> None:
        """Ask how jobs ended, one that never was among them."""
        ids = [*{self.sent[pick % len(self.sent)].id: None for pick in chosen}, "nobody"]
        answers = self._real(fate, self.store.watch(client, ids))
        expected = self._model(fate, lambda: self.model.watch(client, ids))
        assert [code for code, _ in answers] == [code for code, _ in expected]
        payloads = [read_outcome(result)[1] if result else None for _, result in answers]
        assert payloads == [outcome.payload if outcome else None for _, outcome in expected]

    def inspect(self) -> None:
        """Ask where all jobs are, and one that never was."""
        found = [(self._place_of(job.state), job.queue, job.score) for job in self.run(self.store.inspect([*self.model.jobs, "nobody"]))]
        jobs = self.model.jobs.values()
        expected = [(job.place, "" if job.place in observed.OUTCOMES else job.queue, job.score) for job in jobs]
        assert found == [*expected, ("", "", 0)]

    def _place_of(self, state: str) -> str:
        return state

    def explain(self, actors: str) -> None:
        """Ask of all jobs what they wait for, and compare with what the next claim would do."""
        assert self.run(self.copy.breaches(self.clock_ms, actors)) == []

    # -- workers -------------------------------------------------------------------------------------------------------------------

    def beat(self, worker: str, processed: int, actors: str, fate: Fate) -> None:
        """Beat, or come with actors that may have been missing."""
        info = orjson.dumps({"queues": QUEUES, "actors": [*actors], "processed": processed})
        assert self._real(fate, self.store.beat(worker, info, QUEUES, actors)) == self.clock_ms
        self._model(fate, lambda: self.model.beat(worker, info, QUEUES, actors))

    def claim(
        self, worker: str, queues: tuple[str, ...], capacity: int, free: int, known: str, *, block: bool, fate: Fate, pause_ms: float
    ) -> None:
        """Claim, with the marker where there is one; time may pass before a lost call is sent again."""
        self.tokens += 1
        self.asked[worker] = Asked(f"t{self.tokens}", queues, capacity, min(free, capacity), frozenset(known))
        self._claim(worker, fate, block=block, pause_ms=pause_ms)

    def claim_again(self, pick: int) -> None:
        """Send the last claim of a worker again, whatever happened meanwhile: it never learnt what the first one brought."""
        if self.asked:
            self._claim(sorted(self.asked)[pick % len(self.asked)], "request lost", block=False, pause_ms=0)

    def settle(self, pick: int, drafts: list[tuple[int, VerdictDraft]], children: list[JobDraft], fate: Fate) -> None:
        """Settle valid leases of one worker."""
        self._settle_some([grant for grant in self._unsettled() if self._is_valid(grant)], pick, drafts, children, fate)

    def settle_late(self, pick: int, drafts: list[tuple[int, VerdictDraft]], children: list[JobDraft], fate: Fate) -> None:
        """Settle leases that their worker has lost."""
        self._settle_some([grant for grant in self._unsettled() if not self._is_valid(grant)], pick, drafts, children, fate)

    def settle_again(self, pick: int) -> None:
        """Send a batch of verdicts again, whatever happened since it was carried out and its reply lost."""
        if self.batches:
            self._settle(*self.batches[-1 - pick % min(len(self.batches), 3)], "")

    def cancel(self, chosen: list[int], fate: Fate, *, running: bool) -> None:
        """Cancel jobs, some that run or wherever they are, one that never was among them."""
        known = [job_id for job_id, job in self.model.jobs.items() if job.token] if running else [job.id for job in self.sent]
        ids = [*{known[pick % len(known)]: None for pick in chosen if known}, "nobody"]
        expected = self._model(fate, lambda: self.model.cancel(ids, "me"))
        assert self._real(fate, self.store.cancel(ids, "me")) == expected

    def control(self, change: tuple[str, str], pick: int, fate: Fate) -> None:
        """Pause, resume, or change a limit to one that its rule may have."""
        verb, what = change
        specs = steps.SPECS.get(what.partition("@")[0], ("{}",))
        self._control(verb, what, specs[pick % len(specs)] if verb != "resume" else "", fate)

    def renew(self, chosen: list[int], fate: Fate) -> None:
        """Renew leases, the latest more often than old ones, lost ones among them."""
        if self.grants:
            leases = list({self.grants[-1 - pick % min(len(self.grants), 8)].lease: None for pick in chosen})
            expected = self._model(fate, lambda: self.model.renew(leases, LEASE_MS))
            assert self._real(fate, self.store.renew(leases, LEASE_MS)) == expected

    # -- time and housekeeping -----------------------------------------------------------------------------------------------------

    def pass_time(self, pause_ms: float | str, then: str, queues: tuple[str, ...], fate: Fate) -> None:
        """Let time pass, or go to the very moment at which something is due or next to it; then tick, or forget what is too old."""
        if isinstance(pause_ms, str):
            next_ms = self.model.next_open_ms(QUEUES) if pause_ms == "until a gate opens" else self.model.next_due_ms(QUEUES)
            due_ms = next_ms - 0.125 * (pause_ms == "until just before")
            pause_ms = max(due_ms - self.clock_ms, 0)
        self._pass(pause_ms)
        if then == "tick":
            expected = self._model(fate, lambda: self.model.tick(queues))
            now_ms, due_ms = self._real(fate, self.store.tick(queues))
            assert now_ms == self.clock_ms
            self._check_due(due_ms, expected)
        elif then == "forget":
            self._settle("w1", [], fate)

    def _check_due(self, due_ms: float, expected_ms: float) -> None:
        assert due_ms == expected_ms

    def expire_worker(self, worker: str, since: str, *, died: bool, fate: Fate) -> None:
        """Take back what a worker holds: because it died or says goodbye, and perhaps only if it has not beaten since."""
        beat_ms = None if since == "anything" else self.model.beats.get(worker, 1.0) + (since == "another beat")
        expected = self._model(fate, lambda: self.model.expire_worker(worker, died=died, beat_ms=beat_ms))
        assert self._real(fate, self.store.expire_worker(worker, QUEUES, died=died, beat_ms=beat_ms)) == expected

    # -- how steps are carried out -------------------------------------------------------------------------------------------------

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns."""
        return self.runner.get_loop().run_until_complete(call)  # Runner.run prepares for Ctrl-C each time, which takes longer than the call

    def _real(self, fate: Fate, call: Coroutine[Any, Any, T]) -> T:
        self.link.fate = fate
        return self.run(call)

    def _model(self, fate: Fate, call: Callable[[], T]) -> T:
        """Carry out once, or twice where the first reply is lost."""
        answer = call()
        return call() if fate == "reply lost" else answer

    def _pass(self, pause_ms: float) -> None:
        self.clock_ms += pause_ms
        self.model.now_ms = self.clock_ms

    def _new_job(self, draft: JobDraft) -> NewJob:
        when = {"at past": f"{self.clock_ms - 1:.0f}", "at soon": f"{self.clock_ms + 3000:.0f}"}.get(draft.when, draft.when)
        number = len(self.sent)
        record = write_record(draft.actor, f"{number % 10_000:04}", {}, b"" if draft.is_long else SHORT)
        job = NewJob(draft.queue, f"{draft.letter}{number}", record, draft.priority, when, LONG if draft.is_long else None)
        job = job._replace(flow=steps.flow_of(steps.kind_of(self.theme, draft.flow, number), draft.queue, self.clock_ms))
        self.sent.append(job)
        return job

    def _control(self, verb: str, what: str, value: str, fate: Fate) -> None:
        self._model(fate, lambda: self.model.control(verb, what, value))
        self._real(fate, self.store.control(verb, what, value, sorted(self.model.queues)))

    def _enqueue(self, jobs: list[NewJob], fate: Fate) -> None:
        expected = self._model(fate, lambda: self.model.enqueue(jobs))
        assert decoded(self._real(fate, self.store.enqueue(jobs))) == expected

    def _claim(self, worker: str, fate: Fate, *, block: bool, pause_ms: float) -> None:
        asked = self.asked[worker]
        marked = next((queue for queue in asked.queues if queue in self.model.wakes), None)
        block = block and marked is not None  # without a marker the server would let us wait
        if block and marked and fate != "request lost":
            self.model.wakes.remove(marked)
        options: dict[str, Any] = {"queues": asked.queues, "lease_ms": LEASE_MS, "capacity": asked.capacity, "free": asked.free}
        options["looked_ms"] = self.looked_ms.get(worker, 0)
        actors = "\0".join(("", *sorted(asked.known), "")).encode()
        self.guard.is_one_claim = fate != "reply lost"

        def claim_in_model(*, resend: bool) -> Claimed:
            return self.model.claim(worker, asked.token, known=asked.known, resend=resend, **options)

        expected = None if fate == "request lost" else claim_in_model(resend=False)
        self.link.on_loss = lambda: self._pass(pause_ms)
        self.link.on_new_wait = lambda: self._wait_anew(asked.queues)
        claimed = self._real(fate, self.store.claim(self.link, worker, asked.token, actors=actors, block=block, **options))
        self.link.on_loss = lambda: None
        if fate or expected is None:
            expected = claim_in_model(resend=True)
        self.looked_ms[worker] = claimed.now_ms
        assert [delivery.id.decode() for delivery in claimed.deliveries] == expected.ids
        assert claimed[:4] == (self.clock_ms, expected.next_due_ms, expected.again, expected.missing)
        for delivery in claimed.deliveries:
            self._check_delivery(worker, asked.token, delivery)

    def _wait_anew(self, queues: Sequence[str]) -> None:
        """A short way that declines after a wait puts a marker into each queue, and the long one takes the first of them."""
        self.model.wakes |= set(queues[1:])

    def _check_delivery(self, worker: str, token: str, delivery: Delivery) -> None:
        job = self.model.jobs[delivery.id.decode()]
        assert (delivery.record, delivery.queue, int(delivery.rank)) == (job.record, job.queue, self.model.strict_rank(job))
        told, attempts, flow, history = read_lease(delivery.lease)
        assert (told, attempts, flow, observed.ended_runs(history)) == (token, job.attempts, job.flow, job.history)
        grant = Grant(worker, Lease(job.queue, delivery.id.decode(), token), f"{job.queue}|{job.actor}")
        if grant not in self.grants:
            self.grants.append(grant)

    def _unsettled(self) -> list[Grant]:
        return [grant for grant in self.grants if grant.lease not in self.settled]

    def _is_valid(self, grant: Grant) -> bool:
        job = self.model.jobs.get(grant.lease.id)
        return job is not None and job.token == grant.lease.token

    def _settle_some(
        self, grants: list[Grant], pick: int, drafts: list[tuple[int, VerdictDraft]], children: list[JobDraft], fate: Fate
    ) -> None:
        """Settle some of these leases, of the worker of one of them; the first verdict that may have children has all of them."""
        if not grants:
            return
        worker = grants[pick % len(grants)].worker
        candidates = [grant for grant in grants if grant.worker == worker]
        verdicts: list[Verdict] = []
        for number, draft in drafts[: len(candidates)]:
            grant = candidates.pop(number % len(candidates))
            self.settled.add(grant.lease)
            if worker in self.asked and self.asked[worker].token == grant.lease.token:
                del self.asked[worker]  # it uses the token, so it has had the answer to its claim
            if draft.has_note:
                verdicts.append(Verdict(*grant.lease, "n", 0, b"%d" % number, ""))
            payload = (LONG if draft.is_long else SHORT) if draft.code in "cfgrd" else b""
            of_this = tuple(map(self._new_job, children)) if draft.code == "c" else ()
            children = [] if of_this else children
            counters = f"{grant.label}\0p3\0r7" if draft.has_begun and draft.code not in "gw" else grant.label
            if draft.code == "w":
                payload = self._other_gates(grant.lease).encode()
            verdicts.append(Verdict(*grant.lease, draft.code, draft.delay_ms, payload, counters, of_this, draft.gates))
        self.batches.append((worker, verdicts))
        self._settle(worker, verdicts, fate)

    def _other_gates(self, lease: Lease) -> str:
        """Return the flow of a job with the gates that the code of its worker declares."""
        job = self.model.jobs.get(lease.id)
        kept = [item for item in (job.flow if job else "-").split(",") if item[0] not in "cr-"]
        return ",".join([steps.flow_of("cw,rw", lease.queue, self.clock_ms), *kept])

    def _settle(self, worker: str, verdicts: list[Verdict], fate: Fate) -> None:
        self.guard.settle(verdicts)
        expected = self._model(fate, lambda: self.model.settle(worker, verdicts))
        assert self._real(fate, self.store.settle(worker, verdicts)) == expected


def decoded(codes: Sequence[int | bytes]) -> list[int | str]:
    """Return codes as the model has them."""
    return [code.decode() if isinstance(code, bytes) else code for code in codes]
