"""When a schedule's times come: fields, both changes of summer time, intervals, what was missed, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import InvalidOptions
from angelrt.cron import CATCH_UP_MAX, MISFIRES, Timetable, check_misfire, timetable

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BERLIN = "Europe/Berlin"
START_MS = 1_750_000_000_000


def ms(text: str, zone: str = BERLIN) -> int:
    """Return the milliseconds of a local time; an offset in the text says which of two."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


def times(cron: str, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """Return the times after one, as the clock on the wall shows them, with the offset."""
    found: list[str] = []
    at = ms(start, zone)
    for _ in range(count):
        upcoming = Timetable(cron=cron, zone=zone).after(at)
        assert upcoming is not None
        at = upcoming
        found.append(datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).strftime("%m-%d %H:%M%z"))
    return found


# -- cron ----------------------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_zone() -> None:
    assert times("0 3 * * *", "2026-07-01 12:00", 2) == ["07-02 03:00+0200", "07-03 03:00+0200"]
    assert times("0 3 * * *", "2026-01-01 12:00", 1) == ["01-02 03:00+0100"]
    assert times("0 3 * * *", "2026-01-01 12:00", 1, "Asia/Kathmandu") == ["01-02 03:00+0545"]


def test_the_time_itself_does_not_come_after_itself_and_fractions_do() -> None:
    table = Timetable(cron="* * * * *")
    assert table.after(START_MS - START_MS % MINUTE_MS) == START_MS - START_MS % MINUTE_MS + MINUTE_MS
    assert table.after(START_MS - START_MS % MINUTE_MS - 0.25) == START_MS - START_MS % MINUTE_MS


def test_a_time_that_the_start_of_summer_time_skips_comes_at_the_end_of_the_gap() -> None:
    assert times("30 2 * * *", "2026-03-28 12:00", 2) == ["03-29 03:00+0200", "03-30 02:30+0200"]


def test_a_time_that_the_end_of_summer_time_repeats_comes_once() -> None:
    assert times("30 2 * * *", "2026-10-24 12:00", 2) == ["10-25 02:30+0200", "10-26 02:30+0100"]


@pytest.mark.parametrize("start", ["2026-10-25T02:10+01:00", "2026-10-25T02:30+01:00"])
def test_in_the_repeated_hour_the_first_of_two_times_has_passed(start: str) -> None:
    assert times("30 2 * * *", start, 1) == ["10-26 02:30+0100"]


def test_what_goes_by_elapsed_time_goes_on_through_both_changes() -> None:
    assert times("*/30 * * * *", "2026-03-29 01:00", 3) == ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"]
    through = ["10-25 02:00+0200", "10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"]
    assert times("*/30 * * * *", "2026-10-25 01:30", 5) == through
    assert times("0 * * * *", "2026-10-25 01:30", 3) == ["10-25 02:00+0200", "10-25 02:00+0100", "10-25 03:00+0100"]


LORD_HOWE = "Australia/Lord_Howe"
HALF_HOURS = {
    ("15 2 * * *", "2026-10-03 12:00"): ["10-04 02:30+1100", "10-05 02:15+1100"],
    ("45 1 * * *", "2026-10-03 12:00"): ["10-04 01:45+1030", "10-05 01:45+1100"],
    ("15 2 * * *", "2026-04-04 12:00"): ["04-05 02:15+1030", "04-06 02:15+1030"],
    ("45 1 * * *", "2026-04-04 12:00"): ["04-05 01:45+1100", "04-06 01:45+1030"],
    ("*/30 * * * *", "2026-10-04 01:00"): ["10-04 01:30+1030", "10-04 02:30+1100", "10-04 03:00+1100"],
    ("*/30 * * * *", "2026-04-05 01:00"): ["04-05 01:30+1100", "04-05 01:30+1030", "04-05 02:00+1030"],
    ("45 * * * *", "2026-10-04 01:00"): ["10-04 01:45+1030", "10-04 03:45+1100", "10-04 04:45+1100"],
    ("45 * * * *", "2026-04-05 01:00"): ["04-05 01:45+1100", "04-05 02:45+1030", "04-05 03:45+1030"],
    ("0 15 2 * * *", "2026-04-04 12:00"): ["04-06 02:15+1030"],
}
"""Clocks go forward from 02:00 to 02:30, and back from 02:00 to 01:30. Of the last three, cronsim leaves out one time, as the docs say."""


@pytest.mark.parametrize(("cron", "start"), HALF_HOURS)
def test_where_summer_time_is_half_an_hour_none_comes_twice(cron: str, start: str) -> None:
    expected = HALF_HOURS[cron, start]
    assert times(cron, start, len(expected), LORD_HOWE) == expected


