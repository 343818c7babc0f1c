"""SAQ: a list that workers block on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from saq import Queue, Worker

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def task(ctx: Any, *, data: str) -> None:  # noqa: ARG001 - SAQ's signature
    """Run the job."""
    await job(data)


class Saq(Peer):
    """The worker of its documentation."""

    about = About(
        distribution="saq",
        settings="defaults (it schedules once a second); concurrency 100; no call for many: 100 sends at once",
        documented="https://github.com/tobymao/saq#readme",
        killed="ends as aborted, unless the job has retries",
        loses="lost",
        results="kept for 10 min",
        pickup="blocks",
    )

    async def open(self) -> None:
        """Connect."""
        self.queue = Queue.from_url(self.url)
        await self.queue.connect()

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.queue.enqueue("job", data=data)

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay. Documented in whole seconds; Redis takes a part of one as well, which is later by less."""
        await self.queue.enqueue("job", data=data, scheduled=time.time() + delay_s)

    async def work(self) -> None:
        """Run a worker."""
        await Worker(self.queue, [("job", task)], concurrency=self.concurrency).start()


if __name__ == "__main__":
    main(Saq)
