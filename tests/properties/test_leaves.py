"""Ids, ranks, records, histograms and delays: what holds for all of them."""

from __future__ import annotations

import itertools
import types
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from angelrt import RetryPolicy, job, stats
from angelrt.retry import MAX_DELAY_S
from tests.properties import model_parts as model

EARLIEST_MS = model.EPOCH_MS
LATEST_MS = int(datetime(2093, 1, 1, tzinfo=UTC).timestamp() * 1000)
times_ms = st.integers(EARLIEST_MS, LATEST_MS)
ranks = st.tuples(st.integers(0, job.PRIORITY_MAX), times_ms, st.integers(0, model.TICKS_PER_MS - 1))
words = st.text("abcXYZ019_.:/<>-", min_size=1, max_size=20)
DOUBLINGS_MAX = 60  # more would not be a number
durations_ms = st.floats(stats.LOWEST_MS, 1e8)


# -- ids ---------------------------------------------------------------------------------------------------------------------------


@given(clock_ms=st.lists(times_ms, min_size=2, max_size=40))
def test_ids_of_one_process_grow_whatever_the_clock_does(clock_ms: list[int]) -> None:
    ids = _ids_at(clock_ms)
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))
    assert all(len(one) == job.ID_CHARS for one in ids)


@given(clocks_ms=st.lists(st.lists(times_ms, min_size=1, max_size=10).map(sorted), min_size=2, max_size=5))
def test_ids_of_all_processes_sort_by_time_and_differ(clocks_ms: list[list[int]]) -> None:
    made = [pair for clock_ms in clocks_ms for pair in zip(_ids_at(clock_ms), clock_ms, strict=True)]
    assert [job.id_time_ms(one) for one, _ in made] == [ms for _, ms in made]
    assert [ms for _, ms in sorted(made)] == sorted(ms for _, ms in made)
    assert len({one for one, _ in made}) == len(made)


def _ids_at(clock_ms: list[int]) -> list[str]:
    """Return ids that one process makes while its clock shows these times."""
    with pytest.MonkeyPatch.context() as patch:
        maker = job.IdMaker()
        ticks = iter(clock_ms)
        patch.setattr(job, "time", types.SimpleNamespace(time_ns=lambda: next(ticks) * 1_000_000))
        return [maker.next() for _ in clock_ms]


# -- ranks and records -------------------------------------------------------------------------------------------------------------


@given(first=ranks, second=ranks)
def test_ranks_order_by_priority_and_then_by_time(first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
    assert (_rank(first) < _rank(second)) == (first < second)


@given(rank=ranks)
def test_a_rank_is_exact_as_a_score_and_tells_priority_and_time(rank: tuple[int, int, int]) -> None:
    score = float(_rank(rank))
    assert score < 2**53
    assert int(f"{score:.0f}") == _rank(rank)
    assert score // job.PRIORITY_STEP == rank[0]
    assert job.rank_ready_ms(score) == rank[1] + rank[2] / model.TICKS_PER_MS


def _rank(parts: tuple[int, int, int]) -> int:
    priority, ms, ticks = parts
    return model.rank_of(priority, ms + ticks / model.TICKS_PER_MS)


@given(
    actor=words,
    nonce=st.text(job.ALPHABET, min_size=4, max_size=4),
    meta=st.dictionaries(st.sampled_from("pate"), st.integers(0, 2**53) | st.text(), max_size=4),
    arguments=st.binary(max_size=60),
)
def test_a_record_comes_back_as_it_was_written(actor: str, nonce: str, meta: dict[str, object], arguments: bytes) -> None:
    stored = job.write_record(actor, nonce, meta, arguments)
    assert job.read_record(stored) == job.Record(actor, meta, arguments)
    assert model.actor_of(stored) == actor
    assert job.blob_field("id", stored) == f"id={nonce}"


# -- histograms --------------------------------------------------------------------------------------------------------------------


@given(hours=st.lists(st.lists(durations_ms, max_size=20), min_size=1, max_size=3).filter(any), q=st.floats(0, 1))
def test_a_quantile_of_several_hours_is_off_by_less_than_a_tenth(hours: list[list[float]], q: float) -> None:
    stored = [_counters(hour) for hour in hours]
    counts = stats.add_up(stored)["q", "a"]
    histogram = {int(word.removeprefix("p")): number for word, number in counts.items()}
    durations = sorted(itertools.chain.from_iterable(hours))
    exact = next(ms for number, ms in enumerate(durations, start=1) if number >= q * len(durations))
    found = stats.quantile_ms(histogram, q)
    assert found is not None
    assert abs(found / exact - 1) <= 0.095


def _counters(hour: list[float]) -> dict[bytes, bytes]:
    """Return the counters of one hour as the scripts write them."""
    pickups = [f"q|a|p{stats.bucket(ms)}".encode() for ms in hour]
    return {field: b"%d" % pickups.count(field) for field in pickups}


@given(first=st.floats(0, 1e300), second=st.floats(0, 1e300))
def test_buckets_keep_the_order_of_durations_and_have_an_end(first: float, second: float) -> None:
    assert (first <= second) <= (stats.bucket(first) <= stats.bucket(second))
    assert 0 <= stats.bucket(first) < stats.BUCKETS


# -- delays ------------------------------------------------------------------------------------------------------------------------


@given(
    base=st.floats(0, MAX_DELAY_S) | st.timedeltas(timedelta(), timedelta(seconds=MAX_DELAY_S)),
    cap=st.floats(0, MAX_DELAY_S),
    attempt=st.integers(1, DOUBLINGS_MAX) | st.integers(1, 1_000_000),
)
def test_delays_stay_under_a_ceiling_that_doubles_up_to_the_cap(base: float | timedelta, cap: float, attempt: int) -> None:
    policy = RetryPolicy(base=base, cap=cap)
    ceiling_s = policy.ceiling_s(attempt)
    assert 0 <= policy.delay_s(attempt) <= ceiling_s <= cap
    assert policy.ceiling_s(1) == min(cap, base.total_seconds() if isinstance(base, timedelta) else base)
    assert policy.ceiling_s(attempt + 1) == (min(cap, 2 * ceiling_s) if attempt <= DOUBLINGS_MAX else ceiling_s)
