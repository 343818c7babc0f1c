"""Figures for Prometheus: names and types by its conventions, numbers as they are in Redis, labels that stay few."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families

from angelrt import (
    Concurrency,
    ConfigError,
    Context,
    Fail,
    JobFailed,
    Queue,
    RateLimit,
    RedisUnavailable,
    RetryPolicy,
    Runtime,
    RuntimeNotOpen,
)
from angelrt import metrics as figures
from angelrt.keys import HOUR_MS
from angelrt.metrics import BOUNDS_MS, CONTENT_TYPE, Collector
from angelrt.stats import BUCKETS, WORDS, bucket, bucket_ms
from tests.scripts.partition import START_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client.core import Metric

RESULT_S: Final = 20
CUSTOMER: Final = "ada@example.org"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def rt(server_url: str, namespace: str) -> AsyncIterator[Runtime[Any]]:
    """An open runtime, whose namespace is removed afterwards."""
    async with Runtime(server_url, namespace=namespace, queues=[Queue("default", limits=[Concurrency(4)])]) as runtime:
        yield runtime
        store = runtime.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


def read(text: bytes) -> dict[str, Metric]:
    """Parse the text format."""
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """Return the only sample of this name and these labels."""
    [found] = [sample.value for family in families.values() for sample in family.samples if sample.name == name and sample.labels == labels]
    return float(found)


# -- what is told ------------------------------------------------------------------------------------------------------------------


async def test_jobs_are_counted_by_how_they_ended(rt: Runtime[Any]) -> None:
    @rt.actor(queue="mail", name="send_mail", retry=RetryPolicy(attempts=2, base=0))
    async def send_mail(how: str) -> None:
        if how == "fails":
            raise Fail("no")
        if how == "again" and Context.current().attempt == 1:
            raise LookupError("later")

    async with rt.worker():
        for how in ("works", "works", "again", "fails"):
            try:
                await (await send_mail.send(how)).result(RESULT_S)
            except JobFailed:
                assert how == "fails"
    found = read(await figures.text(rt))
    named = {"queue": "mail", "actor": "send_mail"}
    counted = {word: value(found, f"angelrt_jobs_{word}_total", **named) for word in WORDS}
    assert counted == {**dict.fromkeys(WORDS, 0), "sent": 4, "completed": 3, "failed": 1, "retried": 1}
    assert value(found, "angelrt_job_pickup_seconds_count", **named) == 5
    assert value(found, "angelrt_job_run_seconds_bucket", **named, le="+Inf") == 5
    assert 0 < value(found, "angelrt_job_run_seconds_sum", **named) < 5
    assert value(found, "angelrt_dead_letters") == 1
    assert value(found, "angelrt_up") == 1


async def test_it_tells_what_waits_and_what_works(rt: Runtime[Any]) -> None:
    begun = asyncio.Event()

    @rt.actor(queue="default")
    async def hangs() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async with rt.worker(concurrency=7, grace=0):
        await hangs.send()
        await begun.wait()
        await rt.send("elsewhere", queue="other")
        await hangs.options(delay=3600).send()
        await rt.control.pause(queue="other", by="ann")
        found = read(await figures.text(rt))
    states = ("ready", "delayed", "leased", "lane")
    assert {state: value(found, "angelrt_queue_jobs", queue="default", state=state) for state in states} == {
        "ready": 0, "delayed": 1, "leased": 1, "lane": 0,
    }  # fmt: skip
    assert value(found, "angelrt_queue_jobs", queue="other", state="ready") == 1
    assert value(found, "angelrt_queue_oldest_ready_seconds", queue="other") > 0
    assert value(found, "angelrt_queue_oldest_ready_seconds", queue="default") == 0
    assert {status: value(found, "angelrt_workers", status=status) for status in ("active", "idle", "error")}["error"] == 0
    assert sum(sample.value for sample in found["angelrt_workers"].samples) == 1
    assert value(found, "angelrt_worker_slots") == 7
    assert value(found, "angelrt_limit_used_ratio", limit="@default") == 0.25


async def test_limits_by_key_are_not_told(rt: Runtime[Any]) -> None:
    @rt.actor(
        name="report", limits=[Concurrency(2, per="customer"), RateLimit("10/day", name="all-reports"), RateLimit("9/day", per="customer")]
    )
    async def report(customer: str) -> str:
        return customer

    async with rt.worker():
        await (await report.send(CUSTOMER)).result(RESULT_S)
        text = await figures.text(rt)
    found = read(text)
    assert {sample.labels["limit"]: sample.value for sample in found["angelrt_limit_used_ratio"].samples} == {
        "@default": 0,
        "all-reports@default": 0.1,
    }
    assert b"ada" not in text


async def test_an_empty_namespace_has_the_figures_that_need_no_name(rt: Runtime[Any]) -> None:
    found = read(await figures.text(rt))
    assert {sample.name for family in found.values() for sample in family.samples} == {
        "angelrt_up",
        "angelrt_dead_letters",
        "angelrt_workers",
        "angelrt_worker_slots",
        "angelrt_worker_slots_busy",
    }
    assert value(found, "angelrt_up") == 1


async def test_counters_go_on_when_redis_forgets_an_hour(rt: Runtime[Any]) -> None:
    store = rt.client().store
    for hour in range(60):
        store.clock = lambda hour=hour: START_MS + hour * HOUR_MS
        await store.command("UNLINK", store.keys.stats(store.clock() - 25 * HOUR_MS))
        await store.command("HSET", store.keys.stats(store.clock()), "mail|send_mail|completed", 2)
        found = read(await figures.text(rt))
        assert value(found, "angelrt_jobs_completed_total", queue="mail", actor="send_mail") == 2 * (hour + 1)


# -- form --------------------------------------------------------------------------------------------------------------------------


async def test_names_types_and_units_are_by_the_conventions(rt: Runtime[Any]) -> None:
    await rt.send("elsewhere")
    text = await figures.text(rt)
    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4
    for family in read(text).values():
        assert re.fullmatch(r"angelrt_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "counter":
            assert all(sample.name == f"{family.name}_total" for sample in family.samples)
        assert {name for sample in family.samples for name in sample.labels} <= {"queue", "actor", "state", "status", "limit", "le"}
    assert set(figures.HAPPENED) == set(WORDS)


def test_buckets_of_a_histogram_are_of_whole_log_buckets() -> None:
    assert all(bucket_ms(bucket(bound) - 1) < bound < bucket_ms(bucket(bound)) for bound in BOUNDS_MS)
    assert [bucket(bound) % 4 for bound in BOUNDS_MS] == [0] * len(BOUNDS_MS)


async def test_a_histogram_counts_up_to_each_bound(rt: Runtime[Any]) -> None:
    store = rt.client().store
    fields = [part for index in range(BUCKETS) for part in (f"q|a|r{index}", 1)]
    await store.command("HSET", store.keys.stats(store.server_ms()), *fields)
    found = read(await figures.text(rt))["angelrt_job_run_seconds"]
    upto = {float(sample.labels["le"]): sample.value for sample in found.samples if sample.name.endswith("_bucket")}
    assert list(upto) == [*(bound / 1000 for bound in BOUNDS_MS), float("inf")]
    assert list(upto.values()) == sorted(upto.values())
    for bound_s, number in upto.items():
        assert number == sum(bucket_ms(index) <= bound_s * 1000 for index in range(BUCKETS))
    [total_s] = [sample.value for sample in found.samples if sample.name.endswith("_sum")]
    assert total_s == pytest.approx(sum(map(bucket_ms, range(BUCKETS))) / 1000)


async def test_labels_stay_few_whatever_is_sent(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUEUES_MAX", 3)
    for number in (5, 0, 1, 2, 3, 4):
        await rt.send("elsewhere", queue=f"queue-{number}")
    found = read(await figures.text(rt))
    ready = {sample.labels["queue"]: sample.value for sample in found["angelrt_queue_jobs"].samples if sample.labels["state"] == "ready"}
    assert ready == {"queue-0": 1, "queue-1": 1, "queue-2": 1, "*": 3}
    oldest_s = {sample.labels["queue"]: sample.value for sample in found["angelrt_queue_oldest_ready_seconds"].samples}
    assert oldest_s["*"] > oldest_s["queue-0"], "that of the first that was sent"


# -- a host's registry -------------------------------------------------------------------------------------------------------------


def with_own(rt: Runtime[Any]) -> CollectorRegistry:
    """Return the registry of a host that has a figure of its own; the runtime need not be open."""
    registry = CollectorRegistry(auto_describe=True)
    Gauge("host_requests", "Requests.", registry=registry).set(3)
    registry.register(Collector(rt))
    return registry


async def test_a_registry_asks_from_another_thread(rt: Runtime[Any]) -> None:
    registry = with_own(rt)
    await rt.send("elsewhere")
    text = await asyncio.to_thread(generate_latest, registry)
    found = read(text)
    assert value(found, "host_requests") == 3
    assert value(found, "angelrt_jobs_sent_total", queue="default", actor="elsewhere") == 1
    own = {line for line in (await figures.text(rt)).decode().splitlines() if "_bucket" not in line and "seconds" not in line}
    assert own <= set(text.decode().splitlines())


async def test_in_the_loop_itself_it_says_what_to_do(rt: Runtime[Any]) -> None:
    with pytest.raises(RuntimeNotOpen, match="the event loop's own thread"):
        generate_latest(with_own(rt))


def test_names_are_known_before_the_runtime_is_open(server_url: str, namespace: str) -> None:
    rt = Runtime(server_url, namespace=namespace)
    registry = with_own(rt)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(Collector(rt))
    found = read(generate_latest(registry))
    assert (value(found, "host_requests"), value(found, "angelrt_up")) == (3, 0)
    assert set(found) == {"host_requests", "angelrt_up"}


async def test_a_silent_redis_costs_a_host_none_of_its_own_figures(
    server_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SCRAPE_S", 0.2)
    async with Runtime(server_url, namespace=namespace) as rt:
        registry = with_own(rt)
        store = rt.client().store
        await store.link.close()
        monkeypatch.setattr(store.link, "call", never)
        found = read(await asyncio.to_thread(generate_latest, registry))
        assert (value(found, "host_requests"), value(found, "angelrt_up")) == (3, 0)
        with pytest.raises(RedisUnavailable, match=r"did not answer within 0\.2 s"):
            await figures.text(rt)


async def never(*_: object) -> None:
    """Wait as for a server that does not answer."""
    await asyncio.sleep(3600)


def test_synchronous_programs_have_them_too(server_url: str, namespace: str) -> None:
    with Runtime(server_url, namespace=namespace) as rt:
        registry = with_own(rt)
        rt.send_sync("elsewhere")
        texts: list[bytes] = []
        asked = threading.Thread(target=lambda: texts.append(generate_latest(registry)))
        asked.start()
        asked.join()
        assert value(read(texts[0]), "angelrt_jobs_sent_total", queue="default", actor="elsewhere") == 1
        store = rt.client().store
        rt.run_sync(lambda: store.command("UNLINK", *store.keys.every(["default"])))


BLOCKED: Final = """
import sys
sys.modules["prometheus_client"] = None
import angelrt
try:
    import angelrt.metrics
except angelrt.ConfigError as error:
    print(error)
"""


def test_the_extra_that_is_missing_is_named() -> None:
    answer = subprocess.run([sys.executable, "-c", BLOCKED], check=True, capture_output=True, text=True)
    assert answer.stdout == "angelrt.metrics needs prometheus-client: pip install 'angelrt[metrics]'\n"
    assert issubclass(ConfigError, Exception)
