"""RQ: a list, a hash for each job, and a fork for each job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from redis import Redis
from rq import Queue, Worker

from bench.compare.adapter import About, BlockingPeer, blocking_job, main

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 1_000


class Rq(BlockingPeer):
    """The default worker of its documentation."""

    about = About(
        distribution="rq",
        settings="the default worker, which forks for each job, with its scheduler; enqueue_many in chunks of 1,000",
        documented="https://python-rq.org/docs/workers/",
        killed="ends as failed (abandoned) unless it has retries",
        loses="lost",
        results="kept for 500 s",
        pickup="blocks",
    )
    several_processes = True

    def open(self) -> None:
        """Connect."""
        self.redis = Redis.from_url(self.url)
        self.queue = Queue("compare", connection=self.redis)

    def send(self, data: str) -> None:
        """Send one."""
        self.queue.enqueue(blocking_job, data)

    def send_many(self, many: Sequence[str]) -> None:
        """Send many in pipelines."""
        for first in range(0, len(many), CHUNK):
            self.queue.enqueue_many([Queue.prepare_data(blocking_job, (data,)) for data in many[first : first + CHUNK]])

    def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        self.queue.enqueue_in(timedelta(seconds=delay_s), blocking_job, data)

    def work(self) -> None:
        """Run a worker."""
        Worker([self.queue], connection=self.redis).work(with_scheduler=True, logging_level="WARNING")


if __name__ == "__main__":
    main(Rq)
