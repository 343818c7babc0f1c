"""Traces reach actors in a process: the run is current there, for as long as it lasts, and nothing is loaded where tracing is off."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from angelrt import Context, JobFailed, Runtime
from angelrt.tracing import Tracing
from tests.tidy.project import ROOT
from tests.unit.traced_actors import Found, group
from tests.unit.traces import Recorder, around, ids_of, parent_of, traceparent

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT_S: Final = 20


async def looked(rt: Runtime[Any]) -> Found:
    """Return what the actor finds in its process."""
    return Found(*await (await rt.send("looks", queue="looks")).result(RESULT_S))


async def test_the_run_is_current_in_a_process_and_what_happens_there_is_in_its_trace(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder
) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:
        rt.include(group)
        async with rt.worker() as worker:
            found = await looked(rt)
            await worker.wait_empty()
    run, child = recorder.one("run looks"), recorder.one("run follows")
    assert run.context.trace_id == recorder.one("send looks").context.trace_id
    assert found.current == traceparent(run)
    assert (found.is_remote, found.is_recording) == (True, False), "the worker is who exports it"
    assert found.parents == [traceparent(run)]
    assert (child.context.trace_id, parent_of(child)) == ids_of(run)
    assert not found.was_current_at_import, "what a module sets up belongs to no run"


async def test_a_span_of_middleware_is_current_in_a_process_and_its_baggage_is_not(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder
) -> None:
    async def wraps(context: Context[Any], call_next: Any) -> Any:
        otel.attach(baggage.set_baggage("customer", "Ada"))
        with recorder.tracer_provider.get_tracer("app").start_as_current_span(f"around {context.job.actor}"):
            return await call_next()

    async with new_runtime(tracing=recorder.tracing(), middleware=[wraps]) as rt:
        rt.include(group)
        async with rt.worker():
            found = await looked(rt)
    assert found.current == traceparent(recorder.one("around looks"))
    assert found.baggage == []


async def test_a_tracestate_reaches_a_process(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:
        rt.include(group)
        token = otel.attach(around({"vendor": "x"}))
        async with rt.worker():
            found = await looked(rt)
        otel.detach(token)
    assert (found.current, found.state) == (traceparent(recorder.one("run looks")), "vendor=x")


async def test_a_trace_that_is_not_sampled_is_not_recorded_in_a_process_either(new_runtime: Callable[..., Runtime[Any]]) -> None:
    async with new_runtime(tracing=Tracing(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))) as rt:
        rt.include(group)
        async with rt.worker():
            found = await looked(rt)
    assert found.current.endswith(("-00", "-02"))
    assert found.parents == []


@pytest.mark.parametrize("path", ["", "no such file"], ids=["completes", "fails"])
async def test_a_run_leaves_no_trace_in_its_process(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder, path: str) -> None:
    async with new_runtime(tracing=recorder.tracing()) as traced, new_runtime() as plain:
        traced.include(group)
        plain.include(group)
        async with traced.worker(concurrency=1):
            before = await looked(traced)
            job = await traced.send("looks", {"path": path}, queue="looks")
            with pytest.raises(JobFailed) if path else nullcontext():
                await job.result(RESULT_S)
        async with plain.worker(concurrency=1):
            after = await looked(plain)
    assert before.current
    assert (after.pid, after.current) == (before.pid, "")


async def test_without_any_trace_a_process_has_none(new_runtime: Callable[..., Runtime[Any]]) -> None:
    async with new_runtime(tracing=True) as rt:
        rt.include(group)
        async with rt.worker():
            assert (await looked(rt)).current == ""


OFF: Final = """
import asyncio, json, sys
from angelrt import Runtime
from tests.worker.actors import group
rt = Runtime(sys.argv[1], namespace=sys.argv[2])
rt.include(group)

async def main() -> None:
    async with rt, rt.worker():
        print(json.dumps(await (await rt.send("loaded", {"names": ["angelrt", "angelrt.tracing"]})).result(20)))

asyncio.run(main())
"""


async def test_off_means_that_a_process_loads_nothing_of_it(new_runtime: Callable[..., Runtime[Any]]) -> None:
    rt = new_runtime()
    command = [sys.executable, "-c", OFF, rt.url or "", rt.keys.namespace]
    answer = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(answer.stdout) == ["angelrt"]
