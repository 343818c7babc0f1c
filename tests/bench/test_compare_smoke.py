"""The comparison with the peers runs end to end at a tiny scale: the figures mean nothing here, but all of them are there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bench.compare.bars import BARS, bar_rows
from bench.compare.report import BEGIN, END, placed
from bench.compare.table import failures, text_table
from tests.tidy.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKLOADS = ("floors", "drain", "send", "idle", "pickup_1000", "pickup_70", "backlog_1000")
FIGURES = {
    *("drain_per_s", "bulk_per_s", "pending_bytes", "kept_bytes", "redis_cpu_us", "redis_commands", "worker_cpu_us", "worker_mib"),
    *("single_per_s", "concurrent_per_s", "idle_p50_ms", "idle_p99_ms", "load_per_s", "backlog_1000_us", "backlog_1000_redis_cpu_us"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run in this interpreter has written, with a peer that cannot run in it."""
    path: Path = tmp_path_factory.mktemp("compare") / "compare.json"
    options = ["--here", "--peers", "angelrt,bullmq", "--only", ",".join(WORKLOADS), "--scale", "0.01", "--rounds", "1"]
    command = [sys.executable, "-m", "bench.compare", *options, "--json", str(path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = orjson.loads(path.read_bytes())
    return found


def test_every_figure_is_measured(report: dict[str, Any]) -> None:
    figures = report["figures"]["angelrt"]
    assert not [name for name in figures if name.endswith("failed")]
    assert figures.keys() >= FIGURES
    assert all(figures[name]["median"] >= 0 for name in FIGURES)
    assert figures["drain_per_s"]["samples"] == 1
    assert report["figures"]["bare loop"]["bare_drain_per_s"]["median"] > 0


def test_a_peer_that_cannot_run_is_reported_with_the_reason(report: dict[str, Any]) -> None:
    assert "Node" in report["peers"]["bullmq"]["failed"]
    assert any(sentence.startswith("bullmq: cannot be installed") for sentence in failures(report))
    assert "bullmq: cannot be installed" in text_table(report)


def test_each_bar_compares_with_the_same_run(report: dict[str, Any]) -> None:
    rows = {row[0]: row for row in bar_rows(report)[1:]}
    assert len(rows) == len(BARS)
    ours, theirs = (
        report["figures"][name][figure]["median"] for name, figure in (("angelrt", "drain_per_s"), ("bare loop", "bare_drain_per_s"))
    )
    assert rows["drain against the bare loop"][3] == f"{ours / theirs:.2f}"
    assert rows["drain against BullMQ"][2] == "none was measured"


def test_a_report_replaces_what_stands_between_the_marks() -> None:
    once = placed(f"before\n{BEGIN}\nold\n{END}\nafter\n", "| new |\n")
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert placed(once, "| new |\n") == once
    with pytest.raises(ValueError, match="compared: begin"):
        placed("no marks", "| new |\n")
