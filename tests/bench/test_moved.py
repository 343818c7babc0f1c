"""Which figures moved since the recorded run: by ratio to the floor of each run, not by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.moved import FLOOR, moved, read, write

if TYPE_CHECKING:
    from pathlib import Path

LAST = {FLOOR: 100_000.0, "drain_jobs_per_s": 50_000.0, "pickup_p99_ms": 2.0, "server": "redis", "bytes": 300.0}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({}, []),
        ({FLOOR: 50_000.0, "drain_jobs_per_s": 25_000.0, "pickup_p99_ms": 4.0}, []),
        ({"drain_jobs_per_s": 30_000.0}, ["drain_jobs_per_s: 0.60 of the recorded run, worse"]),
        ({FLOOR: 50_000.0}, ["drain_jobs_per_s: 2.00 of the recorded run, better", "pickup_p99_ms: 2.00 of the recorded run, better"]),
        ({"pickup_p99_ms": 4.0}, ["pickup_p99_ms: 0.50 of the recorded run, worse"]),
        ({"bytes": 900.0, "server": "valkey"}, []),
    ],
    ids=["the same", "a machine half as fast", "slower", "as fast on a slower machine", "later", "neither rates nor times"],
)
def test_a_figure_has_moved_where_its_ratio_to_the_floor_has(now: dict[str, float | str], told: list[str]) -> None:
    assert list(moved(LAST, {**LAST, **now})) == told


def test_a_figure_that_one_run_lacks_is_passed_over() -> None:
    assert list(moved(LAST, {FLOOR: 100_000.0, "new_per_s": 1.0})) == []


def test_what_is_recorded_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.moved.RECORDED", tmp_path / "recorded.json")
    assert read() == {}
    write(LAST)
    assert read() == LAST
