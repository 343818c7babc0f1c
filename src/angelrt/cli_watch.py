"""Commands for those who watch: `top`, `jobs`, `retry` and `events`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live

from . import tables_watch
from .cli_options import Json, Namespace, Url, out, print_json, run
from .config import NAMESPACE_DEFAULT
from .errors import RedisUnavailable
from .glance import Look
from .job import at_ms
from .jobs import PAGE_DEFAULT, PAGE_MAX, JobPage, JobState
from .runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from rich.console import RenderableType

    from .events import Event
    from .job import JobInfo

INTERVAL_S: Final = 2.0
PATIENCE_S: Final = 3.0
CURVE_MINUTES: Final = 60
EVENTS_SHOWN: Final = 20
EVENTS_MOST: Final = 1_000

app = typer.Typer()

Interval = Annotated[float, typer.Option(min=0.2, help="seconds between two looks")]
Count = Annotated[int | None, typer.Option(min=1, help="stop after so many looks; default: one, where there is no terminal and no --json")]
State = Annotated[JobState | None, typer.Option(help="only those in a state")]
Actor = Annotated[str | None, typer.Option(help="only those of an actor")]
Queue = Annotated[str | None, typer.Option(help="only those of a queue; where completed and cancelled jobs were is not kept")]
TextPart = Annotated[str | None, typer.Option(help="only those with this text in the id, the actor, the arguments, the error or the log")]
Since = Annotated[datetime | None, typer.Option(help="only those sent then or later (UTC)")]
Until = Annotated[datetime | None, typer.Option(help="only those sent before (UTC)")]
Limit = Annotated[int, typer.Option(min=1, max=PAGE_MAX, help="the most that are shown")]
Cursor = Annotated[str | None, typer.Option(help="where the page before ended, as it says")]
Last = Annotated[int, typer.Option(min=0, max=EVENTS_MOST, help="how many of the latest are shown first")]
Follow = Annotated[bool, typer.Option("--follow", help="go on until Ctrl-C")]


# -- top ------------------------------------------------------------------------------------------------------------------------------


@app.command()
def top(*, interval: Interval = INTERVAL_S, count: Count = None, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT,
        as_json: Json = False) -> None:  # fmt: skip
    """Watch throughput, pickup latency, queues, actors and workers; q or Ctrl-C ends it."""

    async def watch() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            if as_json or not out.is_terminal:
                await _print(rt, interval, count if as_json or count else 1, as_json=as_json)
            else:
                with _told_to_end() as told:
                    await _draw(rt, told, interval, count)

    with _quiet(), suppress(KeyboardInterrupt):
        run(watch())


async def _print(rt: Runtime[Any], interval_s: float, count: int | None, *, as_json: bool) -> None:
    before: Look | None = None
    async for _ in _beats(asyncio.Event(), interval_s, count):
        look = await _look(rt)
        if as_json:
            print_json(look.summary(before))
            sys.stdout.flush()
        else:
            out.print(tables_watch.top(look, before, title=_title(rt, look), columns=out.width))
        before = look


async def _draw(rt: Runtime[Any], told: asyncio.Event, interval_s: float, count: int | None) -> None:
    """Keep a screen up to date. A server that goes away later is waited for; one that is not there at the start ends the command."""
    before, look = None, await _look(rt)

    def screen() -> RenderableType:
        return tables_watch.top(look, before, title=f"{_title(rt, look)}  q ends", lines=out.height, columns=out.width)

    with Live(screen(), console=out, screen=True, auto_refresh=False) as live:
        async for number in _beats(told, interval_s, count):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    before, look = (look, await _look(rt)) if number else (before, look)
                live.update(screen(), refresh=True)
            except (RedisUnavailable, TimeoutError):
                words = f"no answer from the server since {look.at.astimezone():%H:%M:%S}; it is asked again"
                live.update(tables_watch.trouble(screen(), words), refresh=True)


async def _beats(told: asyncio.Event, interval_s: float, count: int | None) -> AsyncGenerator[int]:
    """Yield 0, 1, 2 ... with pauses between them, until told to end."""
    number = 0
    while not told.is_set() and (count is None or number < count):
        if number:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await told.wait()
                return
        yield number
        number += 1


async def _look(rt: Runtime[Any]) -> Look:
    stats, workers, pauses = await rt.stats(), await rt.workers(), await rt.control.pauses()
    minutes = await rt.series(minutes=CURVE_MINUTES)
    return Look(at_ms(rt.client().store.server_ms()), stats, workers, minutes, pauses)


def _title(rt: Runtime[Any], look: Look) -> str:
    return f"angelrt  {rt.address()}  {rt.keys.namespace}  {look.at.astimezone():%H:%M:%S}"


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the log's lines about a server that does not answer off the terminal: the error that ends the command tells it."""
    log, nowhere = logging.getLogger("angelrt"), logging.NullHandler()
    log.addHandler(nowhere)
    try:
        yield
    finally:
        log.removeHandler(nowhere)


