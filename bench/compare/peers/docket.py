"""docket (pydocket): a stream for what is due, a sorted set for what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from docket import Docket, Worker

from bench.compare.adapter import About, Peer, job, main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

CONNECTIONS = 1_200
"""More than redis-py's default of 100, which 100 jobs that end together exhaust."""
INTERVAL = timedelta(milliseconds=10)


class DocketPeer(Peer):
    """The worker of its documentation, looking 25 times as often as by default."""

    about = About(
        distribution="pydocket",
        settings="concurrency 100, minimum_check_interval and scheduling_resolution 10 ms (their default is 250 ms); add_many",
        documented="https://docket.lol/en/latest/",
        killed="runs again after redelivery_timeout (5 min)",
        loses="",
        results="kept for 15 min",
        pickup="blocks for 10 ms at a time",
    )

    async def open(self) -> None:
        """Connect."""
        self.docket = Docket(name="compare", url=f"{self.url}?max_connections={CONNECTIONS}")
        await self.docket.__aenter__()
        self.docket.register(job)

    def send(self, data: str) -> Awaitable[Any]:
        """Send one."""
        return self.docket.add(job)(data)

    async def send_many(self, many: Sequence[str]) -> None:
        """Send many in pipelines."""
        await self.docket.add_many([self.docket.call(job)(data) for data in many])

    async def send_later(self, data: str, delay_s: float) -> None:
        """Send with a time."""
        await self.docket.add(job, when=datetime.now(UTC) + timedelta(seconds=delay_s))(data)

    async def work(self) -> None:
        """Run a worker."""
        options = {"minimum_check_interval": INTERVAL, "scheduling_resolution": INTERVAL}
        async with Worker(self.docket, concurrency=self.concurrency, **options) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    main(DocketPeer)
