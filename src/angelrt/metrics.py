"""Figures of the whole fleet for Prometheus, straight from Redis (extra `metrics`): any process that has the runtime may be asked.

Labels are names of queues, actors and limits, never data of jobs, and their number is bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from . import fleet
from .alerts_look import Look
from .errors import ConfigError, RedisRefused, RedisUnavailable, RuntimeNotOpen
from .limits import rule_of
from .stats import WORDS, bucket, bucket_ms
from .totals import totals

try:
    from prometheus_client import generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
except ModuleNotFoundError as missing:
    NEEDED = "angelrt.metrics needs prometheus-client: pip install 'angelrt[metrics]'"
    raise ConfigError(NEEDED) from missing

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from .job import WorkerInfo
    from .runtime import Runtime
    from .stats import QueueDepth

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `text` returns."""
SCRAPE_S: Final = 8.0
"""Less than Prometheus waits by default, so that Redis's silence costs a host none of its own figures."""
QUEUES_MAX: Final = 200
"""The most queues whose depth is told apart; the others, in the order of their names, are added up."""
BOUNDS_MS: Final = tuple(2**power for power in range(23))
"""The bounds of histograms, from 1 ms to 70 minutes; each is one of the log buckets' own, so that no job is on the wrong side."""
HAPPENED: Final = {
    "sent": "Jobs that were stored.",
    "completed": "Jobs that ended as completed.",
    "failed": "Jobs that ended as failed.",
    "cancelled": "Jobs that ended as cancelled.",
    "retried": "Runs that failed and are tried again.",
    "snoozed": "Runs that asked to be put off.",
    "released": "Runs that a worker handed back when it stopped.",
    "lost": "Runs whose worker died.",
    "expired": "Jobs that had not begun in time, and were cancelled.",
    "poisoned": "Jobs that were given up because workers died of them.",
}
STATES: Final = {"ready": "ready", "delayed": "delayed", "leased": "leased", "lane": "lanes"}
STATUSES: Final = ("active", "idle", "error")


async def text(rt: Runtime[Any]) -> bytes:
    """Return the figures of the fleet in Prometheus' text format; its type is CONTENT_TYPE. Raises RedisUnavailable and RedisRefused."""
    return generate_latest(_Found(await families(rt)))


async def families(rt: Runtime[Any]) -> list[Metric]:
    """Return the figures of the fleet as prometheus-client has them. Raises RedisUnavailable after eight seconds, and RedisRefused."""
    store = rt.client().store
    try:
        async with asyncio.timeout(SCRAPE_S):
            counters = await totals(store)
            depths, workers = await fleet.depths(store), await rt.workers()
            letters = await store.command("ZCARD", store.keys.key("failed"))
            limits = await _limits(rt)
    except TimeoutError as error:
        message = f"Redis did not answer within {SCRAPE_S:g} s"
        raise RedisUnavailable(message) from error
    return [_up(1), *_counted(counters), *_waiting(depths, letters), *_working(workers), _limited(limits)]


class Collector:
    """The figures of the fleet for a registry of prometheus-client: `registry.register(Collector(rt))`.

    It asks Redis when the registry is asked, from any thread but that of the runtime's event loop; there, `await metrics.text(rt)`. While
    the runtime is not open or Redis does not answer, it says `angelrt_up 0` and no more: the other figures of the registry are not lost.
    """

    def __init__(self, rt: Runtime[Any]) -> None:
        """Keep the runtime; it need not be open yet."""
        self._rt = rt

    def describe(self) -> Iterable[Metric]:
        """Return the figures without their values."""
        return [_up(0), *_counted({}), *_waiting([], 0), *_working([]), _limited({})]

    def collect(self) -> Iterable[Metric]:
        """Return the figures. Raises RuntimeNotOpen in the thread of the runtime's event loop."""
        try:
            self._rt.client()
        except RuntimeNotOpen:
            return [_up(0)]
        try:
            return self._rt.run_sync(lambda: families(self._rt))
        except (RedisUnavailable, RedisRefused):
            return [_up(0)]


