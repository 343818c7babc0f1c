"""What a job carries of a trace, what is measured, and how tracing is set."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import context as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from opentelemetry.trace import StatusCode

from angelrt import ConfigError, Context, Draining, RetryPolicy, Runtime
from angelrt import tracing as traced
from angelrt.tracing import Tracing
from tests.unit.traces import Recorder, around, ids_of, meta_of

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT_S: Final = 20
CARD: Final = "4111-1111"
AGAIN: Final = RetryPolicy(attempts=2, base=0)


# -- what is carried ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "carried"), [({"vendor": "x"}, "vendor=x"), ({"vendor": "x" * 256}, None)])
async def test_a_short_tracestate_is_carried(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder, state: dict[str, str], carried: str | None
) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works() -> None:
            """Do nothing."""

        token = otel.attach(around(state))
        job = await works.send()
        otel.detach(token)
        assert (await meta_of(rt, job.id)).get("s") == carried
        async with rt.worker():
            await job.result(RESULT_S)
    run = recorder.one("run default")
    assert run.context.trace_id == 0xABC
    assert run.context.trace_state.to_header() == (carried or "")


async def test_a_trace_that_is_not_sampled_is_carried_and_not_recorded(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder
) -> None:
    unsampled = TracerProvider(sampler=ALWAYS_OFF)
    async with new_runtime(tracing=Tracing(tracer_provider=unsampled)) as sender, new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(name="works")
        async def works() -> None:
            """Do nothing."""

        async with rt.worker():
            job = await sender.send("works")
            await job.result(RESULT_S)
        assert (await meta_of(rt, job.id))["w"].endswith(("-00", "-02"))
    assert recorder.spans.get_finished_spans() == ()


HOSTILE: Final = [1, None, [], {}, "", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "é" * 600]


@pytest.mark.parametrize("told", HOSTILE, ids=repr)
async def test_a_broken_context_harms_no_run(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    tracing = recorder.tracing()
    async with new_runtime(tracing=tracing) as rt:

        @rt.actor()
        async def works() -> str:
            return "done"

        monkeypatch.setattr(tracing, "carried", lambda *_: {"w": told, "s": told})
        async with rt.worker():
            assert await (await works.send()).result(RESULT_S) == "done"
    assert ids_of(recorder.one("wait default"))[0] == recorder.one("run default").context.trace_id


async def test_a_broken_tracestate_costs_no_trace(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = recorder.tracing()
    async with new_runtime(tracing=tracing) as rt:

        @rt.actor()
        async def works() -> None:
            """Do nothing."""

        monkeypatch.setattr(tracing, "carried", lambda *_: {"w": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "s": "no=\0,,=state"})
        async with rt.worker():
            await (await works.send()).result(RESULT_S)
    assert f"{recorder.one('run default').context.trace_id:x}" == "a" * 32


async def test_baggage_stays_where_it_is(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    from opentelemetry import baggage  # noqa: PLC0415 - of this test alone

    seen: list[Any] = []
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works() -> None:
            seen.append(dict(baggage.get_all()))

        token = otel.attach(baggage.set_baggage("customer", CARD))
        async with rt.worker():
            job = await works.send()
            await job.result(RESULT_S)
            assert set(await meta_of(rt, job.id)) == {"w"}
        otel.detach(token)
    assert seen == [{}]


# -- refusals, measurements --------------------------------------------------------------------------------------------------------


async def test_a_send_that_is_refused_is_an_error_of_its_type(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works(what: str) -> str:
            return what

        await rt.control.drain(queue="default", by="ann")
        with pytest.raises(Draining):
            await works.send(CARD)
    send = recorder.one("send default")
    assert (send.status.status_code, send.status.description, send.events) == (StatusCode.ERROR, None, ())
    assert (send.attributes or {})["error.type"] == "angelrt.errors.Draining"
    for name in ("messaging.client.sent.messages", "messaging.client.operation.duration"):
        [point] = recorder.points()[name]
        assert point.attributes["error.type"] == "angelrt.errors.Draining"


async def test_measurements_are_those_of_the_conventions(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(queue="mail", retry=AGAIN)
        async def works() -> None:
            if Context.current().attempt == 1:
                raise LookupError(CARD)

        async with rt.worker():
            await (await works.send()).result(RESULT_S)
        await rt.send_many([works.message()])
    points = recorder.points()
    assert set(points) == {
        messaging_metrics.MESSAGING_CLIENT_SENT_MESSAGES,
        messaging_metrics.MESSAGING_CLIENT_CONSUMED_MESSAGES,
        messaging_metrics.MESSAGING_CLIENT_OPERATION_DURATION,
        messaging_metrics.MESSAGING_PROCESS_DURATION,
    }
    common = {"messaging.system": "angelrt", "messaging.destination.name": "mail"}
    [sent] = points["messaging.client.sent.messages"]
    assert (sent.value, dict(sent.attributes)) == (
        2,
        {**common, "messaging.operation.name": "send", "messaging.operation.type": "send"},
    )
    of_run = {**common, "messaging.operation.name": "run", "messaging.operation.type": "process", "angelrt.actor": works.name}
    [consumed] = points["messaging.client.consumed.messages"]
    assert dict(consumed.attributes) == of_run
    assert consumed.value == 2
    failed, completed = sorted(points["messaging.process.duration"], key=lambda point: "error.type" not in point.attributes)
    assert (failed.count, dict(failed.attributes)) == (1, {**of_run, "error.type": "LookupError"})
    assert dict(completed.attributes) == of_run
    assert tuple(completed.explicit_bounds) == traced.DURATIONS_S
    units = {
        metric.name: (metric.unit, type(metric.data).__name__)
        for scope in (recorder.reader.get_metrics_data() or pytest.fail("nothing recorded")).resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert set(units.values()) == {("{message}", "Sum"), ("s", "Histogram")}


def test_names_are_those_of_the_conventions() -> None:
    known = {value for module in (messaging_attributes, error_attributes) for name, value in vars(module).items() if name.isupper()}
    used = {
        getattr(traced, name)
        for name in ("SYSTEM", "OPERATION", "OPERATION_TYPE", "DESTINATION", "MESSAGE_ID", "BATCH_COUNT", "ERROR_TYPE")
    }
    assert len(used) == 7
    assert used <= known
    assert {traced.ACTOR, traced.ATTEMPT, traced.OUTCOME} & known == set()
    assert set(traced.TYPES.values()) <= {value.value for value in messaging_attributes.MessagingOperationTypeValues}
    exceptions = {value for name, value in vars(exception_attributes).items() if name.isupper()}
    assert {"exception.type", "exception.message", "exception.stacktrace"} <= exceptions


# -- the setting -------------------------------------------------------------------------------------------------------------------


async def test_without_providers_nothing_is_recorded_and_jobs_run(new_runtime: Callable[..., Runtime[Any]]) -> None:
    async with new_runtime(tracing=True) as rt:

        @rt.actor()
        async def works() -> str:
            return "done"

        async with rt.worker():
            job = await works.send()
            assert await job.result(RESULT_S) == "done"
        assert await meta_of(rt, job.id) == {}


def test_what_is_no_setting_is_refused() -> None:
    given: Any = "yes"
    with pytest.raises(ConfigError, match=r"tracing is True, False or a Tracing\(...\) of angelrt.tracing, not 'yes'"):
        Runtime(tracing=given)


BLOCKED: Final = """
import json, sys
sys.modules["opentelemetry"] = None
import angelrt
try:
    angelrt.Runtime(tracing=True)
except angelrt.ConfigError as error:
    print(json.dumps(str(error)))
"""


def test_the_extra_that_is_missing_is_named() -> None:
    answer = subprocess.run([sys.executable, "-W", "error", "-c", BLOCKED], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout) == "angelrt.tracing needs opentelemetry-api: pip install 'angelrt[otel]'"


OFF: Final = """
import asyncio, sys
from angelrt import Runtime
rt = Runtime(sys.argv[1], namespace=sys.argv[2])

@rt.actor()
async def works() -> None: ...

async def main() -> None:
    async with rt, rt.worker():
        await (await works.send()).result(20)
        print(type(rt.client()).__name__, "angelrt.tracing" in sys.modules)

asyncio.run(main())
"""


async def test_off_means_that_nothing_of_it_is_loaded(new_runtime: Callable[..., Runtime[Any]]) -> None:
    rt = new_runtime()
    command = [sys.executable, "-c", OFF, rt.url or "", rt.keys.namespace]
    answer = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    assert answer.stdout == "Client False\n"
