"""What Redis knows of the whole fleet: counters, depths, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import stats as figures
from .job import WorkerInfo, at_ms, rank_ready_ms
from .store import STATES

if TYPE_CHECKING:
    from .store import Store

HOURS = 25


async def stats(store: Store) -> figures.Stats:
    """Return the counters of the last day added up, and how many jobs wait where."""
    queues = await store.queues()
    hours = await store.commands(*[["HGETALL", key] for key in store.keys.every_stats()])
    sums = figures.add_up(dict(zip(flat[::2], flat[1::2], strict=True)) for flat in hours)
    depths = [await _depth(store, queue) for queue in queues]
    actors = [figures.figures(queue, actor, counts) for (queue, actor), counts in sorted(sums.items())]
    return figures.Stats(hours=HOURS, total=figures.total(sums), actors=actors, queues=depths)


async def _depth(store: Store, queue: str) -> figures.QueueDepth:
    ready, delayed, leased, lanes, *_ = store.keys.queue(queue)
    *counts, head = await store.commands(
        *[["ZCARD", key] for key in (ready, delayed, leased, lanes)], ["ZRANGE", ready, 0, 0, "WITHSCORES"]
    )
    oldest_ms = max(0.0, store.server_ms() - rank_ready_ms(float(head[1]))) if head else None
    return figures.QueueDepth(queue=queue, **dict(zip(STATES, counts, strict=True)), oldest_ready_ms=oldest_ms)


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
    )