class _Found:
    """A registry of what was found, as prometheus-client reads one."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _up(value: int) -> Metric:
    return GaugeMetricFamily("angelrt_up", "Whether Redis answered.", value=value)


def _counted(counters: Mapping[tuple[str, str], Counter[str]]) -> Iterator[Metric]:
    for word in WORDS:
        family = CounterMetricFamily(f"angelrt_jobs_{word}", HAPPENED[word], labels=("queue", "actor"))
        for pair, words in sorted(counters.items()):
            family.add_metric(pair, words[word])
        yield family
    for letter, name, documentation in (
        ("p", "pickup", "From the time at which a job was ready to the start of its run."),
        ("r", "run", "From the start of a run to its end."),
    ):
        histogram = HistogramMetricFamily(f"angelrt_job_{name}_seconds", documentation, labels=("queue", "actor"))
        for pair, words in sorted(counters.items()):
            buckets = {int(word[1:]): number for word, number in words.items() if word[0] == letter and word[1:].isdigit()}
            histogram.add_metric(pair, *_histogram(buckets))
        yield histogram


def _histogram(buckets: Mapping[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Return the numbers up to each bound, and the sum in seconds, as far as the middles of log buckets tell it."""
    upto = [(repr(bound / 1000), float(sum(number for index, number in buckets.items() if index < bucket(bound)))) for bound in BOUNDS_MS]
    total_s = sum(bucket_ms(index) * number for index, number in buckets.items()) / 1000
    return [*upto, ("+Inf", float(sum(buckets.values())))], total_s


def _waiting(depths: list[QueueDepth], letters: int) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("angelrt_queue_jobs", "Jobs that stand in a queue; in a lane, those that are held.", labels=("queue", "state"))
    oldest = GaugeMetricFamily("angelrt_queue_oldest_ready_seconds", "How long the oldest ready job has waited.", labels=("queue",))
    named, others = depths[:QUEUES_MAX], depths[QUEUES_MAX:]
    for queue, some in [*((depth.queue, [depth]) for depth in named), *([("*", others)] if others else [])]:
        for state, field in STATES.items():
            jobs.add_metric((queue, state), sum(getattr(depth, field) for depth in some))
        oldest.add_metric((queue,), max(depth.oldest_ready_ms or 0.0 for depth in some) / 1000)
    yield from (jobs, oldest, GaugeMetricFamily("angelrt_dead_letters", "Failed jobs that are kept.", value=letters))


def _working(workers: list[WorkerInfo]) -> Iterator[Metric]:
    by_status = GaugeMetricFamily("angelrt_workers", "Workers in the register.", labels=("status",))
    for status in STATUSES:
        by_status.add_metric((status,), sum(worker.status == status for worker in workers))
    live = [worker for worker in workers if worker.is_live]
    slots = sum(worker.concurrency for worker in live)
    busy = sum(worker.running for worker in live)
    yield by_status
    yield GaugeMetricFamily("angelrt_worker_slots", "How many jobs the live workers can run at a time.", value=slots)
    yield GaugeMetricFamily("angelrt_worker_slots_busy", "How many jobs the live workers run.", value=busy)


async def _limits(rt: Runtime[Any]) -> dict[str, float]:
    """Return the share that is taken of each limit that the code declares without a key; the others go by data of jobs."""
    declared = [("", queue.name, limit) for queue in rt.queues.values() for limit in queue.limits]
    declared += [(actor.name, actor.definition.queue, limit) for actor in rt.registered.values() for limit in actor.definition.limits]
    rules = sorted({rule_of(limit, actor, queue) for actor, queue, limit in declared if limit.per is None})
    look = Look(rt)
    shares = [(rule, await look.quota_used(rule, f"{rule}=")) for rule in rules]
    return {rule: share for rule, share in shares if share is not None}


def _limited(limits: Mapping[str, float]) -> Metric:
    used = GaugeMetricFamily("angelrt_limit_used_ratio", "Which share of a limit without a key is taken, from 0 to 1.", labels=("limit",))
    for rule, share in limits.items():
        used.add_metric((rule,), share)
    return used
