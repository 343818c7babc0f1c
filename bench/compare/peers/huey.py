"""huey: a list that threads block on."""

from __future__ import annotations

from huey import RedisHuey

from bench.compare.adapter import About, BlockingPeer, blocking_job, main

THREADS = 10


class Huey(BlockingPeer):
    """The consumer of its documentation with threads, started from code."""

    about = About(
        distribution="huey",
        settings="10 threads, blocking reads; no call for many: one send after the other",
        documented="https://huey.readthedocs.io/en/latest/consumer.html",
        killed="lost",
        loses="lost",
        results="kept until they are read, none for a job that returns nothing",
        pickup="blocks",
    )

    def open(self) -> None:
        """Declare the task; it connects when it is used."""
        self.huey = RedisHuey("compare", url=self.url)
        self.task = self.huey.task(name="job")(blocking_job)

    def send(self, data: str) -> None:
        """Send one."""
        self.task(data)

    def send_later(self, data: str, delay_s: float) -> None:
        """Send with a delay."""
        self.task.schedule((data,), delay=delay_s)

    def work(self) -> None:
        """Run a consumer."""
        self.huey.create_consumer(workers=THREADS, periodic=False).run()


if __name__ == "__main__":
    main(Huey)
