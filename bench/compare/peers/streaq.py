"""streaq: Redis streams and a function library, on coredis and anyio."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from streaq import Worker

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

CHUNK = 1_000


class Streaq(Peer):
    """The worker of its documentation, started from code."""

    about = About(
        distribution="streaq",
        settings="defaults; concurrency 100; enqueue_many in chunks of 1,000",
        documented="https://streaq.rtfd.io",
        killed="runs again after idle_timeout (60 s)",
        loses="",
        results="kept for 5 min",
        pickup="blocks",
    )

    async def open(self) -> None:
        """Connect; a worker connects when it runs."""
        self.streaq = Worker(redis_url=self.url, concurrency=self.concurrency, handle_signals=False)
        self.task = self.streaq.task(name="job")(job)
        if self.role == "client":
            await self.streaq.__aenter__()

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.task.enqueue(data)

    async def send_many(self, many: Sequence[str]) -> None:
        """Send many in pipelines."""
        for first in range(0, len(many), CHUNK):
            await self.streaq.enqueue_many([self.task.enqueue(data) for data in many[first : first + CHUNK]])

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        await self.task.enqueue(data).start(delay=timedelta(seconds=delay_s))

    async def work(self) -> None:
        """Run a worker."""
        await self.streaq.run_async()


if __name__ == "__main__":
    main(Streaq)