@pytest.mark.parametrize("change", ["2026-10-03 22:00", "2026-04-04 22:00"])
@pytest.mark.parametrize("cron", ["15 2 * * *", "45 * * * *", "*/20 1,2 * * *", "0 15 2 * * *", "30 45 * * * *"])
def test_through_a_change_of_half_an_hour_time_goes_on_from_wherever_one_looks(cron: str, change: str) -> None:
    table, start_ms = Timetable(cron=cron, zone=LORD_HOWE), ms(change, LORD_HOWE)
    for at_ms in range(start_ms, start_ms + 8 * HOUR_MS, 7 * MINUTE_MS):
        found = table.after(at_ms)
        assert found is not None
        assert at_ms < found <= at_ms + 2 * DAY_MS
        assert table.latest(at_ms, found) == found


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "America/Havana", "Africa/Cairo", "Asia/Beirut", "UTC"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 2 * * *", "0 2,3 * * *", "*/7 0-3 * * *", "0 0 1,15 * *", "30 30 2 * * *"])
@given(data=st.data())
def test_times_are_the_same_from_wherever_one_looks(zone: str, cron: str, data: st.DataObject) -> None:
    table = Timetable(cron=cron, zone=zone)
    start = data.draw(st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)))  # noqa: DTZ001 - Hypothesis draws without a zone
    at = start.replace(tzinfo=UTC).timestamp() * 1000
    first = table.after(at)
    assert first is not None
    assert first > at
    between = data.draw(st.integers(int(at), first - 1))
    assert table.after(between) == first
    second = table.after(first)
    assert second is not None
    assert second > first
    assert table.latest(int(at), second - 1) == first
    assert table.latest(first, second - 1) is None


def test_the_latest_of_years_is_found_in_few_steps() -> None:
    seconds = Timetable(cron="* * * * * *")
    assert seconds.latest(START_MS, START_MS + 3650 * DAY_MS) == START_MS + 3650 * DAY_MS
    yearly = Timetable(cron="0 0 1 1 *")
    assert yearly.latest(ms("2020-06-01", "UTC"), ms("2026-06-01", "UTC")) == ms("2026-01-01", "UTC")


# -- intervals -----------------------------------------------------------------------------------------------------------------------


def test_an_interval_counts_from_its_anchor() -> None:
    table = Timetable(every_ms=90_000, anchor_ms=START_MS)
    assert table.after(START_MS) == START_MS + 90_000
    assert table.after(START_MS + 89_999.5) == START_MS + 90_000
    assert table.after(START_MS + 90_000) == START_MS + 180_000
    assert table.latest(START_MS, START_MS + 1_000_000) == START_MS + 11 * 90_000


@given(every_ms=st.integers(1_000, 10**10), passed_ms=st.floats(0, 1e11))
def test_an_interval_has_no_gap_and_no_double(every_ms: int, passed_ms: float) -> None:
    upcoming = Timetable(every_ms=every_ms, anchor_ms=START_MS).after(START_MS + passed_ms)
    assert upcoming is not None
    assert (upcoming - START_MS) % every_ms == 0
    assert upcoming - every_ms <= START_MS + passed_ms < upcoming


# -- what was missed -----------------------------------------------------------------------------------------------------------------

HOURLY = Timetable(cron="0 * * * *")
NOON_MS = ms("2026-07-01 12:00", "UTC")


@pytest.mark.parametrize("misfire", MISFIRES)
def test_in_time_the_next_one_follows_whatever_the_policy(misfire: str) -> None:
    assert HOURLY.steps(misfire, NOON_MS, NOON_MS + 5) == ([NOON_MS + HOUR_MS], NOON_MS, NOON_MS + HOUR_MS, None)


def test_skip_goes_on_with_the_next_in_the_future() -> None:
    late_ms = NOON_MS + 5.5 * HOUR_MS
    assert HOURLY.steps("skip", NOON_MS, late_ms) == ([NOON_MS + 6 * HOUR_MS], NOON_MS, NOON_MS + 6 * HOUR_MS, None)


def test_once_makes_up_with_the_newest() -> None:
    late_ms = NOON_MS + 5.5 * HOUR_MS
    steps = HOURLY.steps("once", NOON_MS, late_ms)
    assert steps.times_ms == [NOON_MS + 5 * HOUR_MS, NOON_MS + 6 * HOUR_MS]
    assert (steps.last_ms, steps.next_ms, steps.missed_ms) == (NOON_MS + 5 * HOUR_MS, NOON_MS + 6 * HOUR_MS, NOON_MS + HOUR_MS)


def test_all_makes_up_with_each() -> None:
    steps = HOURLY.steps("all", NOON_MS, NOON_MS + 3.5 * HOUR_MS)
    assert steps.times_ms == [NOON_MS + hours * HOUR_MS for hours in (1, 2, 3, 4)]
    assert (steps.last_ms, steps.next_ms, steps.missed_ms) == (NOON_MS + 3 * HOUR_MS, NOON_MS + 4 * HOUR_MS, None)


