"""What Redis knows of the whole fleet: counters, depths, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import stats as figures
from .job import PRIORITY_DEFAULT, PRIORITY_MAX, PRIORITY_STEP, WorkerInfo, at_ms, rank_ready_ms
from .store import STATES
from .views import read_run

if TYPE_CHECKING:
    from .store import Store

HOURS = 25
LINE = 100
"""Where priorities age, the oldest job need not be the first in line; it is looked for among so many."""


async def stats(store: Store) -> figures.Stats:
    """Return the counters of the last day added up, and how many jobs wait where."""
    hours = await store.commands(*[["HGETALL", key] for key in store.keys.every_stats()])
    sums = figures.add_up(dict(zip(flat[::2], flat[1::2], strict=True)) for flat in hours)
    actors = [figures.figures(queue, actor, counts) for (queue, actor), counts in sorted(sums.items())]
    return figures.Stats(hours=HOURS, total=figures.total(sums), actors=actors, queues=await depths(store))


async def depths(store: Store) -> list[figures.QueueDepth]:
    """Return how many jobs wait where, by queue."""
    return [await _depth(store, queue) for queue in await store.queues()]


async def _depth(store: Store, queue: str) -> figures.QueueDepth:
    ready, delayed, leased, lanes, *_ = store.keys.queue(queue)
    *counts, aging_ms = await store.commands(
        *[["ZCARD", key] for key in (ready, delayed, leased, lanes)], ["HGET", store.keys.key("rules"), f"aging {queue}"]
    )
    since = await _ready_since(store, ready, float(aging_ms or 0)) if counts[0] else []
    oldest_ms = max(0.0, store.server_ms() - min(since)) if since else None
    return figures.QueueDepth(queue=queue, **dict(zip(STATES, counts, strict=True)), oldest_ready_ms=oldest_ms)


async def _ready_since(store: Store, ready: str, aging_ms: float) -> list[float]:
    """Return since when jobs are ready, in ms since 1970: the first of each priority or, where they age, the first in line."""
    bands = [(priority * PRIORITY_STEP, f"({(priority + 1) * PRIORITY_STEP}") for priority in range(PRIORITY_MAX + 1)]
    aged, *strict = await store.commands(
        *[["ZRANGE", ready, *band, "BYSCORE", "LIMIT", 0, 1 if n or not aging_ms else LINE, "WITHSCORES"] for n, band in enumerate(bands)]
    )
    runs = await store.commands_list("HMGET", store.keys.key("runs"), aged[::2])
    since = [rank_ready_ms(float(rank)) - aging_ms * _priority(run) for rank, run in zip(aged[1::2], runs, strict=True)]
    return since + [rank_ready_ms(float(head[1])) for head in strict if head]


def _priority(run: bytes | None) -> int:
    """Return the priority of a job in a queue where priorities age: only one that differs from the default has an item that tells it."""
    items = read_run(run).flow.split(",") if run else []
    return next((int(item[1:]) for item in items if item.startswith("p")), PRIORITY_DEFAULT)


async def workers(store: Store, lease_ms: float) -> list[WorkerInfo]:
    """Return the workers in the register, the latest beat first."""
    beats = await store.command("ZRANGE", store.keys.key("beats"), 0, -1, "REV", "WITHSCORES")
    ids = beats[::2]
    stored = await store.commands_list("HMGET", store.keys.key("workers"), ids)
    horizon = store.server_ms() - lease_ms
    return [
        _worker(name.decode(), float(beat_ms), orjson.loads(info), horizon)
        for name, beat_ms, info in zip(ids, beats[1::2], stored, strict=True)
        if info
    ]


def _worker(name: str, beat_ms: float, info: dict[str, Any], horizon_ms: float) -> WorkerInfo:
    processed = info["processed"]
    status = "error" if beat_ms < horizon_ms or info["blocked_by"] else "active" if info["running"] else "idle"
    return WorkerInfo(
        id=name,
        type=info["type"],
        status=status,
        last_heartbeat=at_ms(beat_ms),
        jobs_processed=processed,
        average_processing_time=info["busy_ms"] / processed if processed else 0.0,
        queues=info["queues"],
        actors=info["actors"],
        concurrency=info["concurrency"],
        running=info["running"],
        host=info["host"],
        pid=info["pid"],
        blocked_by=info["blocked_by"],
        blocked_s=info["blocked_s"],
        longest_block_by=info["longest_block_by"],
        longest_block_s=info["longest_block_s"],
    )
