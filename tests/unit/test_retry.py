"""Verdicts and the policy: which durations are taken, and how long the waits between runs are."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import Fail, Retry, RetryPolicy, Snooze
from angelrt.errors import InvalidOptions
from angelrt.retry import MAX_ATTEMPTS, MAX_DELAY_S, seconds

WRONG = [-1, -0.001, math.nan, math.inf, -math.inf, MAX_DELAY_S + 1, True, None, "60", b"60", [60], timedelta(seconds=-1), timedelta.max]


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(0, 0.0), (1.5, 1.5), (MAX_DELAY_S, MAX_DELAY_S), (timedelta(minutes=2), 120.0), (timedelta(days=3_650), MAX_DELAY_S)],
)
def test_a_duration_is_seconds_or_a_timedelta(given_: float | timedelta, expected: float) -> None:
    found = seconds(given_, "delay")
    assert found == expected
    assert type(found) is float


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_any_other_duration_is_refused_with_its_name_and_the_range(value: object) -> None:
    with pytest.raises(InvalidOptions) as caught:
        seconds(value, "options(delay=)")  # type: ignore[arg-type]
    assert str(caught.value) == f"options(delay=) must be seconds or a timedelta from 0 to ten years, not {value!r}"


def test_retry_carries_its_reason_and_its_delay() -> None:
    assert (str(Retry()), Retry().after_s) == ("", None)
    assert (str(Retry("closed", after=60)), Retry("closed", after=60).after_s) == ("closed", 60.0)
    assert Retry(after=0).after_s == 0.0
    assert Retry(after=timedelta(minutes=1)).after_s == 60.0


def test_snooze_says_for_how_long() -> None:
    assert Snooze(90).delay_s == 90.0
    assert str(Snooze(timedelta(seconds=1.5))) == "snoozed for 1.5 s"


def test_fail_shows_its_text() -> None:
    assert str(Fail("corrupt")) == "corrupt"


@pytest.mark.parametrize("value", [value for value in WRONG if value is not None], ids=repr)
def test_a_wrong_delay_is_refused_where_the_verdict_is_made(value: object) -> None:
    with pytest.raises(InvalidOptions, match=r"^Retry\(after=\) must be seconds"):
        Retry(after=value)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptions, match=r"^Snooze\(delay\) must be seconds"):
        Snooze(value)  # type: ignore[arg-type]


def test_the_default_policy_is_eight_runs_from_two_seconds_to_ten_minutes() -> None:
    policy = RetryPolicy()
    assert (policy.attempts, policy.base, policy.cap) == (8, 2.0, 600.0)
    waits = [policy.ceiling_s(attempt) for attempt in range(1, 8)]
    assert waits == [2, 4, 8, 16, 32, 64, 128]
    assert sum(waits) / 2 == 127  # with full jitter, the average of all waits together: about two minutes


def test_the_wait_stops_growing_at_the_cap_and_never_overflows() -> None:
    policy = RetryPolicy(attempts=MAX_ATTEMPTS, base=1, cap=timedelta(minutes=1))
    assert [policy.ceiling_s(attempt) for attempt in (1, 6, 7, 8, 5_000, MAX_ATTEMPTS)] == [1, 32, 60, 60, 60, 60]


def test_a_base_of_zero_never_waits() -> None:
    assert RetryPolicy(base=0).delay_s(8) == 0


@given(base=st.floats(0, 1_000), cap=st.floats(0, 10_000), attempt=st.integers(1, 100))
def test_the_wait_is_drawn_between_zero_and_its_ceiling(base: float, cap: float, attempt: int) -> None:
    policy = RetryPolicy(base=base, cap=cap)
    assert 0 <= policy.delay_s(attempt) <= policy.ceiling_s(attempt) <= cap


def test_the_jitter_is_full() -> None:
    drawn = sorted(itertools.islice(map(RetryPolicy(base=16, cap=16).delay_s, itertools.repeat(1)), 2_000))
    assert drawn[0] < 1
    assert drawn[-1] > 15
    assert drawn[500] < 8 < drawn[1_500]


@pytest.mark.parametrize("attempts", [0, -1, MAX_ATTEMPTS + 1, 1.5, "8", True, None])
def test_attempts_count_runs(attempts: object) -> None:
    with pytest.raises(InvalidOptions) as caught:
        RetryPolicy(attempts=attempts)  # type: ignore[arg-type]
    assert str(caught.value).startswith("RetryPolicy(attempts=) counts runs and is ")
    assert repr(attempts) in str(caught.value)


@pytest.mark.parametrize("attempts", [1, MAX_ATTEMPTS])
def test_the_bounds_of_attempts_are_taken(attempts: int) -> None:
    assert RetryPolicy(attempts=attempts).attempts == attempts


@pytest.mark.parametrize("option", ["base", "cap"])
def test_base_and_cap_are_durations(option: str) -> None:
    with pytest.raises(InvalidOptions, match=rf"^RetryPolicy\({option}=\) must be seconds"):
        RetryPolicy(**{option: -1})


def test_a_policy_with_timedeltas_equals_one_in_seconds() -> None:
    assert RetryPolicy(base=timedelta(seconds=2), cap=timedelta(minutes=10)) == RetryPolicy()
