"""One run, from its delivery to its verdict, in named steps: decode, call, encode, judge. Touches no Redis."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from .. import stats
from ..config import TEXT_MAX_CHARS
from ..context import Context, enter
from ..errors import InvalidArguments, PayloadTooLarge
from ..job import at_ms
from ..retry import Fail, Retry, Snooze
from ..store import Verdict
from .process import ProcessPool, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..actor import Message
    from ..store import NewJob
    from .running import Run, Running

log = logging.getLogger("angelrt.worker")

NOTE_PAUSE_S: Final = 0.5
"""A run's notes (progress, log) are written at most this often, and once more when it ends."""
PACKAGE: Final = str(Path(__file__).parent.parent)
NOTHING: Final = b"null"
HOPELESS: Final = (Fail, InvalidArguments, PayloadTooLarge)
"""What would end the same way in every further attempt."""


class Timeout(Exception):  # noqa: N818 - stands in the record of a failed job under this name
    """The run lasted longer than the actor's timeout."""


class WorkerLost(Exception):  # noqa: N818 - stands in the record of a failed job under this name
    """The job's worker died or hung in its last permitted run, so that nobody could write how it ended."""


class Runner:
    """Turns runs into verdicts. `put` takes each verdict; `new_job` makes the stored form of a buffered message."""

    def __init__(
        self,
        running: Running,
        put: Callable[[Verdict], None],
        *,
        new_job: Callable[[Message[Any]], NewJob],
        middleware: Sequence[Callable[[Context[Any], Callable[[], Awaitable[Any]]], Awaitable[Any]]],
        threads: int,
        state: Any,
        base: contextvars.Context,
        rebuild: Callable[[tuple[str, bytes, Any]], Message[Any]],
    ) -> None:
        """Keep the collaborators; `base` is the context of variables that each run starts from, in a copy of its own."""
        self._running = running
        self._put = put
        self._new_job = new_job
        self._middleware = middleware
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="angelrt actor")
        self._processes = ProcessPool()
        self._state = state
        self._base = base
        self._rebuild = rebuild

    def start(self, run: Run) -> None:
        """Start a run as a task of its own, in a fresh copy of the base context."""
        self._running.start(run)
        run.task = asyncio.get_running_loop().create_task(self._execute(run), context=self._base.copy())

    def close(self) -> None:
        """Let the threads go; one that hangs is left behind. anyio ends the processes with the event loop."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _execute(self, run: Run) -> None:
        begun_s = time.monotonic()
        run.started_ms += (begun_s - run.started_s) * 1000
        run.started_s = begun_s
        context = run.context = Context(
            run.id, run.actor.name, run.queue, run.attempt, at_ms(run.started_ms + run.timeout_s * 1000), self._state
        )
        context.on_note = _NoteSender(run, self._put)
        try:
            enter(context)
            verdict = await self._judged(run, context)
        finally:
            self._running.end(run)
        if context.done is not None or context.lines:
            self._put(note(run, context))
        if verdict is None:
            self._running.settled(run.id, run.token)
        else:
            self._put(verdict)

    async def _judged(self, run: Run, context: Context[Any]) -> Verdict | None:
        """Return the verdict of a run; None when its lease is lost, since then nothing may be written."""
        if run.attempt > run.attempts_max:
            return self._verdict_of(
                run, WorkerLost(f"its worker was lost in its last run, and its {run.attempts_max} attempts are used up")
            )
        try:
            payload = await self._called(run, context)
            children = tuple(map(self._new_job, context.buffered)) if context.buffered else ()
        except BaseException as error:  # noqa: BLE001 - an actor may raise anything; the worker must outlive it
            return self._verdict_of(run, error)
        return self._verdict(run, "c", payload=payload, children=children)

    async def _called(self, run: Run, context: Context[Any]) -> bytes:
        """Decode, call and encode; processes do all three on their side."""
        actor = run.actor
        if actor.definition.kind == "process":
            return await self._in_process(run, context)
        arguments = actor.signature.decode(run.arguments)

        async def call() -> Any:
            if actor.definition.kind == "async":
                return await actor.function(**arguments)
            return await self._in_thread(run, arguments)

        result = await (through(self._middleware, context, call) if self._middleware else call())
        return NOTHING if result is None else actor.signature.result.encode(result)

    async def _in_thread(self, run: Run, arguments: dict[str, Any]) -> Any:
        """Call in a thread. A thread cannot be killed: at the timeout the verdict is written, and the slot stays occupied."""
        variables = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: variables.run(run.actor.function, **arguments))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done() and run.why_cancelled:
                log.warning("%s: the thread of job %s goes on after %s and keeps its slot", run.actor.name, run.id, run.why_cancelled)
                occupied = replace(run, task=None)
                self._running.slots.add(occupied)
                future.add_done_callback(lambda _: self._running.end(occupied))
            raise

    async def _in_process(self, run: Run, context: Context[Any]) -> bytes:
        async def call() -> Any:
            return await self._processes.call(run.actor, run.arguments, (run.id, run.queue, run.attempt, context.deadline))

        payload, buffered, lines = await (through(self._middleware, context, call) if self._middleware else call())
        context.buffered.extend(map(self._rebuild, buffered))
        context.lines.extend(lines)
        return bytes(payload)

    # -- verdicts ------------------------------------------------------------------------------------------------------------------

    def _verdict_of(self, run: Run, error: BaseException) -> Verdict | None:
        if isinstance(error, asyncio.CancelledError) and run.why_cancelled in ("lost", "shutdown"):
            return None if run.why_cancelled == "lost" else self._verdict(run, "x")
        if isinstance(error, asyncio.CancelledError) and run.why_cancelled == "timeout":
            error = Timeout(f"ran longer than {run.timeout_s:g} s")
        if isinstance(error, Snooze):
            return self._verdict(run, "s", delay_s=error.delay_s)
        failure = failure_json(run.actor.name, error)
        final = run.attempt >= run.attempts_max or isinstance(error, HOPELESS) or (isinstance(error, RemoteFailure) and error.hopeless)
        log.log(
            logging.ERROR if final else logging.WARNING,
            "%s: job %s failed in attempt %d of %d: %s",
            *(run.actor.name, run.id, run.attempt, run.attempts_max, describe(error)),
            extra={"job_id": run.id, "actor": run.actor.name, "attempt": run.attempt},
        )
        if final:
            return self._verdict(run, "f", payload=failure)
        after_s = error.after_s if isinstance(error, Retry) else None
        delay_s = run.actor.definition.retry.delay_s(run.attempt) if after_s is None else after_s
        return self._verdict(run, "r", delay_s=delay_s, payload=failure)

    def _verdict(self, run: Run, code: str, *, delay_s: float = 0, payload: bytes = b"", children: tuple[NewJob, ...] = ()) -> Verdict:
        elapsed_ms = (time.monotonic() - run.started_s) * 1000
        self._running.processed += code in "cf"
        self._running.busy_ms += elapsed_ms
        delay_ms = math.ceil(delay_s * 1000)
        pickup = stats.bucket(run.started_ms - run.ready_ms)
        label = f"{run.queue}|{run.actor.name}"
        return Verdict(run.queue, run.id, run.token, code, delay_ms, payload, label, pickup, stats.bucket(elapsed_ms), children)


class _NoteSender:
    """Puts a note at once for the first word of a run, then at most one for each pause; callable from threads."""

    __slots__ = ("_loop", "_put", "_run", "_scheduled")

    def __init__(self, run: Run, put: Callable[[Verdict], None]) -> None:
        self._run = run
        self._put = put
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._scheduled = False

    def __call__(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._loop.call_later, NOTE_PAUSE_S, self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self._run.task is not None and not self._run.task.done() and self._run.context is not None:
            self._put(note(self._run, self._run.context))


def note(run: Run, context: Context[Any]) -> Verdict:
    """Return the note of what a run said of itself so far."""
    payload = orjson.dumps({"done": context.done, "message": context.message, "log": context.lines})
    return Verdict(run.queue, run.id, run.token, "n", 0, payload, "", "", "")


def failure_json(actor: str, error: BaseException) -> bytes:
    """Return an error as it is stored: actor, qualified type, text and traceback, bounded."""
    if isinstance(error, RemoteFailure):
        parts = (error.type, error.message, error.traceback)
    else:
        lines = traceback.format_exception(type(error), error, _own_frames_skipped(error))
        parts = (type_name(error), str(error), "".join(lines))
    kind, message, trace = (
        text if len(text) <= TEXT_MAX_CHARS else f"{text[: TEXT_MAX_CHARS // 2]}\n[...]\n{text[-TEXT_MAX_CHARS // 2 :]}" for text in parts
    )
    failure = {"actor": actor, "type": kind, "message": message, "traceback": trace}
    return orjson.dumps({name: text.encode("utf-8", "replace").decode() for name, text in failure.items()})


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's type, without `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def describe(error: BaseException) -> str:
    """Return an exception in one line."""
    return error.describe() if isinstance(error, RemoteFailure) else f"{type_name(error)}: {error}"


def _own_frames_skipped(error: BaseException) -> Any:
    """Return the traceback from the first frame that is not of this package, so that people see their own code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(PACKAGE) and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


async def through(middleware: Sequence[Any], context: Context[Any], call: Callable[[], Awaitable[Any]]) -> Any:
    """Call through middleware, the first listed outermost."""
    for layer in reversed(middleware):
        call = _Layer(layer, context, call)
    return await call()


class _Layer:
    """One middleware around what it calls next."""

    __slots__ = ("_context", "_layer", "_next")

    def __init__(self, layer: Any, context: Context[Any], next_call: Callable[[], Awaitable[Any]]) -> None:
        self._layer = layer
        self._context = context
        self._next = next_call

    def __call__(self) -> Awaitable[Any]:
        return self._layer(self._context, self._next)  # type: ignore[no-any-return]
