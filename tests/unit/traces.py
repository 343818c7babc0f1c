"""Collects spans and measurements as an application does, and runtimes that leave nothing behind."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from angelrt import Runtime
from angelrt.job import read_record
from angelrt.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from opentelemetry.context import Context


@asynccontextmanager
async def runtimes(url: str, namespace: str) -> AsyncGenerator[Callable[..., Runtime[Any]]]:
    """Yield what makes runtimes of one namespace; afterwards it is removed."""
    yield lambda **options: Runtime(url, namespace=namespace, **options)
    async with Runtime(url, namespace=namespace) as rt:
        store = rt.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


class Recorder(NamedTuple):
    """What the SDK collected."""

    spans: InMemorySpanExporter
    tracer_provider: TracerProvider
    reader: InMemoryMetricReader
    meter_provider: MeterProvider

    @classmethod
    def new(cls) -> Self:
        """Begin with nothing."""
        spans, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        return cls(spans, provider, reader, MeterProvider([reader]))

    def tracing(self, **options: Any) -> Tracing:
        """Return a setting that records here."""
        return Tracing(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the finished spans of a name, in the order of their end."""
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        [span] = self.named(name)
        return span

    def points(self) -> dict[str, list[Any]]:
        """Return the measurements by instrument."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


async def meta_of(rt: Runtime[Any], job_id: str) -> dict[str, Any]:
    """Return the meta of a stored record."""
    [placed] = await rt.client().store.inspect([job_id])
    return read_record(placed.record).meta


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of a span's parent."""
    return span.parent.span_id if span.parent else None


def traceparent(span: ReadableSpan) -> str:
    """Return the context of a span as W3C writes it."""
    return written(span.context)


def written(context: SpanContext) -> str:
    """Return a context as W3C writes it; '' for none."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else ""


def around(state: Mapping[str, str], flags: int = 1) -> Context:
    """Return a context as a host has it that was called with trace headers."""
    told = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(flags), trace_state=TraceState(list(state.items())))
    return trace.set_span_in_context(NonRecordingSpan(told))


def ids_of(span: ReadableSpan) -> tuple[int, int]:
    """Return the ids of a span: of its trace, and its own."""
    return span.context.trace_id, span.context.span_id


def lasted_s(span: ReadableSpan) -> float:
    """Return how long a span lasted."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9
