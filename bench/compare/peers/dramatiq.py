"""dramatiq: lists and a Lua script, threads that prefetch."""

from __future__ import annotations

import threading

from dramatiq import Worker, actor
from dramatiq.brokers.redis import RedisBroker

from bench.compare.adapter import About, BlockingPeer, blocking_job, main


class Dramatiq(BlockingPeer):
    """The worker of its documentation, one process, started from code."""

    about = About(
        distribution="dramatiq",
        settings="one process with 8 threads, its default middleware; no call for many: one send after the other",
        documented="https://dramatiq.io/guide.html#workers",
        killed="runs again when another worker's maintenance finds it (after 60 s and more)",
        loses="",
        results="not kept",
        pickup="polls, with a back-off",
    )

    def open(self) -> None:
        """Connect and declare the actor."""
        self.broker = RedisBroker(url=self.url)
        self.actor = actor(blocking_job, actor_name="job", broker=self.broker)

    def send(self, data: str) -> None:
        """Send one."""
        self.actor.send(data)

    def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        self.actor.send_with_options(args=(data,), delay=round(delay_s * 1000))

    def work(self) -> None:
        """Run a worker."""
        Worker(self.broker, worker_threads=8).start()
        threading.Event().wait()


if __name__ == "__main__":
    main(Dramatiq)
