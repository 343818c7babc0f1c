"""Spans and measurements by OpenTelemetry's conventions for messaging (extra `otel`).

The context of a trace travels in the record of a job, as W3C's traceparent, so that a send, each wait and each run are one trace. Of a job,
only its id, its queue, its actor and how a run ended are told.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from .errors import ConfigError

try:
    from opentelemetry import context as current
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as missing:
    NEEDED = "angelrt.tracing needs opentelemetry-api: pip install 'angelrt[otel]'"
    raise ConfigError(NEEDED) from missing

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from .store import Verdict
    from .worker.running import Run

NAME: Final = "angelrt"
SYSTEM, OPERATION, OPERATION_TYPE = "messaging.system", "messaging.operation.name", "messaging.operation.type"
DESTINATION, MESSAGE_ID, BATCH_COUNT = "messaging.destination.name", "messaging.message.id", "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
ACTOR, ATTEMPT, OUTCOME = "angelrt.actor", "angelrt.attempt", "angelrt.outcome"
TYPES: Final = {"create": "create", "send": "send", "run": "process"}
"""The conventions' type of each operation; waiting has none."""
DURATIONS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The bounds that the conventions advise for durations."""
CARRIED: Final = {"traceparent": "w", "tracestate": "s"}
"""The words under which a trace's context stands in the meta of a record."""
STATE_MAX_CHARS: Final = 256
"""A longer tracestate is left out, as W3C permits: it would be stored with each job."""
OUTCOMES: Final = {
    "c": "completed", "f": "failed", "g": "failed", "r": "retried", "d": "retried", "k": "cancelled", "s": "snoozed", "x": "released",
}  # fmt: skip
LOST: Final = "lost"
"""The outcome of a run without a verdict: its lease is lost, and another run decides."""
FAILURES: Final = "fgrd"

_propagator: Final = TraceContextTextMapPropagator()


class Tracing:
    """What `Runtime(tracing=...)` takes; `tracing=True` is the same as `Tracing()`.

    The providers are those that the application has set for its process, unless others are given; without any, nothing is recorded.
    `error_texts=True` records the text and the traceback of an error with the span of its run; else its type alone, since a text may quote
    the data of a job. Arguments, results and tenants are never recorded.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        error_texts: bool = False,
    ) -> None:
        """Make the instruments; they record once a provider is there."""
        self.error_texts = error_texts
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs that were to be sent.")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Runs of jobs that began.")
        self._operation, self._process = (
            meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=DURATIONS_S)
            for name, description in (
                ("messaging.client.operation.duration", "How long sends took."),
                ("messaging.process.duration", "How long runs of jobs took."),
            )
        )

    # -- in what sends -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def sending(self, actor: str, queue: str, sent: Counter[str]) -> Generator[SendSpan]:
        """Yield the span of a send, which is current in it; `sent` counts its jobs by queue. `actor` and `queue` are '' for many jobs."""
        attributes = _attributes("send", queue, actor)
        started_s, failed = time.monotonic(), dict[str, str]()
        name = f"send {queue}" if queue else "send"
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.PRODUCER, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield SendSpan(span)
            except Exception as error:
                failed = {ERROR_TYPE: _type_name(error)}
                span.set_status(StatusCode.ERROR)
                span.set_attributes(failed)
                raise
            finally:
                self._operation.record(time.monotonic() - started_s, {**attributes, **failed})
                self._count_sent(sent, failed)

    def carried(self, actor: str, queue: str) -> dict[str, str]:
        """Return what a job carries of the current trace, as meta of its record; where there is none (a schedule), it begins here."""
        context = current.get_current()
        if not trace.get_current_span(context).get_span_context().is_valid:
            span = self._tracer.start_span(f"create {queue}", kind=SpanKind.PRODUCER, attributes=_attributes("create", queue, actor))
            span.end()
            context = trace.set_span_in_context(span, context)
        return _written(context)

    def _count_sent(self, sent: Mapping[str, int], failed: Mapping[str, str]) -> None:
        for queue, number in sent.items():
            self._sent.add(number, {**_attributes("send", queue), **failed})

    # -- in a worker ---------------------------------------------------------------------------------------------------------------

    def begun(self, run: Run) -> RunSpan:
        """Record how long a job has waited, begin the span of its run, and make it current in the task that calls."""
        now_ns = time.time_ns()
        named: dict[str, str | int] = {MESSAGE_ID: run.id, ATTEMPT: run.attempt}
        queue, actor, parent = run.queue, run.actor.name, _parent(run.meta)
        ready_ns = now_ns - max(round((run.started_ms - run.ready_ms) * 1e6), 0)
        wait = self._tracer.start_span(
            f"wait {queue}", parent, attributes={**_attributes("wait", queue, actor), **named}, start_time=ready_ns
        )
        wait.end(now_ns)
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = trace.set_span_in_context(wait, parent)
        attributes = _attributes("run", queue, actor)
        span = self._tracer.start_span(f"run {queue}", parent, SpanKind.CONSUMER, {**attributes, **named}, start_time=now_ns)
        current.attach(trace.set_span_in_context(span, parent))
        self._consumed.add(1, attributes)
        return RunSpan(self, span, attributes, time.monotonic())

    def for_process(self) -> dict[str, str] | None:
        """Return what a run's process is told of the current trace, for `continued`; None where there is none."""
        return _written(current.get_current()) or None

    def ended(self, run: RunSpan, verdict: Verdict | None) -> None:
        """End the span of a run as its verdict says, and record how long it took."""
        failed = self._failure(run.span, verdict.payload) if verdict is not None and verdict.code in FAILURES else {}
        run.span.set_attribute(OUTCOME, OUTCOMES[verdict.code] if verdict else LOST)
        run.span.end()
        self._process.record(time.monotonic() - run.began_s, {**run.attributes, **failed})
        if verdict is not None and verdict.children:
            self._count_sent(Counter(child.queue for child in verdict.children), {})

    def _failure(self, span: Span, stored: bytes) -> dict[str, str]:
        failure: dict[str, str] = orjson.loads(stored)
        failed = {ERROR_TYPE: failure["type"]}
        span.set_status(StatusCode.ERROR)
        span.set_attributes(failed)
        if self.error_texts:
            parts = {"type": failure["type"], "message": failure["message"], "stacktrace": failure["traceback"]}
            span.add_event("exception", {f"exception.{name}": text for name, text in parts.items()})
        return failed


