"""The application of the chaos test. Each run leaves lines in a file of its process, one write a line, so that kill -9 takes none away."""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from angelrt import Concurrency, Keep, Message, Retention, RetryPolicy, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(os.environ.get("CHAOS_FOLDER", "."))
LEASE_S: Final = float(os.environ.get("CHAOS_LEASE_S", "15"))
APART: Final = "x" * 5000
"""Text so long that arguments and results with it are kept apart."""
KINDS: Final = {"work": 62, "parent": 15, "flaky": 5, "gated": 8, "large": 4, "tenant": 3, "delayed": 3}
KEYS, TENANTS, CHILDREN = 20, 5, 2
SHARED: Final = "shared"
"""A queue whose jobs have tenants."""
START: Final = FOLDER / "start"
"""The file that lets senders begin, with the time (s since 1970) at which the first job is due."""

rt = Runtime(
    lease=LEASE_S,
    retention=Retention(completed=Keep(3_600, 10_000_000), failed=Keep(3_600, 10_000_000)),  # every job is to be examined at the end
)
Ran = tuple[int, int, str]
"""What a run returns: its process, its attempt, and text."""


class Diary:
    """The file in which a process notes facts."""

    def __init__(self) -> None:
        """Open nothing before there is something to write."""
        self._file = -1

    def write(self, fact: str, **what: Any) -> None:
        """Add a fact with the time (ms since 1970)."""
        if self._file < 0:
            self._file = os.open(FOLDER / f"{os.getpid()}.facts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, orjson.dumps({"fact": fact, "at": time.time() * 1000, **what}) + b"\n")


diary = Diary()


@contextmanager
def run() -> Iterator[tuple[int, int]]:
    """Note how a run begins and ends; the process and the attempt are its name."""
    context = rt.context
    name = {"job": context.job.id, "pid": os.getpid(), "attempt": context.attempt}
    diary.write("began", **name)
    try:
        yield os.getpid(), context.attempt
    except asyncio.CancelledError:
        diary.write("cut", **name, why=context.why_cancelled)
        raise
    except Exception:
        diary.write("raised", **name)
        raise
    diary.write("done", **name)


@rt.actor()
async def work(seconds: float, text: str = "") -> Ran:
    with run() as name:
        await asyncio.sleep(seconds)
    return *name, text


@rt.actor()
async def parent(seconds: float) -> Ran:
    with run() as name:
        rt.context.send(*(child.message(rt.context.job.id, number) for number in range(CHILDREN)))
        await asyncio.sleep(seconds)
    return *name, ""


@rt.actor()
async def child(of: str, number: int) -> Ran:  # noqa: ARG001 - whose child a job is stands in its arguments
    with run() as name:
        return *name, ""


@rt.actor(retry=RetryPolicy(base=0.1))
async def flaky(seconds: float) -> Ran:
    with run() as name:
        await asyncio.sleep(seconds)
        if name[1] == 1:
            raise ConnectionError("fails in its first attempt")
    return *name, ""


@rt.actor(limits=[Concurrency(3, per="key")])
async def gated(seconds: float, key: int) -> Ran:  # noqa: ARG001 - the limit goes by it
    with run() as name:
        await asyncio.sleep(seconds)
    return *name, ""


def id_of(number: int) -> str:
    """Return the id under which a job is sent."""
    return f"job-{number:07}"


def message(number: int, seed: int) -> Message[Ran]:
    """Return the job of a number: the same for the same seed."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - a load that is to be repeated
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    seconds = rng.choices((0.01, 1.0, 4.0), (91, 8, 1))[0]
    if kind == "parent":
        return parent.options(id=id_of(number)).message(seconds)
    if kind == "flaky":
        return flaky.options(id=id_of(number)).message(seconds)
    if kind == "gated":
        return gated.options(id=id_of(number)).message(min(seconds, 1.0), rng.randrange(KEYS))
    tenant = f"t{rng.randrange(TENANTS)}" if kind == "tenant" else None
    sender = work.options(
        id=id_of(number),
        queue=SHARED if tenant else None,
        tenant=tenant,
        delay=0.5 if kind == "delayed" else None,
        priority=rng.choice((None, None, None, 2)),
    )
    return sender.message(seconds, APART if kind == "large" else "")
