"""Limits as people declare them, kept by real workers: at most so many at a time, at most so many in a window, whoever sends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Actors, Concurrency, ConfigError, InvalidOptions, JobFailed, Queue, RateLimit, Retry, RetryPolicy, Status
from tests.worker.waiting import until, until_ended, until_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt import Job, Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
LONG_S = 3600
AT_ONCE = RetryPolicy(attempts=3, base=0)


class Gauge:
    """How many are inside at the same time, by key."""

    def __init__(self) -> None:
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go_on = asyncio.Event()

    async def enter(self, key: str = "") -> None:
        """Be inside for a few turns of the loop."""
        self.begin(key)
        for _ in range(5):
            await asyncio.sleep(0)
        self.inside[key] -= 1

    async def stay(self, key: str = "") -> None:
        """Be inside until the test lets go."""
        self.begin(key)
        await self.go_on.wait()
        self.inside[key] -= 1

    def begin(self, key: str) -> None:
        """Count one in."""
        self.inside[key] += 1
        self.most[key] = max(self.most[key], self.inside[key])


@pytest.fixture
async def two(new_runtime: NewRuntime) -> AsyncIterator[tuple[Runtime[Any], Runtime[Any]]]:
    """Two open runtimes on one namespace, as two processes have them."""
    async with new_runtime() as one, new_runtime() as other:
        yield one, other


async def all_end(jobs: list[Job[Any]], *results: Any) -> None:
    """Check how jobs end."""
    assert await asyncio.gather(*(job.result(RESULT_S) for job in jobs)) == list(results or [None] * len(jobs))


async def wait_in_lanes(jobs: list[Job[Any]]) -> None:
    """Return when all of these stand in a lane."""
    for job in jobs:
        await until_info(job, lambda info: info.state == "lane", f"job {job.id} waits in a lane")


# -- concurrency ----------------------------------------------------------------------------------------------------------------------


async def test_at_most_so_many_at_a_time_over_all_workers(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    gauge, group = Gauge(), Actors()

    @group.actor(limits=[Concurrency(3)])
    async def call() -> None:
        await gauge.enter()

    async with AsyncExitStack() as stack:
        for rt in two:
            rt.include(group)
            await stack.enter_async_context(rt.worker(concurrency=10))
        await all_end(await two[0].send_many([call.message() for _ in range(200)]))
    assert gauge.most[""] <= 3


async def test_each_key_has_its_own_places(rt: Runtime[Any]) -> None:
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1, per="customer")])
    async def call(customer: str = "nobody") -> None:
        await gauge.stay(customer)

    async with rt.worker(concurrency=10):
        jobs = await rt.send_many([call.message(customer) for customer in ("ann", "bob", "ann", "bob", "nobody")])
        jobs.append(await call.send())
        await until(lambda: +gauge.inside == {"ann": 1, "bob": 1, "nobody": 1}, "one of each runs")
        gauge.go_on.set()
        await all_end(jobs)
    assert gauge.most == {"ann": 1, "bob": 1, "nobody": 1}


async def test_two_limits_of_one_actor_hold_together(rt: Runtime[Any]) -> None:
    by_host, by_customer = Gauge(), Gauge()

    @rt.actor(limits=[Concurrency(2, per="host"), Concurrency(1, per="customer")])
    async def call(host: str, customer: int) -> None:
        by_host.begin(host)
        await by_customer.enter(str(customer))
        by_host.inside[host] -= 1

    async with rt.worker(concurrency=20):
        await all_end(await rt.send_many([call.message(f"h{n % 2}", n % 3) for n in range(120)]))
    assert max(by_host.most.values()) <= 2
    assert max(by_customer.most.values()) == 1


async def test_actors_of_one_queue_share_a_limit_that_has_a_name(rt: Runtime[Any]) -> None:
    gauge, shared = Gauge(), [Concurrency(2, name="api")]

    @rt.actor(limits=shared)
    async def read() -> None:
        await gauge.enter()

    @rt.actor(limits=shared)
    async def write() -> None:
        await gauge.enter()

    async with rt.worker(concurrency=10):
        await all_end(await rt.send_many([actor.message() for _ in range(40) for actor in (read, write)]))
    assert gauge.most[""] == 2


async def test_the_limit_of_a_queue_counts_all_its_jobs(new_runtime: NewRuntime) -> None:
    gauge = Gauge()
    async with new_runtime(queues=[Queue("default", limits=[Concurrency(2)])]) as rt:

        @rt.actor()
        async def read() -> None:
            await gauge.enter()

        @rt.actor(limits=[Concurrency(5)])
        async def write() -> None:
            await gauge.enter()

        async with rt.worker(concurrency=10):
            await all_end(await rt.send_many([actor.message() for _ in range(40) for actor in (read, write)]))
    assert gauge.most[""] == 2


async def test_what_waits_at_a_gate_holds_up_nobody_else(rt: Runtime[Any]) -> None:
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1)])
    async def slow() -> None:
        await gauge.stay()

    @rt.actor()
    async def quick() -> int:
        return 1

    async with rt.worker(concurrency=2):
        jobs = await rt.send_many([slow.message() for _ in range(50)])
        await until(lambda: gauge.inside[""] == 1, "one runs")
        assert await (await quick.send()).result(RESULT_S) == 1
        gauge.go_on.set()
        await all_end(jobs)


@pytest.mark.parametrize("end", ["raises", "is cancelled", "runs too long"])
async def test_a_place_is_free_again_however_its_run_ends(rt: Runtime[Any], end: str) -> None:
    begun: list[int] = []

    @rt.actor(limits=[Concurrency(1)], retry=RetryPolicy(attempts=1), timeout=0.05 if end == "runs too long" else 60)
    async def call(number: int) -> int:
        begun.append(number)
        if number == 2:
            return number
        if end == "raises":
            raise ValueError
        await asyncio.sleep(LONG_S)
        return number

    async with rt.worker():
        first, second = await rt.send_many([call.message(1), call.message(2)])
        if end == "is cancelled":
            await until(lambda: begun == [1], "the first runs")
            await first.cancel()
        assert await second.result(RESULT_S) == 2


async def test_a_worker_that_leaves_in_the_middle_frees_its_places(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    group, begun = Actors(), list[str]()

    @group.actor(limits=[Concurrency(1)])
    async def call() -> int:
        begun.append("run")
        if len(begun) == 1:
            await asyncio.sleep(LONG_S)
        return len(begun)

    for rt in two:
        rt.include(group)
    async with AsyncExitStack() as leaving:
        await leaving.enter_async_context(two[0].worker(grace=0))
        first, second = await call.send(), await call.send()
        await until(lambda: begun == ["run"], "one runs")
        async with two[1].worker():
            await leaving.aclose()
            assert [await first.result(RESULT_S), await second.result(RESULT_S)] == [2, 3]


async def test_short_jobs_with_gates_are_not_claimed_ahead_of_a_slot(rt: Runtime[Any]) -> None:
    ahead: list[int] = []

    @rt.actor(limits=[Concurrency(100)])
    async def short() -> None:
        ahead.append(len(worker.running.queued) - worker.running.free)
        await asyncio.sleep(0)

    jobs = await rt.send_many([short.message() for _ in range(300)])
    async with rt.worker(concurrency=5) as worker:
        worker.running._pace_per_s = 1e9  # noqa: SLF001 - as if it had just ended many short jobs
        await all_end(jobs)
    assert max(ahead) <= 0


# -- rates ----------------------------------------------------------------------------------------------------------------------------


async def test_so_many_of_a_window_begin_and_the_others_wait(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    group = Actors()

    @group.actor(limits=[RateLimit("5/hour", per="account")])
    async def call(account: int) -> int:
        return account

    async with AsyncExitStack() as stack:
        for rt in two:
            rt.include(group)
            await stack.enter_async_context(rt.worker(concurrency=10))
        jobs = await two[0].send_many([call.message(number % 2) for number in range(20)])
        await wait_in_lanes(jobs[10:])
        await all_end(jobs[:10], *([0, 1] * 5))
        states = Counter(info.state for info in await two[0].client().infos([job.id for job in jobs]))
    assert states == {"completed": 10, "lane": 10}


async def test_the_next_one_begins_when_a_window_has_passed(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[RateLimit("1/s")])
    async def call() -> None: ...

    async with rt.worker():
        jobs = await rt.send_many([call.message() for _ in range(3)])
        await all_end(jobs)
        begun = sorted(info.processed_at for info in await rt.client().infos([job.id for job in jobs]) if info.processed_at)
    assert (begun[2] - begun[0]).total_seconds() >= 2, "never two within a window, by the server's clock"


async def test_a_reservation_is_corrected_by_what_was_used(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[RateLimit("1000/hour", cost="tokens")])
    async def ask(tokens: int, used: int) -> int:
        rt.context.used(used)
        return min(tokens, used)

    async with rt.worker():
        assert await (await ask.send(1_000, 740)).result(RESULT_S) == 740
        assert await (await ask.send(260, 260)).result(RESULT_S) == 260
        third = await ask.send(1, 1)
        await wait_in_lanes([third])


@pytest.mark.parametrize("error", [ValueError("broken"), Retry(after=0)], ids=["error", "retry"])
async def test_a_reservation_is_corrected_when_the_run_fails(rt: Runtime[Any], error: Exception) -> None:
    """Three runs of which each reserves the whole limit and uses little: only corrected they fit into one window."""
    runs: list[int] = []

    @rt.actor(limits=[RateLimit("1000/hour", cost=1_000)], retry=AT_ONCE)
    async def ask() -> int:
        runs.append(rt.context.attempt)
        rt.context.used(0)
        if len(runs) < 3:
            raise error
        return 3

    async with rt.worker():
        assert await (await ask.send()).result(RESULT_S) == 3


async def test_used_and_holding_the_gate_go_together(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[RateLimit("1000/hour", cost=1_000)], retry=AT_ONCE)
    async def ask() -> int:
        rt.context.used(0)
        if rt.context.attempt == 1:
            raise Retry(after=0.05, gate=True)
        return rt.context.attempt

    async with rt.worker():
        assert await (await ask.send()).result(RESULT_S) == 2


async def test_the_cost_of_one_send_takes_the_place_of_the_declared_one(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[RateLimit("10/hour", cost=10)])
    async def ask() -> None: ...

    async with rt.worker():
        await all_end([await ask.options(cost=4).send(), await ask.options(cost=6).send()])
        await wait_in_lanes([await ask.options(cost=1).send()])


async def test_a_retry_that_holds_the_gate_holds_all_jobs_of_the_key_as_long(rt: Runtime[Any]) -> None:
    begun: list[tuple[str, int, float]] = []

    @rt.actor(limits=[RateLimit("1000/s", per="account"), Concurrency(1, per="account")])
    async def call(account: str, number: int) -> None:
        begun.append((account, number, time.monotonic()))
        if account == "busy" and len([one for one in begun if one[0] == "busy"]) == 1:
            raise Retry(after=0.5, gate=True)

    async with rt.worker():
        jobs = await rt.send_many([call.message("busy", number) for number in range(4)])
        jobs += await rt.send_many([call.message("idle", number) for number in range(4)])
        await all_end(jobs)
    first, *others = [at for account, _, at in begun if account == "busy"]
    assert len(others) == 4
    assert min(others) - first >= 0.5
    assert max(at for account, _, at in begun if account == "idle") < min(others), "nobody else is held back"


async def test_what_is_told_in_a_process_reaches_the_gate(new_runtime: NewRuntime) -> None:
    from tests.worker import limited  # noqa: PLC0415 - imported where it is used, as the process does

    async with new_runtime() as rt:
        rt.include(limited.group)
        async with rt.worker():
            for _ in range(2):
                assert await (await rt.send("reserve", {"used": 0})).result(RESULT_S) == 0
            await (await rt.send("reserve", {"used": 1})).result(RESULT_S)
            await wait_in_lanes([await rt.send("reserve", {"used": 0})])


# -- who sends without knowing --------------------------------------------------------------------------------------------------------


async def test_jobs_that_are_sent_by_name_get_their_gates_from_the_worker(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    rt, stranger = two
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1, per="customer")])
    async def call(customer: str = "nobody") -> str:
        await gauge.enter(customer)
        return customer

    async with rt.worker(concurrency=10):
        jobs = [await stranger.send(call.name, {"customer": f"c{n % 2}"} if n % 3 else {}) for n in range(60)]
        await all_end(jobs, *(f"c{n % 2}" if n % 3 else "nobody" for n in range(60)))
        infos = await stranger.client().infos([job.id for job in jobs])
    assert set(gauge.most.values()) == {1}
    assert {info.attempts for info in infos} == {1}, "being told of its gates is no attempt"


async def test_a_job_that_is_sent_by_name_expires_all_the_same(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    rt, stranger = two
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1)])
    async def call() -> None:
        await gauge.stay()

    async with rt.worker(concurrency=10):
        first = await call.send()
        await until(lambda: gauge.inside[""] == 1, "one runs")
        second = await stranger.send(call.name, expires=0.3)
        assert (await until_ended(second)).status is Status.CANCELLED
        gauge.go_on.set()
        await first.result(RESULT_S)


@pytest.mark.parametrize(
    "arguments", [{"customer": "x" * 10_240}, {"customer": "a\0b"}, {"tokens": 11}, {"tokens": 0}], ids=["10 kB", "NUL", "dear", "free"]
)
async def test_a_job_sent_by_name_that_could_have_no_gate_fails_and_does_not_run(
    two: tuple[Runtime[Any], Runtime[Any]], arguments: dict[str, Any]
) -> None:
    rt, stranger = two
    ran: list[str] = []

    @rt.actor(limits=[Concurrency(1, per="customer"), RateLimit("10/s", cost="tokens")])
    async def call(customer: str = "nobody", tokens: int = 1) -> None:
        ran.append(f"{customer} {tokens}")

    async with rt.worker():
        job = await stranger.send(call.name, arguments)
        with pytest.raises(JobFailed) as caught:
            await job.result(RESULT_S)
    assert ran == []
    assert caught.value.error_type.rpartition(".")[2] in ("InvalidArguments", "InvalidOptions")
    assert caught.value.attempts <= 1


async def test_a_job_sent_by_name_to_another_queue_does_not_evade_the_limit(two: tuple[Runtime[Any], Runtime[Any]]) -> None:
    rt, stranger = two
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1)])
    async def call() -> None:
        await gauge.enter()

    async with rt.worker(concurrency=10, queues=["default", "other"]):
        jobs = [await stranger.send(call.name, queue=("default", "other")[number % 2]) for number in range(40)]
        for job in jobs:
            await until_ended(job)
    assert gauge.most[""] == 1


# -- told otherwise while it runs -----------------------------------------------------------------------------------------------------


async def test_a_limit_is_changed_for_the_whole_fleet_and_taken_back(rt: Runtime[Any]) -> None:
    gauge = Gauge()

    @rt.actor(limits=[Concurrency(1)], name="call")
    async def call() -> None:
        await gauge.stay()

    async with rt.worker(concurrency=10):
        jobs = await rt.send_many([call.message() for _ in range(6)])
        await until(lambda: gauge.inside[""] == 1, "one runs")
        assert [(rule.name, rule.limit, rule.declared) for rule in await rt.control.limits()] == [("call@default", "1 at a time", None)]
        await rt.control.set_limit("call@default", 3)
        await until(lambda: gauge.inside[""] == 3, "three run")
        [rule] = await rt.control.limits()
        assert (rule.limit, rule.declared) == ("3 at a time", "1 at a time")
        await wait_in_lanes(jobs[3:])
        await rt.control.set_limit("call@default", None)
        [rule] = await rt.control.limits()
        assert (rule.limit, rule.declared) == ("1 at a time", None)
        gauge.go_on.set()
        await all_end(jobs)
    assert gauge.most[""] == 3


async def test_a_raised_rate_lets_through_what_waits_at_once(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[RateLimit("2/day")], name="call")
    async def call() -> None: ...

    async with rt.worker():
        jobs = await rt.send_many([call.message() for _ in range(6)])
        await wait_in_lanes(jobs[2:])
        await rt.control.set_limit("call/86400s@default", "5/day")
        await all_end(jobs[:5])
        await wait_in_lanes(jobs[5:])


@pytest.mark.parametrize(
    ("rule", "limit", "words"),
    [
        ("nobody@default", 3, "no limit is named 'nobody@default': call/60s@default, call@default"),
        ("call@default", 0, "is a whole number from 1"),
        ("call@default", True, "is a whole number from 1"),
        ("call@default", "3/s", "its limit is a number"),
        ("call/60s@default", 3, "write a number and a window"),
        ("call/60s@default", "0/minute", "is a whole number from 1"),
        ("call/60s@default", "3/hour", "a rate is changed within its window"),
    ],
)
async def test_a_limit_that_makes_no_sense_is_refused_and_nothing_is_changed(rt: Runtime[Any], rule: str, limit: Any, words: str) -> None:
    @rt.actor(limits=[Concurrency(1), RateLimit("5/minute")], name="call")
    async def call() -> None: ...

    async with rt.worker():
        before = await rt.control.limits()
        with pytest.raises(InvalidOptions) as caught:
            await rt.control.set_limit(rule, limit)
        assert words in str(caught.value)
        assert await rt.control.limits() == before


async def test_two_actors_that_differ_on_a_limit_of_one_name_are_told_at_the_start(rt: Runtime[Any]) -> None:
    @rt.actor(limits=[Concurrency(1, name="api")])
    async def read() -> None: ...

    @rt.actor(limits=[Concurrency(2, name="api")])
    async def write() -> None: ...

    with pytest.raises(ConfigError, match=r"two limits are named api@default and differ .* give one of them another name="):
        async with rt.worker():
            pass