@contextmanager
def _told_to_end() -> Generator[asyncio.Event]:
    """Yield an event that is set by Ctrl-C, SIGTERM, or the key q where there is a keyboard."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # On Windows Ctrl-C raises KeyboardInterrupt instead.
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, told.set)
    with _keys(told.set):
        yield told


@contextmanager
def _keys(end: Callable[[], None]) -> Generator[None]:
    """Call `end` at the key q, without a return behind it, where standard input is a keyboard."""
    if sys.platform == "win32" or not (sys.stdin.isatty() and out.is_terminal):
        yield
        return
    import termios  # noqa: PLC0415 - not on Windows
    import tty  # noqa: PLC0415 - not on Windows

    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    settings = termios.tcgetattr(keyboard)

    def pressed() -> None:
        # Nothing more comes from a terminal that is gone.
        if os.read(keyboard, 1) in (b"q", b"Q", b""):
            end()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, settings)


# -- jobs -----------------------------------------------------------------------------------------------------------------------------


@app.command()
def jobs(
    *, state: State = None, queue: Queue = None, actor: Actor = None, text: TextPart = None, since: Since = None, until: Until = None,
    limit: Limit = PAGE_DEFAULT, cursor: Cursor = None, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False,
) -> None:  # fmt: skip
    """Find jobs: what runs, what waits, what has ended; the newest first of these, the next first of the others."""

    async def find() -> JobPage:
        found: list[JobInfo] = []
        after = cursor
        async with Runtime(url, namespace=namespace) as rt:
            while True:
                page = await rt.jobs.list(
                    state=state, queue=queue, actor=actor, text=text, since=_utc(since), until=_utc(until), cursor=after,
                    limit=limit - len(found),
                )  # fmt: skip
                found += page.jobs
                after = page.cursor
                if after is None or len(found) == limit:
                    return JobPage(jobs=found, cursor=after)

    with _quiet():
        page = run(find())
    if as_json:
        print_json(page.model_dump(mode="json", by_alias=True))
    else:
        tables_watch.jobs(out, page)


@app.command()
def retry(job_id: Annotated[str, typer.Argument(metavar="ID")], *, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT,
          as_json: Json = False) -> None:  # fmt: skip
    """Let a job that failed run again, as `failed replay ID` does."""

    async def ask() -> dict[str, Any]:
        async with Runtime(url, namespace=namespace) as rt:
            job = await rt.dead_letters.replay(job_id)
            return (await job.info()).model_dump(mode="json", by_alias=True)

    with _quiet():
        info = run(ask())
    if as_json:
        print_json(info)
    else:
        out.print(f"job {job_id} runs again: it is {info['status']}", highlight=False, markup=False)


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


# -- events ---------------------------------------------------------------------------------------------------------------------------


@app.command()
def events(*, follow: Follow = False, last: Last = EVENTS_SHOWN, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT,
           as_json: Json = False) -> None:  # fmt: skip
    """Show what has happened last to jobs, and with --follow what happens from now on."""

    def show(event: Event) -> None:
        if as_json:
            print_json(event.model_dump(mode="json", by_alias=True))
        else:
            tables_watch.event(out, event)
        sys.stdout.flush()

    async def read() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            found = await rt.recent_events(max(last, 1))
            for event in found[-last:] if last else ():
                show(event)
            if not follow:
                return
            async with aclosing(rt.events(after=found[-1].id if found else "0")) as coming:
                async for event in coming:
                    show(event)

    with _quiet(), suppress(KeyboardInterrupt):
        run(read())
