"""Celery: lists of kombu, forked processes."""

from __future__ import annotations

from celery import Celery

from bench.compare.adapter import About, BlockingPeer, blocking_job, main

PROCESSES = 2


class CeleryPeer(BlockingPeer):
    """The worker of its documentation: prefork, late acknowledgement off as by default, many prefetched since the jobs are short."""

    about = About(
        distribution="celery",
        settings="prefork with 2 processes, prefetch multiplier 64, without a result backend; no call for many: one send after the other",
        documented="https://docs.celeryq.dev/en/stable/userguide/optimizing.html",
        killed="lost when it ran; when prefetched, it runs again after visibility_timeout (1 h)",
        loses="lost or parked",
        results="not kept",
        pickup="blocks",
    )
    several_processes = True

    def open(self) -> None:
        """Declare the task; it connects when it is used."""
        self.celery = Celery("compare", broker=self.url)
        self.celery.conf.update(worker_prefetch_multiplier=64, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
        self.task = self.celery.task(blocking_job, name="job")

    def send(self, data: str) -> None:
        """Send one."""
        self.task.delay(data)

    def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        self.task.apply_async((data,), countdown=delay_s)

    def work(self) -> None:
        """Run a worker."""
        options = ["--concurrency", str(PROCESSES), "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        self.celery.worker_main(["--quiet", "worker", *options])


if __name__ == "__main__":
    main(CeleryPeer)
