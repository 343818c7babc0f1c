"""Actors that compute: one at a time in a process, which is killed when its run is cancelled.

anyio starts and reuses the processes. What travels is the actor's module and name (of this worker's own declarations), JSON, and where
there is tracing the text of a trace's context.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
import anyio.to_process

from ..actor import Actor, Actors
from ..context import Context, CurrentJob, enter
from ..retry import Retry, Snooze
from .failure import ProcessDied, RemoteFailure, hopeless, text_of, traceback_of, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

Identity = tuple[str, str, int, float]


class Answer(NamedTuple):
    """What a process sends back: the encoded result, buffered messages as plain data, and what the run said of itself."""

    payload: bytes
    buffered: list[tuple[str, bytes, Any]]
    lines: tuple[str, ...]
    done: float | None
    message: str
    tokens_used: int | None


class ProcessPool:
    """As many processes as there are processors, shared by all process actors of a worker."""

    def __init__(self) -> None:
        """Start none yet."""
        self.size = os.cpu_count() or 1
        self._limiter: anyio.CapacityLimiter | None = None

    async def call(self, actor: Actor[..., Any], arguments: bytes, identity: Identity, trace: Mapping[str, str] | None) -> Answer:
        """Run an actor there, within the trace where one is given, and return what it answers. Raises what the actor raised."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.size)
        function = actor.function
        try:
            answer = await anyio.to_process.run_sync(
                execute,
                function.__module__,
                function.__qualname__,
                actor.name,
                arguments,
                identity,
                trace,
                cancellable=True,
                limiter=self._limiter,
            )
        except anyio.BrokenWorkerProcess as error:
            message = f"the process of actor {actor.name} ended while it ran the job{_ending(error)}"
            raise ProcessDied(message) from error
        kind, *parts = answer
        if kind == "ok":
            return Answer(*parts)
        if kind == "retry":
            raise Retry(parts[0], after=parts[1], gate=parts[2])
        if kind == "snooze":
            raise Snooze(parts[0])
        raise RemoteFailure(*parts[:3], hopeless=parts[3])


def _ending(error: BaseException) -> str:
    """Return how a process ended: by which signal, or with which exit code. anyio has waited for it, and tells nobody."""
    trace = error.__traceback__
    while trace is not None:
        code: int | None = getattr(trace.tb_frame.f_locals.get("process"), "returncode", None)
        if code is not None:
            return f", by {signal.Signals(-code).name}" if code < 0 else f", with exit code {code}"
        trace = trace.tb_next
    return ""


def execute(
    module: str, qualname: str, name: str, arguments: bytes, identity: Identity, trace: Mapping[str, str] | None
) -> tuple[Any, ...]:
    """Run in the process: find the actor where it is declared, call it, and answer in plain data that always unpickles."""
    actor = find(module, qualname, name)
    job_id, queue, attempt, deadline_ms = identity
    context: Context[None] = Context(CurrentJob(job_id, name, queue), attempt, None, deadline_ms=deadline_ms)
    enter(context)
    if trace is None:
        return _answered(actor, arguments, context)
    from ..tracing import continued  # noqa: PLC0415 - loads opentelemetry, which only a worker with tracing is sure to have

    with continued(trace):
        return _answered(actor, arguments, context)


def _answered(actor: Actor[..., Any], arguments: bytes, context: Context[None]) -> tuple[Any, ...]:
    try:
        result = actor.function(**actor.signature.decode(arguments))
        payload = actor.signature.result.encode(result)
    except Retry as verdict:
        return ("retry", text_of(verdict), verdict.after_s, verdict.gate)
    except Snooze as verdict:
        return ("snooze", verdict.delay_s)
    except BaseException as error:  # noqa: BLE001 - an actor may raise anything, and not everything unpickles
        return ("error", type_name(error), text_of(error), traceback_of(error), hopeless(error))
    buffered = [(message.actor.name, message.arguments, message.options) for message in context.buffered]
    return ("ok", payload, buffered, context.lines, context.done, context.message, context.tokens_used)


def find(module: str, qualname: str, name: str) -> Actor[..., Any]:
    """Return an actor by the place of its function, or by its name in the module's groups and runtimes."""
    if module not in sys.modules:
        importlib.import_module(module)
    found: object = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Actor):
        return cast("Actor[..., Any]", found)
    for group in vars(sys.modules[module]).values():
        if isinstance(group, Actors) and name in group.registered:
            return group.registered[name]
    message = f"process actor {name} must be importable: declare it at the top level of its module, not inside a function"
    raise TypeError(message)