@dataclass(frozen=True, slots=True)
class SendSpan:
    """The span of one send."""

    span: Span

    def is_of(self, job_id: str) -> None:
        """Note which job was sent."""
        self.span.set_attribute(MESSAGE_ID, job_id)

    def is_of_many(self, sent: Mapping[str, int]) -> None:
        """Note how many jobs were sent, and where to if all went into one queue."""
        self.span.set_attribute(BATCH_COUNT, sum(sent.values()))
        if len(sent) == 1:
            [queue] = sent
            self.span.set_attribute(DESTINATION, queue)
            self.span.update_name(f"send {queue}")


@dataclass(frozen=True, slots=True)
class RunSpan:
    """The span of one run, from the call of its actor to its verdict."""

    tracing: Tracing
    span: Span
    attributes: Mapping[str, str]
    began_s: float

    def end(self, verdict: Verdict | None) -> None:
        """End as the verdict says; None is a run whose lease is lost."""
        self.tracing.ended(self, verdict)


@contextmanager
def continued(told: Mapping[str, str]) -> Generator[None]:
    """Be in a trace that was written down elsewhere, for one run of a process, which is used again for others."""
    token = current.attach(_parent(told))
    try:
        yield
    finally:
        current.detach(token)


def _written(context: Context) -> dict[str, str]:
    """Return the trace of a context as `_parent` reads it; nothing of its baggage."""
    told: dict[str, str] = {}
    _propagator.inject(told, context)
    return {CARRIED[name]: text for name, text in told.items() if len(text) <= STATE_MAX_CHARS}


def _attributes(operation: str, queue: str, actor: str = "") -> dict[str, str]:
    """Return what every span and measurement of an operation says; what is '' is left out."""
    told = {SYSTEM: NAME, OPERATION: operation, OPERATION_TYPE: TYPES.get(operation, ""), DESTINATION: queue, ACTOR: actor}
    return {name: text for name, text in told.items() if text}


def _parent(meta: Mapping[str, Any]) -> Context:
    """Return the context that a job carries, an empty one for none; never what happens to be current in the worker."""
    told = {name: text for name, word in CARRIED.items() if isinstance(text := meta.get(word), str)}
    return _propagator.extract(told, Context())


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
