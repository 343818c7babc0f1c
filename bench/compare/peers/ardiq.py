"""ardiq: Redis streams behind a core in Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ardiq import Ardiq

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

CHUNK = 1_000


class ArdiqPeer(Peer):
    """The worker of its documentation, started from code."""

    about = About(
        distribution="ardiq",
        settings="defaults; concurrency 100; enqueue_many in chunks of 1,000",
        documented="https://ardiq.bytay.dev/guides/performance/",
        killed="runs again after idle_timeout (60 s)",
        loses="",
        results="kept for result_ttl",
        pickup="blocks",
    )

    async def open(self) -> None:
        """Make the application; it connects when it is used."""
        self.app = Ardiq(redis_url=self.url, queue_name="compare", concurrency=self.concurrency)
        self.task = self.app.task(name="job")(job)

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.task.enqueue(data)

    async def send_many(self, many: Sequence[str]) -> None:
        """Send many, as many in one call as the best of others do."""
        for first in range(0, len(many), CHUNK):
            await self.app.enqueue_many([self.task.prepare(data) for data in many[first : first + CHUNK]])

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        await self.task.options(delay_ms=round(delay_s * 1000)).enqueue(data)

    async def work(self) -> None:
        """Run a worker."""
        await self.app.run()


if __name__ == "__main__":
    main(ArdiqPeer)
