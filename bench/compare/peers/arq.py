"""arq: a sorted set that is polled, a key for each job in progress."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def task(ctx: dict[str, object], data: str) -> None:  # noqa: ARG001 - arq's signature
    """Run the job."""
    await job(data)


class Arq(Peer):
    """The worker of its documentation, polling 50 times as often as by default."""

    about = About(
        distribution="arq",
        settings="max_jobs 100, poll_delay 10 ms (its default is 500 ms); no call for many: 100 sends at once",
        documented="https://arq-docs.helpmanual.io/#arq.worker.Worker",
        killed="runs again after job_timeout + 10 s (310 s)",
        loses="",
        results="kept for 1 h",
        pickup="polls every 10 ms",
    )

    async def open(self) -> None:
        """Connect."""
        self.settings = RedisSettings.from_dsn(self.url)
        self.pool = await create_pool(self.settings)

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.pool.enqueue_job("job", data)

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        await self.pool.enqueue_job("job", data, _defer_by=timedelta(seconds=delay_s))

    async def work(self) -> None:
        """Run a worker."""
        functions = [func(task, name="job")]
        worker = Worker(functions, redis_settings=self.settings, max_jobs=self.concurrency, poll_delay=0.01, handle_signals=False)
        await worker.async_run()


if __name__ == "__main__":
    main(Arq)
