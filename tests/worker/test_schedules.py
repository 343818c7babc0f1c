"""Schedules on a clock that the test sets: outages, both changes of summer time, pauses, changes, clocks that jump."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from angelrt import Actors, Concurrency, JobCancelled, Status, Unique
from tests.worker.timebox import Box, claim_without_schedules, insert_without_claiming, opened, report_of, reports, time_of

HOUR_S: Final = 3600
MISFIRES: Final = ("skip", "once", "all")


# -- the way of an occurrence --------------------------------------------------------------------------------------------------------


async def test_an_occurrence_is_a_delayed_job_and_the_next_follows_when_it_is_due(box: Box) -> None:
    info = await box.rt.schedules.add("hourly", report_of(box, day="x"), cron="0 * * * *")
    assert info.next_at == datetime(2026, 7, 1, 13, tzinfo=UTC)
    [job] = await box.waiting()
    assert (job.id, job.due_at, job.payload) == (info.next_job, info.next_at, {"day": "x"})
    assert await box.ran() == []
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert await box.ran() == [info.next_job]
    assert await box.times() == ["07-01 14:00"]
    again = await box.rt.schedules.get("hourly")
    assert (again.last_at, again.next_at) == (info.next_at, datetime(2026, 7, 1, 14, tzinfo=UTC))
    assert await box.rt.job(info.next_job or "").result(5) == "report of x"


async def test_an_interval_counts_from_its_addition(box: Box) -> None:
    info = await box.rt.schedules.add("often", report_of(box), every=timedelta(minutes=7))
    assert info.next_at is not None
    assert abs((info.next_at - box.now) / timedelta(seconds=1) - 420) < 5
    box.travel(info.next_at + timedelta(seconds=1))
    assert await box.ran() == [info.next_job]
    assert (await box.rt.schedules.get("often")).next_at == info.next_at + timedelta(minutes=7)


async def test_options_and_gates_of_the_actor_hold_for_occurrences(server_url: str) -> None:
    group = Actors()

    @group.actor(name="report", queue="slow", limits=[Concurrency(1)], unique=Unique())
    async def report() -> None: ...

    async with opened(server_url, group, datetime(2026, 7, 1, 12, 30, tzinfo=UTC)) as box:
        message = report.options(priority=2, expires=HOUR_S / 2, tenant="ann").message()
        info = await box.rt.schedules.add("hourly", message, cron="0 * * * *", misfire="all")
        assert info.queue == "slow"
        flow = (await box.store.inspect([info.next_job or ""]))[0].run.decode().split()[7]
        expires_ms = int(info.next_job.rpartition(":")[2]) + HOUR_S * 500 if info.next_job else 0
        assert flow == f"creport@slow=,tann,x{expires_ms}", "it has a gate and expires, and has no unique key that the next would meet"
        [job] = await box.waiting()
        assert (job.priority, job.queue) == (2, "slow")
        box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
        assert len(await box.ran()) == 1
        assert await box.times() == ["07-01 14:00"]


async def test_arguments_that_are_kept_apart_come_every_time(box: Box) -> None:
    long = "x" * 10_000
    await box.rt.schedules.add("hourly", report_of(box, day=long), cron="0 * * * *")
    for hour in (13, 14):
        box.travel(datetime(2026, 7, 1, hour, 0, 1, tzinfo=UTC))
        [job_id] = await box.ran()
        assert await box.rt.job(job_id).result(5) == f"report of {long}"


# -- outages -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misfire", "ran"),
    [
        ("skip", []),
        ("once", ["07-01 13:00"]),
        ("all", ["07-01 13:00", "07-01 14:00", "07-01 15:00", "07-01 16:00"]),
    ],
)
async def test_after_an_outage_the_policy_decides(box: Box, misfire: str, ran: list[str]) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire=misfire)
    box.travel(datetime(2026, 7, 1, 16, 30, tzinfo=UTC))
    assert sorted(map(time_of, await box.ran())) == ran
    assert await box.times() == ["07-01 17:00"]
    box.travel(datetime(2026, 7, 1, 17, 0, 1, tzinfo=UTC))
    assert list(map(time_of, await box.ran())) == ["07-01 17:00"]
    assert await box.times() == ["07-01 18:00"]


@pytest.mark.parametrize(
    ("misfire", "ran"), [("skip", []), ("once", ["07-01 16:00"]), ("all", ["07-01 14:00", "07-01 15:00", "07-01 16:00"])]
)
async def test_an_outage_that_begins_when_an_occurrence_has_run(box: Box, misfire: str, ran: list[str]) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire=misfire)
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    await claim_without_schedules(box)
    box.travel(datetime(2026, 7, 1, 16, 30, tzinfo=UTC))
    assert sorted(map(time_of, await box.ran())) == ran
    assert await box.times() == ["07-01 17:00"]


async def test_once_does_not_make_up_twice_when_the_worker_claims_before_it_looks(box: Box) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="once")
    box.travel(datetime(2026, 7, 1, 16, 30, tzinfo=UTC))
    await claim_without_schedules(box)
    assert await box.ran() == [], "the one that came late has made up for the others"
    assert await box.times() == ["07-01 17:00"]


async def test_a_short_outage_makes_an_occurrence_late_and_skips_none(box: Box) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="skip")
    box.travel(datetime(2026, 7, 1, 13, 59, tzinfo=UTC))
    assert list(map(time_of, await box.ran())) == ["07-01 13:00"]


async def test_all_catches_up_with_thousands(box: Box) -> None:
    info = await box.rt.schedules.add("minutely", report_of(box), cron="* * * * *", misfire="all")
    assert info.next_at is not None
    box.travel(info.next_at + timedelta(minutes=1_249, seconds=1))
    ran = await box.ran()
    assert len(ran) == len(set(ran)) == 1_250
    assert [job_id for job_id in ran if not job_id.startswith("cron:minutely:")] == []


# -- summer time ---------------------------------------------------------------------------------------------------------------------


async def days(box: Box, cron: str, start: datetime, hours: int) -> list[str]:
    """Let a worker look every ten minutes; return when occurrences ran, by the clock on the wall."""
    await box.rt.schedules.add("nightly", report_of(box), cron=cron, zone="Europe/Berlin")
    ran: list[str] = []
    for tens in range(hours * 6):
        at = start + timedelta(minutes=10 * tens, seconds=1)
        box.travel(at)
        ran += [f"{at.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M%z}" for _ in await box.ran()]
    return ran


@pytest.mark.parametrize(
    ("cron", "ran"),
    [
        ("30 2 * * *", ["28 02:30+0100", "29 03:00+0200"]),
        ("0 * * * *", ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]),
    ],
)
async def test_the_start_of_summer_time_leaves_none_out(server_url: str, cron: str, ran: list[str]) -> None:
    start = datetime(2026, 3, 28, 1, tzinfo=UTC) if cron.startswith("3") else datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
    async with opened(server_url, reports(), start) as box:
        assert await days(box, cron, start, 26 if cron.startswith("3") else 3) == ran


@pytest.mark.parametrize(
    ("cron", "ran"),
    [
        ("30 2 * * *", ["25 02:30+0200"]),
        ("0 * * * *", ["25 01:00+0200", "25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]),
    ],
)
async def test_the_end_of_summer_time_repeats_none(server_url: str, cron: str, ran: list[str]) -> None:
    start = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    async with opened(server_url, reports(), start) as box:
        assert await days(box, cron, start, 4) == ran


# -- clocks --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("misfire", MISFIRES)
async def test_a_clock_that_jumps_back_lets_nothing_come_twice(box: Box, misfire: str) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire=misfire)
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert list(map(time_of, await box.ran())) == ["07-01 13:00"]
    box.travel(datetime(2026, 7, 1, 12, 59, 50, tzinfo=UTC))
    assert await box.ran() == []
    await box.rt.schedules.pause("hourly")
    await box.rt.schedules.resume("hourly")
    changed = await box.rt.schedules.add("hourly", report_of(box, day="another"), cron="0 * * * *", misfire=misfire)
    assert (changed.last_at, changed.next_at) == (datetime(2026, 7, 1, 13, tzinfo=UTC), datetime(2026, 7, 1, 14, tzinfo=UTC))
    assert await box.ran() == []
    box.travel(datetime(2026, 7, 1, 13, 0, 2, tzinfo=UTC))
    assert await box.ran() == [], "13:00 has been"
    assert await box.times() == ["07-01 14:00"]


# -- pause, resume, remove, change ---------------------------------------------------------------------------------------------------


async def test_a_pause_takes_the_next_one_away_and_a_resumption_brings_it_back(box: Box) -> None:
    info = await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="all")
    paused = await box.rt.schedules.pause("hourly", by="ann")
    assert (paused.paused_by, paused.next_at, paused.next_job) == ("ann", None, None)
    assert await box.waiting() == []
    with pytest.raises(JobCancelled, match="was cancelled by schedule"):
        await box.rt.job(info.next_job or "").result(5)
    assert await box.ran() == []
    resumed = await box.rt.schedules.resume("hourly")
    assert (resumed.paused_by, resumed.next_at) == (None, info.next_at)
    assert await box.ran() == []
    [job] = await box.waiting()
    assert job.id == info.next_job, "the same occurrence, under its id"
    assert (await box.rt.schedules.get("hourly")).last_at is None, "none has come due"
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert await box.ran() == [info.next_job]


@pytest.mark.parametrize("misfire", MISFIRES)
async def test_what_a_pause_left_out_is_not_made_up_for(box: Box, misfire: str) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire=misfire)
    await box.rt.schedules.pause("hourly")
    box.travel(datetime(2026, 7, 1, 17, 30, tzinfo=UTC))
    assert await box.ran() == []
    await box.rt.schedules.resume("hourly")
    assert await box.ran() == []
    assert await box.times() == ["07-01 18:00"]


async def test_a_pause_knows_of_an_occurrence_that_came_due_just_before(box: Box) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    await claim_without_schedules(box)
    assert (await box.rt.schedules.pause("hourly")).last_at == datetime(2026, 7, 1, 13, tzinfo=UTC)
    box.travel(datetime(2026, 7, 1, 12, 59, tzinfo=UTC))
    assert (await box.rt.schedules.resume("hourly")).next_at == datetime(2026, 7, 1, 14, tzinfo=UTC)


async def test_removing_takes_what_waits_away_even_if_it_is_overdue(box: Box) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="once")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    await box.rt.schedules.remove("hourly")
    assert await box.rt.schedules.list() == []
    assert await box.ran() == []
    assert await box.waiting() == []


@pytest.mark.parametrize("verb", ["pause", "remove"])
async def test_what_came_due_and_was_not_begun_goes_with_what_waits(box: Box, verb: str) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="once")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    await insert_without_claiming(box)
    assert await box.times() == ["07-01 13:00", "07-01 14:00"]
    await getattr(box.rt.schedules, verb)("hourly")
    assert await box.waiting() == []


async def test_an_occurrence_that_somebody_cancelled_does_not_come_back(box: Box) -> None:
    info = await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    await box.rt.job(info.next_job or "").cancel("bob")
    await box.rt.schedules.pause("hourly")
    await box.rt.schedules.resume("hourly")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert await box.ran() == []
    assert await box.times() == ["07-01 14:00"]


async def test_one_that_runs_or_ran_stays(box: Box) -> None:
    info = await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    assert await box.ran() == [info.next_job]
    await box.rt.schedules.remove("hourly")
    assert await box.rt.job(info.next_job or "").status() == Status.COMPLETED
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    assert await box.times() == ["07-01 14:00"]


async def test_a_change_replaces_what_waits(box: Box) -> None:
    await box.rt.schedules.add("reports", report_of(box), cron="0 * * * *")
    info = await box.rt.schedules.add("reports", report_of(box, day="x"), cron="45 * * * *")
    assert info.next_at == datetime(2026, 7, 1, 12, 45, tzinfo=UTC)
    [job] = await box.waiting()
    assert (job.id, job.payload) == (info.next_job, {"day": "x"})
    same_time = await box.rt.schedules.add("reports", report_of(box, day="y"), cron="45 * * * *")
    [job] = await box.waiting()
    assert (job.id, job.payload) == (same_time.next_job, {"day": "y"}), "the same id, with what is to be sent now"


async def test_the_same_declaration_changes_nothing(box: Box) -> None:
    info = await box.rt.schedules.add("often", report_of(box), every=600)
    before = await box.store.command("HGETALL", box.store.keys.key("schedules"))
    box.travel(datetime(2026, 7, 1, 12, 35, tzinfo=UTC))
    assert (await box.rt.schedules.add("often", report_of(box), every=600)).next_at == info.next_at
    assert await box.store.command("HGETALL", box.store.keys.key("schedules")) == before


async def test_a_change_of_the_message_keeps_the_beat_of_an_interval(box: Box) -> None:
    info = await box.rt.schedules.add("often", report_of(box), every=600)
    box.travel(datetime(2026, 7, 1, 12, 33, tzinfo=UTC))
    assert (await box.rt.schedules.add("often", report_of(box, day="x"), every=600)).next_at == info.next_at
    [job] = await box.waiting()
    assert job.payload == {"day": "x"}


async def test_a_change_keeps_a_pause(box: Box) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *")
    await box.rt.schedules.pause("hourly", by="ann")
    info = await box.rt.schedules.add("hourly", report_of(box), cron="15 * * * *")
    assert (info.paused_by, info.next_job) == ("ann", None)
    assert await box.waiting() == []


async def test_a_drained_actor_gets_no_occurrences_and_goes_on_afterwards(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    await box.rt.schedules.add("hourly", report_of(box), cron="0 * * * *", misfire="all")
    await box.rt.control.drain(actor="report")
    box.travel(datetime(2026, 7, 1, 13, 0, 1, tzinfo=UTC))
    with caplog.at_level(logging.WARNING, "angelrt"):
        assert list(map(time_of, await box.ran())) == ["07-01 13:00"]
    assert "schedule hourly: an occurrence is left out, since actor report is drained" in caplog.text
    assert await box.waiting() == []
    await box.rt.control.resume(actor="report")
    box.travel(datetime(2026, 7, 1, 14, 0, 1, tzinfo=UTC))
    assert await box.ran() == []
    assert await box.times() == ["07-01 15:00"]
