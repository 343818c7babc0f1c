"""What rules of alerts measure, on a real server with jobs that went well and badly; and what their declarations refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from angelrt import ConfigError, InvalidOptions, Runtime
from angelrt.alerts import AlertRule, BacklogAge, FailureRate, LogSink, NoWorker, PickupP99, QuotaUsed, Reading, check_rules
from angelrt.alerts_look import Look
from angelrt.stats import bucket
from tests.scripts.gated import KEYED, LATEST_MS, RATED, SLICE_MS, WINDOW_MS, declare, gate, held, rate, rated, set_limit
from tests.scripts.partition import job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.scripts.partition import Partition

MINUTE_MS = 60_000


@pytest.fixture
async def rt(server_url: str, namespace: str, part: Partition) -> AsyncIterator[Runtime[None]]:
    """An open runtime, by the clock of the partition."""
    async with Runtime(server_url, namespace=namespace) as runtime:
        runtime.client().store.clock = lambda: part.now_ms
        yield runtime


async def end(part: Partition, outcomes: str, *, queue: str = "q", pickup_ms: float = 1) -> None:
    """Let jobs end: c completed, f failed, k cancelled, for each letter."""
    names = [f"{queue}-{part.now_ms}-{n}" for n in range(len(outcomes))]
    await part.send(*(job(name, queue=queue) for name in names))
    await part.claim(under="t1", queues=(queue,))
    words = (f"p{bucket(pickup_ms)}", "r7")
    payload = orjson.dumps({"type": "ValueError", "message": "no"})
    await part.settle(*(verdict(name, code, payload, queue=queue, words=words) for name, code in zip(names, outcomes, strict=True)))


async def beat(part: Partition, worker: str, *queues: str) -> None:
    """Let a worker of these queues beat."""
    info: dict[str, Any] = {"type": "worker", "queues": queues, "actors": ["a"], "concurrency": 1, "running": 0, "processed": 0}
    info |= {"busy_ms": 0, "host": "here", "pid": 1, "blocked_by": None, "blocked_s": None, "longest_block_by": None}
    await part.store.beat(worker, orjson.dumps(info | {"longest_block_s": None}), queues, ["a"])


async def read(rt: Runtime[None], rule: AlertRule) -> Reading:
    """Measure once."""
    return await rule.measure(Look(rt))


# -- failure rate ---------------------------------------------------------------------------------------------------------------------


async def test_the_failure_rate_is_of_the_jobs_that_ended_by_their_own_verdict(rt: Runtime[None], part: Partition) -> None:
    await end(part, "ccckf")
    assert await read(rt, FailureRate(0.25, at_least=4)) == Reading(0.25, is_over=False)
    assert await read(rt, FailureRate(0.24, at_least=4)) == Reading(0.25, is_over=True)


async def test_the_failure_rate_of_too_few_jobs_is_shown_and_not_over(rt: Runtime[None], part: Partition) -> None:
    assert await read(rt, FailureRate()) == Reading(None, is_over=False)
    await end(part, "ffc")
    assert await read(rt, FailureRate(0.5, at_least=4)) == Reading(2 / 3, is_over=False)
    assert await read(rt, FailureRate(0.5, at_least=3)) == Reading(2 / 3, is_over=True)


async def test_the_failure_rate_looks_at_its_minutes_queue_and_actor_alone(rt: Runtime[None], part: Partition) -> None:
    await end(part, "f", queue="p")
    part.now_ms += 2 * MINUTE_MS
    await end(part, "c")
    assert (await read(rt, FailureRate(at_least=1, minutes=2))).value == 0
    assert (await read(rt, FailureRate(at_least=1, minutes=3))).value == 0.5
    assert (await read(rt, FailureRate(at_least=1, queue="p"))).value == 1
    assert (await read(rt, FailureRate(at_least=1, queue="q", actor="a"))).value == 0
    assert (await read(rt, FailureRate(at_least=1, actor="b"))).value is None


# -- backlog and pickup ---------------------------------------------------------------------------------------------------------------


async def test_the_backlog_is_as_old_as_its_oldest_ready_job(rt: Runtime[None], part: Partition) -> None:
    assert await read(rt, BacklogAge(60)) == Reading(0, is_over=False)
    await part.send("j1", job("j2", when="+5000"))
    part.now_ms += 60_000
    await part.send(job("j3", queue="p"))
    assert await read(rt, BacklogAge(60)) == Reading(60, is_over=False)
    part.now_ms += 1_000
    assert await read(rt, BacklogAge(60)) == Reading(61, is_over=True)
    assert await read(rt, BacklogAge(60, queue="p")) == Reading(1, is_over=False)
    assert await read(rt, BacklogAge(60, queue="unused")) == Reading(0, is_over=False)


async def test_the_pickup_is_of_all_minutes_together(rt: Runtime[None], part: Partition) -> None:
    assert await read(rt, PickupP99()) == Reading(None, is_over=False)
    await end(part, "c", pickup_ms=60_000)
    part.now_ms += MINUTE_MS
    await end(part, "c" * 99, pickup_ms=10)
    found = await read(rt, PickupP99(5_000))
    assert found == Reading(pytest.approx(10, rel=0.1), is_over=False), "one in a hundred is not among the ninety-nine"
    await end(part, "c", pickup_ms=60_000, queue="p")
    assert await read(rt, PickupP99(5_000)) == Reading(pytest.approx(60_000, rel=0.1), is_over=True)
    assert (await read(rt, PickupP99(5_000, minutes=1, queue="q"))).value == pytest.approx(10, rel=0.1)


# -- workers --------------------------------------------------------------------------------------------------------------------------


async def test_a_worker_counts_for_the_queues_that_it_serves_while_it_beats(rt: Runtime[None], part: Partition) -> None:
    assert await read(rt, NoWorker()) == Reading(0, is_over=True)
    await beat(part, "w1", "q")
    assert await read(rt, NoWorker()) == Reading(1, is_over=False)
    assert await read(rt, NoWorker(queue="q")) == Reading(1, is_over=False)
    assert await read(rt, NoWorker(queue="p")) == Reading(0, is_over=True)
    part.now_ms += 15_001
    assert await read(rt, NoWorker()) == Reading(0, is_over=True)


# -- quotas ---------------------------------------------------------------------------------------------------------------------------


async def test_a_rate_is_used_as_far_as_explain_says(rt: Runtime[None], part: Partition) -> None:
    await declare(part, RATED, rate(10))
    assert await read(rt, QuotaUsed(rule=RATED, key="ann")) == Reading(0, is_over=False)
    await part.send(job("j1", flow=rated("ann", cost=7)))
    await part.claim()
    part.now_ms += 1_000
    await part.send(job("j2", flow=rated("ann", cost=2)), job("j3", flow=rated("ann", cost=2)))
    await part.claim(under="t2")
    await beat(part, "w1", "q")
    told = (await rt.explain("j3")).reasons[0].data
    assert (told["gate"], told["taken"]) == (gate("ann", RATED), 9)
    assert await read(rt, QuotaUsed(0.9, rule=RATED, key="ann")) == Reading(0.9, is_over=False)
    assert await read(rt, QuotaUsed(0.89, rule=RATED, key="ann")) == Reading(0.9, is_over=True)
    assert (await read(rt, QuotaUsed(rule=RATED, key="bob"))).value == 0
    part.now_ms += LATEST_MS - 1_000
    assert (await read(rt, QuotaUsed(rule=RATED, key="ann"))).value == 0.2
    part.now_ms += 1_000
    assert (await read(rt, QuotaUsed(rule=RATED, key="ann"))).value == 0


async def test_a_token_counts_until_a_window_and_a_slice_after_the_end_of_its_slice(rt: Runtime[None], part: Partition) -> None:
    await declare(part, RATED, rate(10))
    await part.send(job("j1", flow=rated("ann", cost=7)), job("j2", flow=rated("ann", cost=4)))
    await part.claim()
    part.now_ms = (part.now_ms // SLICE_MS + 1) * SLICE_MS + WINDOW_MS + SLICE_MS - 1
    assert (await read(rt, QuotaUsed(rule=RATED, key="ann"))).value == 0.7
    assert (await part.claim(under="t2")).deliveries == []
    part.now_ms += 1
    assert (await read(rt, QuotaUsed(rule=RATED, key="ann"))).value == 0
    assert len((await part.claim(under="t3")).deliveries) == 1


async def test_places_to_run_are_used_by_those_who_hold_them(rt: Runtime[None], part: Partition) -> None:
    await declare(part, KEYED, 4)
    await part.send(*(job(f"j{n}", flow=held(7)) for n in range(3)), job("other", flow=held(8)))
    await part.claim()
    assert (await read(rt, QuotaUsed(rule=KEYED, key=7))).value == 0.75
    assert (await read(rt, QuotaUsed(rule=KEYED, key="8"))).value == 0.25
    await set_limit(part, KEYED, 3)
    assert await read(rt, QuotaUsed(0.9, rule=KEYED, key=7)) == Reading(1, is_over=True)


async def test_a_key_is_written_as_limits_write_it(rt: Runtime[None], part: Partition) -> None:
    await declare(part, KEYED, 2)
    await part.send(job("j1", flow=held("a%3Db%20c")))
    await part.claim()
    assert (await read(rt, QuotaUsed(rule=KEYED, key="a=b c"))).value == 0.5


async def test_a_limit_that_nobody_has_declared_is_not_known(rt: Runtime[None]) -> None:
    assert await read(rt, QuotaUsed(rule="gone@q")) == Reading(None, is_over=False, is_known=False)


# -- declarations ---------------------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[], AlertRule], str]] = {
    "share-of-100-percent": (lambda: FailureRate(1), "0.05 is 5%"),
    "percent": (lambda: FailureRate(5), "0.05 is 5%"),
    "share-as-text": (lambda: QuotaUsed("0.9", rule="a@q"), "use a share"),  # type: ignore[arg-type]
    "no-minutes": (lambda: FailureRate(minutes=0), "minutes=0"),
    "half-a-minute": (lambda: PickupP99(minutes=0.5), "whole number"),  # type: ignore[arg-type]
    "two-days": (lambda: PickupP99(minutes=2880), "1,440"),
    "of-no-jobs": (lambda: FailureRate(at_least=0), "at_least=0"),
    "no-age": (lambda: BacklogAge(0), "over_s=0"),
    "age-is-true": (lambda: BacklogAge(True), "over_s=True"),  # noqa: FBT003 - the mistake
    "not-a-number": (lambda: PickupP99(float("nan")), "over_ms=nan"),
    "two-days-alone": (lambda: NoWorker(172_800), "86,400"),
    "queue": (lambda: NoWorker(queue="a b"), "queue 'a b'"),
    "actor": (lambda: FailureRate(actor="a b"), "actor 'a b'"),
    "no-limit": (QuotaUsed, "angelrt limits"),
    "half-a-limit": (lambda: QuotaUsed(rule="send@"), "angelrt limits"),
    "key": (lambda: QuotaUsed(rule="a@q", key=1.5), "key=1.5"),  # type: ignore[arg-type]
    "name": (lambda: NoWorker(name="two\nlines"), "printable"),
    "long-name": (lambda: NoWorker(name="n" * 201), "200"),
    "one-sink": (lambda: NoWorker(sinks=LogSink()), r"sinks=\): give a list"),  # type: ignore[arg-type]
    "no-sink": (lambda: NoWorker(sinks=["https://example.com"]), r"sinks=\): give a list"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_could_never_work_is_refused_where_it_is_declared(name: str) -> None:
    declare_it, told = WRONG[name]
    with pytest.raises(InvalidOptions, match=told):
        declare_it()


def test_a_rule_without_a_name_is_named_by_what_it_says() -> None:
    rules = [
        FailureRate(0.125, minutes=10, queue="mail", actor="send"),
        BacklogAge(2.5, queue="mail"),
        PickupP99(5_000),
        NoWorker(),
        QuotaUsed(0.8, rule="send.account/1s@mail", key="ann"),
    ]
    assert {rule.name: rule.description for rule in check_rules(rules)} == {
        "failure rate over 12.5% in 10 min, queue mail, actor send": (
            "more than 12.5% of the jobs that ended in the last 10 min failed, queue mail, actor send"
        ),
        "backlog older than 2.5 s, queue mail": "the oldest ready job has waited for more than 2.5 s, queue mail",
        "pickup p99 over 5000 ms in 5 min": "one job in a hundred waited for more than 5000 ms before it began, in the last 5 min",
        "no worker for 30 s": "no live worker for 30 s",
        "quota over 80%, send.account/1s@mail for ann": "more than 80% of limit send.account/1s@mail for ann is taken",
    }


def test_two_rules_of_one_name_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"'no worker for 30 s': give one of them another name="):
        check_rules([NoWorker(), BacklogAge(), NoWorker(sinks=[])])
    assert len(check_rules([NoWorker(), NoWorker(name="nobody")])) == 2


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="list of rules"):
        check_rules([LogSink()])  # type: ignore[list-item]
