"""Traces: the spans of jobs are as OpenTelemetry's conventions for messaging have them, and one trace holds all that belongs to a send."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from angelrt import Context, Fail, JobCancelled, JobFailed, RetryPolicy, Runtime, Snooze
from tests.unit.traces import Recorder, ids_of, lasted_s, meta_of, parent_of, traceparent
from tests.worker.actors import group

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT_S: Final = 20
CARD: Final = "4111-1111"
AGAIN: Final = RetryPolicy(attempts=2, base=0)


# -- one job -----------------------------------------------------------------------------------------------------------------------


async def test_a_send_its_wait_and_its_run_are_one_trace(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(queue="mail")
        async def works(address: str) -> str:
            return address

        async with rt.worker():
            job = await works.send(CARD)
            await job.result(RESULT_S)
    send, wait, run = recorder.one("send mail"), recorder.one("wait mail"), recorder.one("run mail")
    assert send.parent is None
    assert {span.context.trace_id for span in (wait, run)} == {send.context.trace_id}
    assert parent_of(wait) == parent_of(run) == send.context.span_id
    assert (send.kind, wait.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.INTERNAL, SpanKind.CONSUMER)
    common = {"messaging.system": "angelrt", "messaging.destination.name": "mail", "messaging.message.id": job.id}
    common["angelrt.actor"] = works.name
    assert dict(send.attributes or {}) == {**common, "messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert dict(wait.attributes or {}) == {**common, "messaging.operation.name": "wait", "angelrt.attempt": 1}
    ran = {"messaging.operation.name": "run", "messaging.operation.type": "process", "angelrt.attempt": 1, "angelrt.outcome": "completed"}
    assert dict(run.attributes or {}) == {**common, **ran}
    assert {span.status.status_code for span in (send, wait, run)} == {StatusCode.UNSET}


async def test_the_wait_is_from_ready_to_the_start_of_the_run(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works() -> None:
            """Do nothing."""

        job = await works.send()
        delayed = await works.options(delay=0.3).send()
        await asyncio.sleep(0.2)
        async with rt.worker():
            await job.result(RESULT_S)
            await delayed.result(RESULT_S)
    waits = {str((span.attributes or {})["messaging.message.id"]): span for span in recorder.named("wait default")}
    runs = {str((span.attributes or {})["messaging.message.id"]): span for span in recorder.named("run default")}
    for job_id, wait in waits.items():
        assert wait.end_time == runs[job_id].start_time
    assert lasted_s(waits[job.id]) >= 0.2
    sends = {str((span.attributes or {})["messaging.message.id"]): span for span in recorder.named("send default")}
    assert (waits[delayed.id].start_time or 0) - (sends[delayed.id].start_time or 0) >= 0.25e9, "a delay is no wait"


async def test_a_retry_is_a_run_of_the_same_trace(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(retry=AGAIN)
        async def works() -> None:
            if Context.current().attempt == 1:
                raise LookupError(CARD)

        async with rt.worker():
            await (await works.send()).result(RESULT_S)
    first, second = recorder.named("run default")
    send = recorder.one("send default")
    assert first.context.trace_id == second.context.trace_id == send.context.trace_id
    assert first.context.span_id != second.context.span_id
    assert parent_of(first) == parent_of(second) == send.context.span_id
    assert [(span.attributes or {})["angelrt.attempt"] for span in (first, second)] == [1, 2]
    assert [(span.attributes or {})["angelrt.outcome"] for span in (first, second)] == ["retried", "completed"]
    assert [(span.attributes or {})["angelrt.attempt"] for span in recorder.named("wait default")] == [1, 2]


async def test_of_an_error_only_its_type_is_told(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works() -> None:
            raise Fail(CARD)

        async with rt.worker():
            with pytest.raises(JobFailed):
                await (await works.send()).result(RESULT_S)
    run = recorder.one("run default")
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, None)
    assert (run.attributes or {})["error.type"] == "angelrt.retry.Fail"
    assert (run.attributes or {})["angelrt.outcome"] == "failed"
    assert run.events == ()
    assert CARD not in "".join(span.to_json() for span in recorder.spans.get_finished_spans())


async def test_the_text_of_an_error_is_told_where_that_is_asked_for(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing(error_texts=True)) as rt:

        @rt.actor()
        async def works() -> None:
            raise Fail(CARD)

        async with rt.worker():
            with pytest.raises(JobFailed):
                await (await works.send()).result(RESULT_S)
    [event] = recorder.one("run default").events
    told = dict(event.attributes or {})
    assert (event.name, told["exception.type"], told["exception.message"]) == ("exception", "angelrt.retry.Fail", CARD)
    assert str(told["exception.stacktrace"]).startswith("Traceback (most recent call last):")


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_failure_in_a_thread_or_process_is_told_by_its_own_type(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder, kind: str
) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:
        rt.include(group)
        async with rt.worker():
            with pytest.raises(JobFailed):
                await (await rt.send(kind, {"what": "raise"}, attempts=1)).result(RESULT_S)
    assert (recorder.one("run default").attributes or {})["error.type"] == "ValueError"


async def test_what_ends_otherwise_says_so_and_is_no_error(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    naps = iter([0])
    begun = asyncio.Event()

    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(queue="naps")
        async def naps_once() -> None:
            for nap_s in naps:
                raise Snooze(nap_s)

        @rt.actor(queue="hangs")
        async def hangs() -> None:
            begun.set()
            await asyncio.sleep(3600)

        async with rt.worker(grace=0):
            await (await naps_once.send()).result(RESULT_S)
            job = await hangs.send()
            await begun.wait()
            await job.cancel()
            with pytest.raises(JobCancelled):
                await job.result(RESULT_S)
            begun.clear()
            await hangs.send()
            await begun.wait()
    told = [(span.name, (span.attributes or {})["angelrt.outcome"]) for span in recorder.spans.get_finished_spans() if "run" in span.name]
    assert told == [("run naps", "snoozed"), ("run naps", "completed"), ("run hangs", "cancelled"), ("run hangs", "released")]
    assert {span.status.status_code for span in recorder.spans.get_finished_spans()} == {StatusCode.UNSET}


async def test_a_run_whose_lease_is_lost_says_so(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    begun = asyncio.Event()
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def hangs() -> None:
            begun.set()
            await asyncio.sleep(3600)

        async with rt.worker() as worker:
            await hangs.send()
            await begun.wait()
            [run] = worker.running.slots
            run.cancel("lost")
            await worker.running.idle()
    assert (recorder.one("run default").attributes or {})["angelrt.outcome"] == "lost"


# -- around the job ----------------------------------------------------------------------------------------------------------------


async def test_what_a_run_sends_through_its_context_is_its_child(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(queue="second")
        async def second() -> None:
            """Do nothing."""

        @rt.actor(queue="first")
        async def first() -> None:
            Context.current().send(second.message(), second.message())

        async with rt.worker() as worker:
            await (await first.send()).result(RESULT_S)
            await worker.wait_empty()
    parent = recorder.one("run first")
    children = recorder.named("run second")
    assert len(children) == 2
    assert {(span.context.trace_id, parent_of(span)) for span in children} == {ids_of(parent)}
    sent = {point.attributes["messaging.destination.name"]: point.value for point in recorder.points()["messaging.client.sent.messages"]}
    assert sent == {"first": 1, "second": 2}


async def test_the_run_is_current_in_its_actor_and_middleware_alone(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    tracer = recorder.tracer_provider.get_tracer("app")

    async def wraps(context: Context[Any], call_next: Any) -> Any:
        with tracer.start_as_current_span(f"middleware {context.job.actor}"):
            return await call_next()

    async with new_runtime(tracing=recorder.tracing(), middleware=[wraps]) as rt:

        @rt.actor(queue="loop", name="loop")
        async def in_loop() -> None:
            await leaf.send()

        @rt.thread_actor(queue="thread", name="thread")
        def in_thread() -> None:
            leaf.send_sync()

        @rt.actor(queue="leaf")
        async def leaf() -> None:
            """Do nothing."""

        with tracer.start_as_current_span("where the worker was opened"):
            async with rt.worker() as worker:
                await (await in_loop.send()).result(RESULT_S)
                await (await in_thread.send()).result(RESULT_S)
                await worker.wait_empty()
    for kind in ("loop", "thread"):
        wrapped = recorder.one(f"middleware {kind}")
        assert parent_of(wrapped) == recorder.one(f"run {kind}").context.span_id
        assert wrapped.context.span_id in {parent_of(span) for span in recorder.named("send leaf")}


async def test_many_jobs_are_sent_in_one_span(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor(queue="mail")
        async def works(number: int) -> int:
            return number

        async with rt.worker():
            for job in await rt.send_many(works.message(number) for number in range(5)):
                await job.result(RESULT_S)
        await rt.send_many([works.message(6), works.options(queue="other").message(7)])
    alone, mixed = recorder.one("send mail"), recorder.one("send")
    assert (alone.attributes or {})["messaging.batch.message_count"] == 5
    assert (alone.attributes or {})["messaging.destination.name"] == "mail"
    assert "messaging.message.id" not in (alone.attributes or {})
    assert "messaging.destination.name" not in (mixed.attributes or {})
    runs = recorder.named("run mail")
    assert len(runs) == 5
    assert {(run.context.trace_id, parent_of(run)) for run in runs} == {ids_of(alone)}


async def test_a_job_sent_by_name_carries_its_trace_too(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:
        job = await rt.send("elsewhere", {"what": CARD})
        meta = await meta_of(rt, job.id)
    send = recorder.one("send default")
    assert meta == {"w": traceparent(send)}
    assert (send.attributes or {})["messaging.message.id"] == job.id


async def test_code_that_is_not_asynchronous_sends_in_its_own_span(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    def sends(rt: Runtime[Any]) -> None:
        with recorder.tracer_provider.get_tracer("app").start_as_current_span("request"):
            rt.send_sync("elsewhere")

    async with new_runtime(tracing=recorder.tracing()) as rt:
        await asyncio.to_thread(sends, rt)
    assert parent_of(recorder.one("send default")) == recorder.one("request").context.span_id


async def test_a_job_of_a_sender_without_tracing_begins_its_trace_with_its_wait(
    new_runtime: Callable[..., Runtime[Any]], recorder: Recorder
) -> None:
    traced_rt, plain = new_runtime(tracing=recorder.tracing()), new_runtime()

    @traced_rt.actor(name="works")
    async def works() -> None:
        """Do nothing."""

    tracer = recorder.tracer_provider.get_tracer("app")
    with tracer.start_as_current_span("where the worker was opened"):
        async with traced_rt, plain, traced_rt.worker():
            job = await plain.send("works")
            await job.result(RESULT_S)
            assert await meta_of(plain, job.id) == {}
    wait, run = recorder.one("wait default"), recorder.one("run default")
    assert wait.parent is None
    assert (run.context.trace_id, parent_of(run)) == ids_of(wait)


async def test_a_job_of_a_schedule_has_a_trace_of_its_own(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works() -> None:
            """Do nothing."""

        await rt.schedules.add("nightly", works.message(), every=timedelta(days=1))
        next_job = (await rt.schedules.get("nightly")).next_job
        meta = await meta_of(rt, next_job or "")
    create = recorder.one("create default")
    assert (create.kind, create.parent) == (SpanKind.PRODUCER, None)
    assert (create.attributes or {})["messaging.operation.type"] == "create"
    assert meta["w"] == traceparent(create)


async def test_a_failed_job_that_is_replayed_stays_in_its_trace(new_runtime: Callable[..., Runtime[Any]], recorder: Recorder) -> None:
    async with new_runtime(tracing=recorder.tracing()) as rt:

        @rt.actor()
        async def works(number: int) -> int:
            return 1 // number

        async with rt.worker():
            job = await works.options(attempts=1).send(0)
            with pytest.raises(JobFailed):
                await job.result(RESULT_S)
            await rt.dead_letters.edit_and_replay(job.id, number=1)
            assert await job.result(RESULT_S) == 1
    failed, completed = recorder.named("run default")
    assert failed.context.trace_id == completed.context.trace_id == recorder.one("send default").context.trace_id
