"""A process actor that tells what it finds of a trace; it exports its spans by itself, as such actors do."""

from __future__ import annotations

import os
from typing import NamedTuple

from opentelemetry import baggage, trace

from angelrt import Actors, Context, RetryPolicy
from tests.unit.traces import Recorder, written

group = Actors()
recorder = Recorder.new()
at_import = trace.get_current_span()


class Found(NamedTuple):
    """What a process sees: the current span as W3C writes it, and the parent of the span that its own provider has exported."""

    pid: int
    current: str
    state: str
    is_recording: bool
    is_remote: bool
    parents: list[str]
    baggage: list[str]
    was_current_at_import: bool


@group.process_actor(queue="looks", retry=RetryPolicy(attempts=1))
def looks(path: str = "") -> Found:
    """Send a child within a span, then tell what is current; `path` is a file to be read."""
    recorder.spans.clear()
    with recorder.tracer_provider.get_tracer("app").start_as_current_span("computes"):
        Context.current().send(follows.message())
    if path:
        raise FileNotFoundError(path)
    span = trace.get_current_span()
    told = span.get_span_context()
    parents = [written(own.parent) for own in recorder.named("computes") if own.parent]
    imported = at_import.get_span_context().is_valid
    state = told.trace_state.to_header()
    return Found(os.getpid(), written(told), state, span.is_recording(), told.is_remote, parents, [*baggage.get_all()], imported)


@group.actor(queue="follows")
async def follows() -> None:
    """Be sent by a process."""
