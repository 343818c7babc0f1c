"""One run, from its delivery to its verdict, in named steps: decode, call, encode, judge. Touches no Redis."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from .. import stats
from ..context import Context, CurrentJob, Middleware, enter
from ..eager import begin
from ..errors import InvalidArguments, InvalidOptions
from ..retry import Fail, Retry, Snooze
from ..store import Verdict
from .failure import Poison, ProcessDied, Timeout, WorkerLost, describe, failure_json, hopeless
from .process import ProcessPool
from .running import DEATHS_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..actor import Message
    from ..new_jobs import NewJob
    from ..tracing import Tracing
    from .running import Run, Running

log = logging.getLogger("angelrt.worker")

NOTE_PAUSE_S: Final = 0.5
"""A run's notes (progress, log) are written at most this often, and once more when it ends."""
QUEUED_MAX_S: Final = 0.05
"""What was claimed ahead and has not started after this goes back to its queue."""
NOTHING: Final = b"null"


class Runner:
    """Turns runs into verdicts. `put` takes each verdict, `begun` hears of each call, `new_job` gives the stored form of a message."""

    def __init__(
        self,
        running: Running,
        put: Callable[[Verdict], None],
        *,
        begun: Callable[[Run], None],
        new_job: Callable[[Message[Any]], NewJob],
        middleware: Sequence[Middleware],
        threads: int,
        state: Any,
        base: contextvars.Context,
        rebuild: Callable[[tuple[str, bytes, Any]], Message[Any]],
        gates_of: Callable[[Run], list[str]] | None,
        tracing: Tracing | None,
    ) -> None:
        """Keep the collaborators.

        `base` is the context of variables that each run starts from, in a copy of its own; `gates_of` gives the gates of a run, None where
        no limit is declared.
        """
        self._running = running
        self._put = put
        self._new_job = new_job
        self._middleware = middleware
        self._begun = begun
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="angelrt actor")
        self._processes = ProcessPool()
        self._places = {"thread": asyncio.Semaphore(threads), "process": asyncio.Semaphore(self._processes.size)}
        self._loop = asyncio.get_running_loop()
        self._queue_alarm: asyncio.TimerHandle | None = None
        self._state = state
        self._base = base
        self._rebuild = rebuild
        self._gates_of = gates_of
        self._tracing = tracing
        self._starts = False

    def start(self, run: Run) -> None:
        """Start a run, or queue it until a slot is free. One that was sent without its gates goes back, with them."""
        self._running.lease(run)
        try:
            flow = self._missing_gates(run, self._gates_of) if self._gates_of else ""
        except (InvalidArguments, InvalidOptions) as error:
            log.error("%s: job %s can have no gate, so it fails: %s", run.actor.name, run.id, error)  # noqa: TRY400 - the words say it all
            self._put(self._verdict(run, "g", payload=failure_json(run.actor.name, error)))
            return
        if flow:
            self._put(self._verdict(run, "w", payload=flow.encode()))
            return
        if not self._running.queued:
            self._loop.call_soon(self.start_queued)  # all of one claim, once the next one is on its way
        self._running.queued.append(run)

    def start_queued(self) -> None:
        """Start what waits, as far as slots are free: each run as a task of its own, in a fresh copy of the base context."""
        running = self._running
        self._starts = True
        try:
            while running.queued and len(running.slots) < running.concurrency:
                run = running.queued.popleft()
                if run.why_cancelled:
                    self._conclude(run, self._verdict_of(run, asyncio.CancelledError()))
                else:
                    running.slots.add(run)
                    run.task = begin(self._execute(run), loop=self._loop, context=self._base.copy())
        finally:
            self._starts = False
        running.look_for_room()
        if running.queued and self._queue_alarm is None:
            self._queue_alarm = self._loop.call_later(QUEUED_MAX_S, self._check_queue)

    def _missing_gates(self, run: Run, gates_of: Callable[[Run], list[str]]) -> str:
        """Return the whole flow of a job whose sender did not know all limits of its actor and queue; '' for a job that has its gates.

        Raises InvalidArguments and InvalidOptions for a job that can have none, and would evade the limits.
        """
        has = {item.partition("*")[0] for item in run.flow.split(",")}
        missing = [gate for gate in gates_of(run) if gate.partition("*")[0] not in has]
        return ",".join([*missing, run.flow] if run.flow != "-" else missing) if missing else ""

    def _check_queue(self) -> None:
        """Hand back what was claimed ahead and could not start soon after all: other workers may be idle."""
        self._queue_alarm = None
        queued = self._running.queued
        if not queued:
            return
        waited_s = time.monotonic() - queued[0].started_s
        if waited_s >= QUEUED_MAX_S:
            self._running.slow_down()
            self.hand_back_queued()
        else:
            self._queue_alarm = self._loop.call_later(QUEUED_MAX_S - waited_s, self._check_queue)

    def hand_back_queued(self) -> None:
        """Hand back what has not started: no attempt is charged for it."""
        queued = self._running.queued
        while queued:
            self._put(self._verdict(queued.popleft(), "x"))

    def close(self) -> None:
        """Let the threads go; one that hangs is left behind. anyio ends the processes with the event loop."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _execute(self, run: Run) -> None:
        run.task = asyncio.current_task()  # whoever began it does not have it yet
        context = run.context = Context(CurrentJob(run.id, run.actor.name, run.queue), run.attempt, self._state, on_note=self._noted)
        enter(context)
        try:
            if run.why_cancelled or run.deaths or run.attempt > run.attempts_max:
                _check_may_begin(run)
            payload = await self._called(run, context)
            children = tuple(map(self._new_job, context.buffered)) if context.buffered else ()
            verdict: Verdict | None = self._verdict(run, "c", payload=payload, children=children)
        except BaseException as error:  # noqa: BLE001 - an actor may raise anything; the worker must outlive it
            verdict = self._judged(run, error)
        finally:
            self._ended(run)
        if context.done is not None or context.lines:
            self._put(note(run, context))
        if run.span is not None:
            run.span.end(verdict)
        self._conclude(run, verdict)

    def _conclude(self, run: Run, verdict: Verdict | None) -> None:
        if verdict is None:
            self._running.settled(run.id, run.token)
        else:
            self._put(verdict)

    def _judged(self, run: Run, error: BaseException) -> Verdict | None:
        """Return the verdict of a run that raised; None when its lease is lost, since then nothing may be written."""
        try:
            return self._verdict_of(run, error)
        except Exception as second:
            log.exception("%s: job %s could not be judged", run.actor.name, run.id)
            return self._verdict(run, "f", payload=failure_json(run.actor.name, second))

    async def _called(self, run: Run, context: Context[Any]) -> bytes:
        """Wait for a thread or process where the actor needs one, then decode, call and encode; from here the run's timeout counts."""
        kind = run.actor.definition.kind
        place = self._places.get(kind)
        if place is not None:
            await place.acquire()
        try:
            run.begin()
            context.deadline_ms = run.started_ms + run.timeout_s * 1000
            self._begun(run)
            if self._tracing is not None:
                run.span = self._tracing.begun(run)
            signature = run.actor.signature
            arguments = {} if kind == "process" else signature.decode(run.arguments)
            if self._middleware:
                result = await through(self._middleware, context, partial(self._call, run, context, arguments))
            elif kind == "process":
                return await self._in_process(run, context)
            else:
                result = await self._call(run, context, arguments)
            return NOTHING if result is None and signature.may_return_none else signature.result.encode(result)
        finally:
            if place is not None and not run.hangs:
                place.release()

    def _call(self, run: Run, context: Context[Any], arguments: dict[str, Any]) -> Awaitable[Any]:
        kind = run.actor.definition.kind
        if kind == "process":
            return self._value_from_process(run, context)
        if kind == "thread":
            return self._in_thread(run, arguments)
        return run.actor.function(**arguments)  # type: ignore[no-any-return]

    async def _in_thread(self, run: Run, arguments: dict[str, Any]) -> Any:
        """Call in a thread. A thread cannot be killed: at the timeout the verdict is written, and thread and slot stay occupied."""
        variables = contextvars.copy_context()
        future = self._loop.run_in_executor(self._threads, partial(_in_variables, variables, run.actor.function, arguments))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                log.warning("%s: the thread of job %s goes on after %s and keeps its slot", run.actor.name, run.id, run.why_cancelled)
                run.hangs = True
                occupied = replace(run, task=None)
                self._running.slots.add(occupied)
                future.add_done_callback(lambda _: self._thread_ended(occupied))
            raise

    def _ended(self, run: Run) -> None:
        self._running.end(run)
        if not self._starts:  # else it has ended in its first step, and the loop that started it goes on
            self.start_queued()

    def _thread_ended(self, occupied: Run) -> None:
        self._places["thread"].release()
        self._ended(occupied)

    async def _in_process(self, run: Run, context: Context[Any]) -> bytes:
        """Call in a process, which decodes and encodes on its side; what it said of itself arrives with its result."""
        identity = (run.id, run.queue, run.attempt, context.deadline_ms)
        trace = None if self._tracing is None else self._tracing.for_process()
        answer = await self._processes.call(run.actor, run.arguments, identity, trace)
        context.buffered += tuple(map(self._rebuild, answer.buffered))
        context.lines += answer.lines
        context.done, context.message, context.tokens_used = answer.done, answer.message, answer.tokens_used
        return answer.payload

    async def _value_from_process(self, run: Run, context: Context[Any]) -> Any:
        return run.actor.signature.decode_result(await self._in_process(run, context))

    # -- notes -----------------------------------------------------------------------------------------------------------------------

    def _noted(self, context: Context[Any]) -> None:
        """Hear, from the loop or a thread, that a run said something; it is written soon, and not for each word."""
        if not context.note_scheduled:
            context.note_scheduled = True
            self._loop.call_soon_threadsafe(self._loop.call_later, NOTE_PAUSE_S, self._send_note, context)

    def _send_note(self, context: Context[Any]) -> None:
        context.note_scheduled = False
        run = self._running.leases.get(context.job.id)
        if run is not None and run.context is context and run in self._running.slots:
            self._put(note(run, context))

    # -- verdicts ------------------------------------------------------------------------------------------------------------------

    def _verdict_of(self, run: Run, error: BaseException) -> Verdict | None:
        if run.why_cancelled in ("lost", "shutdown") and not isinstance(error, Retry | Snooze | Fail):
            return None if run.why_cancelled == "lost" else self._verdict(run, "x")
        if run.why_cancelled == "cancelled":
            return self._verdict(run, "k")
        if isinstance(error, asyncio.CancelledError) and run.why_cancelled == "timeout":
            error = Timeout(f"ran longer than {run.timeout_s:g} s")
        if isinstance(error, Snooze):
            return self._verdict(run, "s", delay_s=error.delay_s)
        if isinstance(error, Poison | WorkerLost):
            return self._given_up(run, error)
        has_died = isinstance(error, ProcessDied)
        is_poison = has_died and run.process_deaths + 1 >= DEATHS_MAX
        if is_poison:
            error = ProcessDied(f"its process died {DEATHS_MAX} times in a row while it ran; at last {error}")
        failure = failure_json(run.actor.name, error)
        final = is_poison or run.attempt >= run.attempts_max or hopeless(error)
        log.log(
            logging.ERROR if final else logging.WARNING,
            "%s: job %s failed in attempt %d of %d: %s",
            *(run.actor.name, run.id, run.attempt, run.attempts_max, describe(error)),
            extra={"job_id": run.id, "actor": run.actor.name, "attempt": run.attempt},
        )
        after_s = error.after_s if isinstance(error, Retry) else None
        delay_s = run.actor.definition.retry.delay_s(run.attempt) if after_s is None else after_s
        verdict = self._verdict(run, "f" if final else "d" if has_died else "r", delay_s=delay_s, payload=failure)
        if is_poison:
            return replace(verdict, gates="p")
        return replace(verdict, gates=verdict.gates + "h") if isinstance(error, Retry) and error.gate else verdict

    def _given_up(self, run: Run, reason: Poison | WorkerLost) -> Verdict:
        log.error("%s: job %s failed: %s", run.actor.name, run.id, reason, extra={"job_id": run.id, "actor": run.actor.name})
        verdict = self._verdict(run, "g", payload=failure_json(run.actor.name, reason.with_traceback(None)))
        return replace(verdict, gates="p") if isinstance(reason, Poison) else verdict

    def _verdict(self, run: Run, code: str, *, delay_s: float = 0, payload: bytes = b"", children: tuple[NewJob, ...] = ()) -> Verdict:
        counters, gates = f"{run.queue}|{run.actor.name}", ""
        if run.begun:
            elapsed_ms = (time.monotonic() - run.started_s) * 1000
            self._running.busy_ms += elapsed_ms
            counters += stats.run_words(run.started_ms - run.ready_ms, elapsed_ms)
        if run.context is not None and run.context.tokens_used is not None:
            gates = f"u{run.context.tokens_used}"
        self._running.processed += code in "cfg"
        return Verdict(run.queue, run.id, run.token, code, math.ceil(delay_s * 1000), payload, counters, children, gates)


def _check_may_begin(run: Run) -> None:
    """Raise what keeps a run from being begun: CancelledError, Poison, WorkerLost."""
    if run.why_cancelled:
        raise asyncio.CancelledError
    if run.deaths >= DEATHS_MAX:
        message = f"its process died {run.deaths} times while it ran, the last times alone"
        raise Poison(message)
    # A death uses up no attempt; but what may run once only is not begun a second time.
    if run.attempt > run.attempts_max or (run.deaths and run.attempts_max == 1):
        message = f"its worker was lost in its last run, and its {run.attempts_max} attempts are used up"
        raise WorkerLost(message)


def note(run: Run, context: Context[Any]) -> Verdict:
    """Return the note of what a run said of itself so far."""
    payload = orjson.dumps({"done": context.done, "message": context.message, "log": context.lines})
    return Verdict(run.queue, run.id, run.token, "n", 0, payload, "")


def _in_variables(variables: contextvars.Context, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call in a thread; a StopIteration, which no future can carry, becomes a RuntimeError as in coroutines (PEP 479)."""
    try:
        return variables.run(function, **arguments)
    except StopIteration as error:
        message = "actor raised StopIteration"
        raise RuntimeError(message) from error


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
