"""Schedules and their workers: each occurrence once, however many there are, and none stops for another's trouble."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from angelrt import Actors, Runtime
from angelrt.worker import schedule as loop_of_schedules
from tests.worker.timebox import Box, insert_without_claiming, opened, report_of, reports, time_of
from tests.worker.waiting import until_true

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from angelrt.schedules import ScheduleInfo
    from tests.worker.conftest import NewRuntime

HOUR_S: Final = 3600
MISFIRES: Final = ("skip", "once", "all")


# -- workers -------------------------------------------------------------------------------------------------------------------------


async def test_a_missing_actor_is_waited_for_and_nothing_piles_up(server_url: str) -> None:
    group = Actors()

    @group.actor(name="other")
    async def other() -> None: ...

    async with opened(server_url, group, datetime(2026, 7, 1, 12, 30, tzinfo=UTC)) as box:
        await box.rt.schedules.add("hourly", reports().registered["report"].message(), cron="0 * * * *", misfire="once")
        for hour in (13, 14, 15):
            box.travel(datetime(2026, 7, 1, hour, 0, 1, tzinfo=UTC))
            assert await box.ran() == []
        assert [job.id for job in await box.box.sent("report")] == [(await box.rt.schedules.get("hourly")).next_job]
        box.rt.include(reports())
        worker = box.rt.new_worker(kind="test")
        await box.store.beat("newcomer", worker.info(), worker.queues, list(worker.actors))
        assert list(map(time_of, await box.ran())) == ["07-01 13:00"]
        assert await box.times() == ["07-01 16:00"]


async def test_a_worker_that_does_not_serve_the_queue_leaves_the_schedule_alone(box: Box) -> None:
    info = await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    await box.rt.new_worker(queues=["elsewhere"], kind="test").run_ready(10)
    assert [job.id for job in await box.waiting()] == [info.next_job]


async def test_many_workers_at_once_insert_each_occurrence_once(box: Box) -> None:
    await box.rt.schedules.add("minutely", report_of(box), cron="* * * * *", misfire="all")
    workers = [box.rt.new_worker(concurrency=100, kind="test") for _ in range(8)]
    for minute in (31, 32, 40):
        box.travel(datetime(2026, 7, 1, 12, minute, 1, tzinfo=UTC))
        await asyncio.gather(*(worker._schedules.advance() for worker in workers))  # noqa: SLF001 - all look at the same moment
    ids = [job.id for job in await box.waiting()]
    assert sorted(map(time_of, ids)) == [f"07-01 12:{minute}" for minute in range(31, 42)]


async def test_a_fleet_runs_every_second_once(new_runtime: NewRuntime) -> None:
    ran: list[str] = []

    def app() -> Runtime[Any]:
        rt = new_runtime()

        @rt.actor(name="tick")
        async def tick() -> None:
            ran.append(rt.context.job.id)

        rt.schedule("seconds", tick.message(), every=1, misfire="all")
        return rt

    async with AsyncExitStack() as stack:
        for _ in range(4):
            rt = await stack.enter_async_context(app())
            await stack.enter_async_context(rt.worker(concurrency=2))

        async def four() -> bool:
            return len(ran) >= 4

        await until_true(four, "four occurrences have run")
        await rt.schedules.remove("seconds")
    times = [int(job_id.rpartition(":")[2]) for job_id in ran]
    assert times == list(range(times[0], times[0] + 1_000 * len(times), 1_000))


async def test_a_worker_that_sleeps_hears_of_a_new_schedule_by_its_first_occurrence(rt: Runtime[Any]) -> None:
    rt.include(reports())
    async with rt.worker():
        await rt.schedules.add("often", rt.registered["report"].message(), every=2)
        first = (await rt.schedules.get("often")).next_job or ""
        assert await rt.job(first).result(20) == "report of today"
        second = f"cron:often:{int(first.rpartition(':')[2]) + 2_000}"

        async def inserted() -> bool:
            return (await rt.schedules.get("often")).next_job != first

        await until_true(inserted, "the next occurrence is there")
        assert (await rt.schedules.get("often")).next_job == second, "it was inserted in time, and not skipped"
        await rt.schedules.remove("often")


async def test_workers_store_what_the_code_declares(new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_of_schedules, "READ_AGAIN_S", 0.05)

    def app(cron: str | None) -> Runtime[Any]:
        rt = new_runtime()
        rt.include(reports())
        if cron:
            rt.schedule("nightly", rt.registered["report"].message(day="x"), cron=cron, zone="Europe/Berlin", misfire="once")
        return rt

    async def shown(rt: Runtime[Any]) -> ScheduleInfo:
        async with rt, rt.worker():
            return await rt.schedules.get("nightly")

    first = await shown(app("0 3 * * *"))
    assert (first.cron, first.zone, first.misfire, first.payload) == ("0 3 * * *", "Europe/Berlin", "once", {"day": "x"})
    assert await shown(app("0 3 * * *")) == first
    assert (await shown(app("0 4 * * *"))).cron == "0 4 * * *", "a deploy changes it"
    assert (await shown(app(None))).cron == "0 4 * * *", "gone from the code, it stays until it is removed"
    async with new_runtime() as rt:
        await rt.schedules.remove("nightly")


async def test_a_schedule_that_cannot_go_on_is_logged_and_stops_no_other(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    await box.rt.schedules.add("a-broken", report_of(box), cron="0 * * * *")
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    key = box.store.keys.key("schedules")
    stored = await box.store.command("HGET", key, "a-broken")
    await box.store.command("HSET", key, "a-broken", stored.replace(b"0 * * * *", b"@whenever"))
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert len(await box.ran()) == 2, "what was inserted before runs"
    assert "schedule a-broken cannot go on here; it is tried again in about 10 s" in caplog.text
    assert [(job.id.split(":")[1], time_of(job.id)) for job in await box.waiting()] == [("hourly", "07-01 14:00")]


async def test_a_record_of_another_version_stops_no_other(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    await box.store.command("HSET", box.store.keys.key("schedules"), "a-strange", b"2 words\0{}")
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert len(await box.ran()) == 1
    assert await box.times() == ["07-01 14:00"]
    assert "the record of schedule a-strange is not of this version of angelrt" in caplog.text
    assert [info.name for info in await box.rt.schedules.list()] == ["hourly"]


async def test_missed_ones_with_large_arguments_come_in_small_calls(box: Box, commands_seen: Callable[..., Any]) -> None:
    await box.rt.schedules.add("hourly", report_of(box, day="x" * 900_000), cron="0 * * * *", misfire="all")
    box.travel(datetime(2026, 7, 2, 12, 30, tzinfo=UTC))
    before = await commands_seen("exec")
    await insert_without_claiming(box)
    assert await commands_seen("exec") - before == 6, "24 of 0.9 MB, at most 4 MiB in a call"
    assert len(await box.waiting()) == 25


async def test_the_loop_outlives_errors_of_the_server(
    rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop_of_schedules, "READ_AGAIN_S", 0.05)
    rt.include(reports())
    key = rt.keys.key("schedules")
    await rt.client().store.command("SET", key, "no hash")
    async with rt.worker() as worker:

        async def logged() -> bool:
            return caplog.text.count("schedules wait, and are tried again in 0.") >= 2

        await until_true(logged, "the error is logged, more than once")
        await rt.client().store.command("UNLINK", key)
        await rt.schedules.add("seconds", rt.registered["report"].message(), every=1)
        job_id = (await rt.schedules.get("seconds")).next_job or ""
        assert await rt.job(job_id).result(20) == "report of today"
        assert worker.failure is None
        await rt.schedules.remove("seconds")


async def test_changes_at_once_end_in_one_of_them(box: Box) -> None:
    infos = await asyncio.gather(*(box.rt.schedules.add("hourly", report_of(box, day=str(n)), cron="0 * * * *") for n in range(6)))
    assert {info.next_job for info in infos} == {infos[0].next_job}
    [job] = await box.waiting()
    assert job.payload == (await box.rt.schedules.get("hourly")).payload
