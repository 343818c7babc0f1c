"""taskiq over taskiq-redis: a stream with a consumer group, acknowledged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from taskiq import TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Taskiq(Peer):
    """The stream broker, which is the one of its brokers that acknowledges, and a scheduler beside the worker."""

    about = About(
        distribution="taskiq-redis",
        settings="RedisStreamBroker, max_async_tasks 100, without a result backend, a scheduler in the worker that looks every 100 ms, and "
        "every second for new ones; no call for many: 100 sends at once",
        documented="https://github.com/taskiq-python/taskiq-redis#usage",
        killed="runs again after idle_timeout (10 min), when a job comes by",
        loses="",
        results="not kept",
        pickup="blocks",
    )

    async def open(self) -> None:
        """Connect."""
        self.broker = RedisStreamBroker(self.url)
        self.task = self.broker.register_task(job, task_name="job")
        self.source = ListRedisScheduleSource(self.url)
        self.broker.is_worker_process = self.role == "worker"
        await self.broker.startup()
        await self.source.startup()

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.task.kiq(data)

    async def send_later(self, data: str, delay_s: float) -> None:
        """Put it into the schedule."""
        await self.task.schedule_by_time(self.source, datetime.now(UTC) + timedelta(seconds=delay_s), data)

    async def work(self) -> None:
        """Run a worker, and the scheduler that delayed jobs need."""
        scheduler = TaskiqScheduler(self.broker, [self.source])
        await asyncio.gather(
            run_receiver_task(self.broker, max_async_tasks=self.concurrency),
            run_scheduler_task(scheduler, interval=timedelta(seconds=1), loop_interval=timedelta(milliseconds=100)),
        )


if __name__ == "__main__":
    main(Taskiq)
