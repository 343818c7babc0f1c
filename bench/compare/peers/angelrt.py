"""angelrt, with default settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from angelrt import Queue, Runtime
from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

QUEUES = 100
PRIORITIES = 10


class Angelrt(Peer):
    """The variants `queues` and `priorities` spread bulk sends over 100 queues, and over 10 priorities."""

    about = About(
        distribution="angelrt",
        settings="defaults; concurrency 100",
        documented="docs/performance.md",
        killed="runs again, fenced",
        loses="",
        results="kept",
        pickup="waits at the server",
    )

    async def open(self) -> None:
        """Connect, and keep the connection while the process lives."""
        self.queues = [f"q{number}" for number in range(QUEUES)] if self.variant == "queues" else ["default"]
        self.rt = Runtime(self.url, namespace="compare", queues=[Queue(name) for name in self.queues])
        self.actor = self.rt.actor(name="job")(job)
        await self.rt.__aenter__()
        self.senders = [self.actor.options(queue=queue) for queue in self.queues]
        if self.variant == "priorities":
            self.senders = [self.actor.options(priority=priority) for priority in range(PRIORITIES)]

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.actor.send(data)

    async def send_many(self, many: Sequence[str]) -> None:
        """Send many."""
        senders = self.senders
        if len(senders) == 1:
            await self.rt.send_many(self.actor.message(data) for data in many)
        else:
            await self.rt.send_many(senders[number % len(senders)].message(data) for number, data in enumerate(many))

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        await self.actor.options(delay=delay_s).send(data)

    async def work(self) -> None:
        """Run a worker."""
        async with self.rt.worker(concurrency=self.concurrency, queues=self.queues):
            await asyncio.Event().wait()


if __name__ == "__main__":
    main(Angelrt)
