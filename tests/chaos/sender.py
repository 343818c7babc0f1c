"""A process that sends its share of the jobs at an even pace, each under an id of its own, and notes what `send` returned.

It goes on through everything, as an application would: a send that raises RedisUnavailable is repeated with its id, and a process that is
started again after kill -9 repeats those that it had not noted.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from angelrt import AngelError, RedisUnavailable
from tests.chaos.jobs import FOLDER, START, Ran, diary, id_of, message, rt

if TYPE_CHECKING:
    from angelrt import Job

LISTENED: Final = 20
"""Of so many jobs, one result is waited for."""
UNDER_WAY_MAX: Final = 1_000
LISTENERS_MAX: Final = 500
PAUSE_S: Final = 0.02
READY: Final = "ready to send"


def noted() -> set[str]:
    """Return the ids that any process has noted as sent."""
    ids: set[str] = set()
    for path in FOLDER.glob("*.facts"):
        lines = path.read_bytes().splitlines()
        ids |= {fact["job"] for fact in map(orjson.loads, lines) if fact["fact"] == "sent"}
    return ids


class Sender:
    """Sends the numbers first, first + step ... below `last`, each at its time."""

    def __init__(self, *, seed: int, first: int, last: int, step: int, per_s: float) -> None:
        """Keep the numbers; they follow one another at `per_s`."""
        self._seed = seed
        self._numbers = range(first, last, step)
        self._per_s = per_s
        self._under_way = asyncio.Semaphore(UNDER_WAY_MAX)
        self._listeners = asyncio.Semaphore(LISTENERS_MAX)

    async def run(self) -> None:
        """Send everything, and hear of every result that is waited for."""
        done = noted()
        async with rt, asyncio.TaskGroup() as tasks:
            print(READY, file=sys.stderr, flush=True)  # noqa: T201 - the one word by which the run knows
            while not START.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(PAUSE_S)
            start_s = float(START.read_text(encoding="ascii"))
            for number in self._numbers:
                if id_of(number) in done:
                    continue
                await asyncio.sleep(max(start_s + number / self._per_s - time.time(), 0))
                await self._under_way.acquire()
                tasks.create_task(self._send(number, tasks))

    async def _send(self, number: int, tasks: asyncio.TaskGroup) -> None:
        called_ms = time.time() * 1000
        try:
            job = await self._sent(number)
        finally:
            self._under_way.release()
        diary.write("sent", job=job.id, created=job.created, called=called_ms, pid=os.getpid())
        if number % LISTENED == 0:
            tasks.create_task(self._listen(job))

    async def _sent(self, number: int) -> Job[Ran]:
        while True:
            try:
                return (await rt.send_many([message(number, self._seed)]))[0]
            except RedisUnavailable:
                diary.write("refused", job=id_of(number), pid=os.getpid())

    async def _listen(self, job: Job[Any]) -> None:
        async with self._listeners:
            diary.write("heard", job=job.id, result=await self._heard(job))

    async def _heard(self, job: Job[Any]) -> Any:
        while True:
            try:
                return list((await job.result())[:2])
            except RedisUnavailable:
                diary.write("refused", job=job.id, pid=os.getpid())
            except AngelError as error:
                return f"{type(error).__name__}: {error}"


def main() -> None:
    """Send as the arguments say: seed first last step per_s."""
    seed, first, last, step, per_s = map(float, sys.argv[1:])
    numbers = {"first": int(first), "last": int(last), "step": int(step)}

    async def send() -> None:
        await Sender(seed=int(seed), **numbers, per_s=per_s).run()

    uvloop.run(send())


if __name__ == "__main__":
    main()
