"""One run, from the first process to the findings."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from angelrt.keys import Keys
from angelrt.link import Link
from angelrt.store import Store
from tests.chaos import history, report
from tests.chaos.checker import check
from tests.chaos.faults import Storm
from tests.chaos.fleet import BANNER, Place, settings_of, worker_arguments
from tests.chaos.jobs import CHILDREN, START
from tests.chaos.proxy import Way
from tests.chaos.schedule import plan
from tests.chaos.sender import READY
from tests.servers import WITH_EVERY_WRITE_ON_DISK, Server
from tests.tidy.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Program

READ_S: Final = 120.0
POLL_S: Final = 0.1
SENDERS: Final = 2
WORDS: Final = 60
UNREACHABLE: Final = ("RedisUnavailable", "did not answer within")


@dataclass(frozen=True)
class Settings:
    """What a run is: how many jobs at which rate, by how many workers, under which seed, with a fault each `every_s`."""

    jobs: int
    seed: int
    per_s: float
    workers: int
    lease_s: float
    every_s: float
    concurrency: int = 50
    patience_s: float = 300.0
    """How long senders and then workers may go on after the last job was due."""

    @property
    def command(self) -> str:
        """The command that repeats the schedule."""
        return (
            f"tox -e chaos -- --jobs {self.jobs} --seed {self.seed} --rate {self.per_s:g} --workers {self.workers} "
            f"--lease {self.lease_s:g} --every {self.every_s:g}"
        )


class Run:
    """The processes of a run, in a folder of its own."""

    def __init__(self, settings: Settings, program: Program, folder: Path) -> None:
        """Prepare; starts nothing."""
        self._settings = settings
        self._program = program
        self._folder = folder
        self._history = history.History(folder)
        self._ways: list[Way] = []
        self._places: list[Place] = []

    async def facts(self) -> list[history.Fact]:
        """Do all of it, and return the history."""
        self._note_head()
        server = Server(self._program, *WITH_EVERY_WRITE_ON_DISK)
        try:
            await asyncio.to_thread(server.start)
            await self._work(server)
            return await self._collected(server)
        finally:
            for place in self._places:
                await place.kill()
            for way in self._ways:
                await way.close()
            await asyncio.to_thread(server.remove)
            self._history.close()

    async def _work(self, server: Server) -> None:
        """Send, work and suffer, until every job has ended or patience has."""
        names = {"workers": [f"worker {n}" for n in range(self._settings.workers)], "senders": [f"sender {n}" for n in range(SENDERS)]}
        workers = [await self._place(server, name, BANNER, worker_arguments(self._settings.concurrency)) for name in names["workers"]]
        senders = [await self._place(server, name, READY, self._sender_arguments(n)) for n, name in enumerate(names["senders"])]
        await asyncio.gather(*(place.up() for place in self._places))
        written = self._folder / "start.new"
        written.write_text(str(time.time()), encoding="ascii")
        written.rename(self._folder / START.name)
        span_s = self._settings.jobs / self._settings.per_s
        faults = plan(self._settings.seed, span_s=span_s, every_s=self._settings.every_s, lease_s=self._settings.lease_s, **names)
        await Storm(server, self._places, self._history.note).play(faults)
        await asyncio.gather(*map(self._ended, senders))
        await self._drained(server)
        await asyncio.gather(*(place.end() for place in workers))

    async def _place(self, server: Server, name: str, ready: str, arguments: list[str]) -> Place:
        way = await Way(server.socket).open()
        self._ways.append(way)
        place = Place(name, arguments, ready, way, self._folder, settings_of(self._folder, self._settings.lease_s), self._history.note)
        self._places.append(place)
        place.start()
        return place

    def _sender_arguments(self, number: int) -> list[str]:
        numbers = (self._settings.seed, number, self._settings.jobs, SENDERS, self._settings.per_s)
        return ["-m", "tests.chaos.sender", *map(str, numbers)]

    async def _ended(self, place: Place) -> None:
        if not await place.ended(self._settings.patience_s):
            self._history.note("hung", what=f"{place.name} has not come to its end")

    async def _drained(self, server: Server) -> None:
        """Wait until nothing waits and nothing runs."""
        store = Store(server.url, Keys("angelrt"))
        try:
            async with asyncio.timeout(self._settings.patience_s):
                while any(await self._depths(store)):  # noqa: ASYNC110 - what is waited for happens in Redis
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            self._history.note("hung", what="jobs wait or run, and none ends")
        finally:
            await store.close()

    @staticmethod
    async def _depths(store: Store) -> list[int]:
        queues = await store.queues()
        keys = [key for queue in queues for key in store.keys.queue(queue)[:4]]
        return await store.commands(*(["ZCARD", key] for key in keys)) if keys else []

    async def _collected(self, server: Server) -> list[history.Fact]:
        store = Store(server.url, Keys("angelrt"))
        store.link = Link(server.url, reply_timeout_s=READ_S)
        try:
            found = [*self._history.facts(), *await history.collect(store, self._folder)]
        finally:
            await store.close()
        for fact in found:
            if fact["fact"] == "left":
                log = (self._folder / f"{fact['pid']}.err").read_text(encoding="utf-8", errors="replace")
                last = log.strip().splitlines()[-WORDS:] or [""]
                fact |= {"words": "\n".join(last), "unreachable": any(text in last[-1] for text in UNREACHABLE)}
        return found

    def _note_head(self) -> None:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
        settings = self._settings
        self._history.note(
            "run", jobs=settings.jobs, seed=settings.seed, lease_ms=settings.lease_s * 1000, workers=settings.workers, children=CHILDREN,
            server=str(self._program), commit=commit.stdout.strip() or "unknown", command=settings.command,
        )  # fmt: skip


async def run(settings: Settings, program: Program, folder: Path, keep: Path | None = None) -> dict[str, Any]:
    """Do one run, check its history and return its figures; the history is kept where `keep` says."""
    facts = await Run(settings, program, folder).facts()
    if keep is not None:
        history.write(keep, facts)
    return report.summary(facts, check(facts))
