"""Counters and histograms: buckets, quantiles against the exact ones, and sums over hours."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt.stats import (
    BUCKETS,
    LOWEST_MS,
    WORDS,
    Figures,
    QueueDepth,
    Stats,
    add_up,
    bucket,
    bucket_ms,
    figures,
    quantile_ms,
    run_words,
    total,
)

HIGHEST_MS = bucket_ms(BUCKETS - 1)
TOLERANCE = 0.095


def histogram(durations_ms: list[float]) -> Counter[int]:
    """Count durations as the scripts do."""
    return Counter(bucket(duration) for duration in durations_ms)


def exact_ms(durations_ms: list[float], q: float) -> float:
    """Return the smallest duration that at least the share `q` does not exceed."""
    return sorted(durations_ms)[max(math.ceil(q * len(durations_ms)) - 1, 0)]


@given(st.lists(st.floats(LOWEST_MS * 1.01, HIGHEST_MS), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_the_width_of_its_bucket(durations_ms: list[float], q: float) -> None:
    assert quantile_ms(histogram(durations_ms), q) == pytest.approx(exact_ms(durations_ms, q), rel=TOLERANCE)


def test_quantiles_of_a_thousand_known_durations() -> None:
    durations_ms = [float(ms) for ms in range(1, 1_001)]
    found = histogram(durations_ms)
    assert quantile_ms(found, 0.5) == pytest.approx(500, rel=TOLERANCE)
    assert quantile_ms(found, 0.99) == pytest.approx(990, rel=TOLERANCE)
    assert quantile_ms(found, 0) == pytest.approx(1, rel=TOLERANCE)
    assert quantile_ms(found, 1) == pytest.approx(1_000, rel=TOLERANCE)


def test_the_slowest_one_of_a_hundred_shows_in_p99_only_from_the_second_on() -> None:
    assert quantile_ms(histogram([1.0] * 99 + [1_000.0]), 0.99) == pytest.approx(1, rel=TOLERANCE)
    assert quantile_ms(histogram([1.0] * 98 + [1_000.0] * 2), 0.99) == pytest.approx(1_000, rel=TOLERANCE)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({3: 0}, 0.5) is None


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_a_longer_duration_is_never_in_a_lower_bucket(first: float, second: float) -> None:
    assert bucket(first) <= bucket(second) or first > second


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(-5.0, 0), (0.0, 0), (LOWEST_MS, 0), (2 * LOWEST_MS, 4), (LOWEST_MS * 2**10, 40), (1e300, BUCKETS - 1)],
)
def test_durations_beyond_the_ends_go_to_the_outermost_buckets(milliseconds: float, expected: int) -> None:
    assert bucket(milliseconds) == expected


def test_the_buckets_reach_from_a_sixteenth_of_a_millisecond_to_days() -> None:
    assert bucket_ms(0) < 0.07
    assert HIGHEST_MS > 2 * 86_400_000
    assert all(bucket(bucket_ms(index)) == index for index in range(BUCKETS))


@pytest.mark.parametrize("milliseconds", [0.0, 1.0, 250.0, 1e9])
def test_a_worker_counts_under_the_words_that_the_figures_read(milliseconds: float) -> None:
    counts = Counter(run_words(milliseconds, 2 * milliseconds).split("\0")[1:])
    found = figures("photos", "thumbnail", counts)
    assert found.pickup_p50_ms == bucket_ms(bucket(milliseconds))
    assert found.run_p50_ms == bucket_ms(bucket(2 * milliseconds))


def test_hours_are_added_up_by_queue_and_actor() -> None:
    hours = [
        {b"photos|thumbnail|sent": b"2", b"photos|thumbnail|p4": b"1", b"mail|notify|sent": b"1"},
        {b"photos|thumbnail|sent": b"3", b"photos|*|lost": b"1"},
        {},
    ]
    assert add_up(hours) == {
        ("photos", "thumbnail"): Counter(sent=5, p4=1),
        ("mail", "notify"): Counter(sent=1),
        ("photos", "*"): Counter(lost=1),
    }


def test_figures_hold_every_word_and_both_histograms() -> None:
    counts = {word: number for number, word in enumerate(WORDS, 1)} | {"p40": 99, "p80": 1, "r4": 10}
    found = figures("photos", "thumbnail", counts)
    assert (found.queue, found.actor) == ("photos", "thumbnail")
    assert [getattr(found, word) for word in WORDS] == list(range(1, len(WORDS) + 1))
    assert (found.pickup_p50_ms, found.pickup_p99_ms) == (bucket_ms(40), bucket_ms(40))
    assert (found.run_p50_ms, found.run_p99_ms) == (bucket_ms(4), bucket_ms(4))


def test_words_that_begin_as_a_bucket_does_are_no_bucket() -> None:
    found = figures("q", "a", {"retried": 7, "released": 8, "p": 1, "paused": 2})
    assert (found.retried, found.released, found.run_p50_ms, found.pickup_p50_ms) == (7, 8, None, None)


def test_the_total_adds_up_counters_and_histograms() -> None:
    sums = {("a", "x"): Counter(completed=3, failed=1, p8=1), ("b", "y"): Counter(completed=1, p16=3)}
    found = total(sums)
    assert (found.queue, found.actor, found.completed, found.failed) == ("*", "*", 4, 1)
    assert found.pickup_p50_ms == bucket_ms(16)
    assert total({}) == Figures(queue="*", actor="*")


@pytest.mark.parametrize(("completed", "failed", "rate"), [(0, 0, None), (3, 1, 0.75), (0, 2, 0.0), (2, 0, 1.0)])
def test_the_completion_rate_counts_what_ended_by_its_own_verdict(completed: int, failed: int, rate: float | None) -> None:
    assert Figures(queue="q", actor="a", completed=completed, failed=failed, cancelled=9, retried=9).completion_rate == rate


def test_the_summary_for_programs_has_the_rates_and_camel_case_names() -> None:
    counted = Figures(queue="*", actor="*", completed=3, failed=1, pickup_p50_ms=1.5, pickup_p99_ms=4.5)
    depth = QueueDepth(queue="photos", ready=1, delayed=2, leased=3, lanes=4, oldest_ready_ms=2.5)
    summary = Stats(hours=25, total=counted, actors=[counted], queues=[depth]).summary()
    assert (summary["completionRate"], summary["pickupP50Ms"], summary["pickupP99Ms"]) == (0.75, 1.5, 4.5)
    assert summary["queues"] == [{"queue": "photos", "ready": 1, "delayed": 2, "leased": 3, "lanes": 4, "oldestReadyMs": 2.5}]
    assert summary["actors"] == [summary["total"]]
    assert summary["total"]["runP99Ms"] is None
    assert json.loads(json.dumps(summary)) == summary