@given(missed=st.integers(1, 4 * CATCH_UP_MAX))
def test_all_goes_on_where_it_stopped_and_leaves_none_out(missed: int) -> None:
    now_ms = NOON_MS + (missed + 0.5) * HOUR_MS
    due_ms, inserted = NOON_MS, list[int]()
    while due_ms <= now_ms:
        steps = HOURLY.steps("all", due_ms, now_ms)
        assert 0 < len(steps.times_ms) <= CATCH_UP_MAX
        assert steps.next_ms == steps.times_ms[-1]
        inserted += steps.times_ms
        due_ms = steps.next_ms
    assert inserted == [NOON_MS + n * HOUR_MS for n in range(1, missed + 2)]


def test_all_takes_as_few_at_a_time_as_it_is_told() -> None:
    assert HOURLY.steps("all", NOON_MS, NOON_MS + 3.5 * HOUR_MS, 1) == ([NOON_MS + HOUR_MS], NOON_MS, NOON_MS + HOUR_MS, None)


@pytest.mark.parametrize("misfire", MISFIRES)
def test_what_never_comes_again_stops(misfire: str) -> None:
    assert Timetable(cron="* * */20 * 1L").steps(misfire, NOON_MS, NOON_MS + 1) == ([], NOON_MS, 0, None)


# -- what is refused -----------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"cron": "* * * * *", "every": 5}, "give one of them"),
    "neither": ({"cron": None, "every": None}, "give one of them"),
    "zero": ({"every": 0}, "shortest interval of a schedule is 1 s"),
    "too-short": ({"every": 0.5}, "shortest interval"),
    "negative": ({"every": -5}, "every must be seconds or a timedelta from 0"),
    "too-long": ({"every": timedelta(days=4000)}, "to ten years"),
    "no-number": ({"every": "5 minutes"}, "every must be seconds or a timedelta"),
    "not-a-number": ({"every": float("nan")}, "every must be seconds or a timedelta"),
    "nonsense": ({"cron": "every day at 3 am"}, "Bad minute; the fields are minute hour"),
    "empty": ({"cron": ""}, "Wrong number of fields"),
    "four-fields": ({"cron": "* * * *"}, "Wrong number of fields; the fields are minute hour day-of-month"),
    "minute-60": ({"cron": "60 * * * *"}, "Bad minute"),
    "step-0": ({"cron": "*/0 * * * *"}, "Bad minute"),
    "month-13": ({"cron": "0 0 1 13 *"}, "Bad month"),
    "february-30": ({"cron": "0 0 30 2 *"}, "Bad day-of-month"),
    "never": ({"cron": "* * */20 * 1L"}, "no such time comes in the next fifty years"),
    "huge": ({"cron": "1," * 4000 + "1 * * * *"}, "at most 200 characters"),
    "huge-number": ({"cron": "9" * 150 + " * * * *"}, "Bad minute"),
    "other-digits": ({"cron": "٣ * * * *"}, "Bad minute"),
    "nul": ({"cron": "0\0 * * * *"}, "Bad minute"),
    "no-text": ({"cron": 5}, "an expression is a text"),
    "no-zone": ({"cron": "* * * * *", "zone": "Europe/Berln"}, "did you mean Europe/Berlin"),
    "empty-zone": ({"cron": "* * * * *", "zone": ""}, "no such time zone"),
    "folder-zone": ({"cron": "* * * * *", "zone": "Europe"}, "no such time zone"),
    "path-zone": ({"cron": "* * * * *", "zone": "../etc/passwd"}, "no such time zone"),
    "nul-zone": ({"cron": "* * * * *", "zone": "UTC\0"}, "no such time zone"),
    "object-zone": ({"cron": "* * * * *", "zone": ZoneInfo(BERLIN)}, "no such time zone"),
    "interval-in-a-zone": ({"every": 60, "zone": BERLIN}, "an interval is the same in every zone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused_with_a_remedy(name: str) -> None:
    given, words = REFUSED[name]
    with pytest.raises(InvalidOptions, match=words):
        timetable(**{"cron": None, "every": None, **given})


@pytest.mark.parametrize("misfire", ["", "never", "Skip", None])
def test_other_policies_are_refused(misfire: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"use 'skip' .* 'once' .* or 'all'"):
        check_misfire(misfire)


def test_sound_declarations_pass() -> None:
    assert timetable(cron="0 3 * * *", every=None, zone=BERLIN) == Timetable(cron="0 3 * * *", zone=BERLIN)
    assert timetable(cron="0 0 * * MON-FRI", every=None).after(ms("2026-07-03 12:00", "UTC")) == ms("2026-07-06", "UTC")
    assert timetable(cron=None, every=timedelta(minutes=5)) == Timetable(every_ms=300_000)
    assert timetable(cron=None, every=1) == Timetable(every_ms=1_000)
