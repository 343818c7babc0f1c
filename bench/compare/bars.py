"""The bar: what angelrt is to reach, each row as a ratio to a peer or a floor of the same run, or as a figure of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .catalog import OURS, PEERS
from .table import is_more, median, number

if TYPE_CHECKING:
    from collections.abc import Collection

PURE_PYTHON = {peer.name for peer in PEERS} - {OURS, "bullmq", "ardiq"}


class Bar(NamedTuple):
    """One row. `against` names who is compared with: nobody, all who were measured, those who lose nothing, or some by name."""

    what: str
    figure: str
    limit: float
    against: str | Collection[str]


BARS = (
    Bar("drain against BullMQ", "drain_per_s", 3, {"bullmq"}),
    Bar("drain against ardiq", "drain_per_s", 4, {"ardiq"}),
    Bar("drain against the best peer in pure Python", "drain_per_s", 10, PURE_PYTHON),
    Bar("drain against the bare loop", "drain_per_s", 0.6, {"bare loop"}),
    Bar("Redis CPU for each job, against the best peer that is at-least-once", "redis_cpu_us", 0.5, "at-least-once"),
    Bar("bulk send against the best peer", "bulk_per_s", 1.2, "all"),
    Bar("100 concurrent senders against the best peer", "concurrent_per_s", 4, "all"),
    Bar("idle pickup p50 against the best peer", "idle_p50_ms", 1, "all"),
    Bar("idle pickup p99 against the best peer", "idle_p99_ms", 1, "all"),
    Bar("pickup p99 at 1,000/s against the best peer", "pickup_1000_p99_ms", 1, "all"),
    Bar("pickup p99 at 5,000/s against the best peer", "pickup_5000_p99_ms", 1, "all"),
    Bar("lateness of a delayed job p99, ms", "delayed_p99_ms", 10, "nobody"),
    Bar("bytes for each pending job", "pending_bytes", 310, "nobody"),
    Bar("recovery of a killed worker's jobs, s", "recovery_s", 2, "nobody"),
    Bar("time of a job at 1,000,000 pending against 10,000", "backlog_1000000_us", 1.5, "backlog_10000_us"),
)
FIGURE_OF_FLOOR = {"bare loop": "bare_drain_per_s"}


def rivals(report: dict[str, Any], bar: Bar) -> dict[str, float]:
    """Return the figures that a bar compares with, by name."""
    figures = report["figures"]
    if isinstance(bar.against, str) and bar.against not in {"all", "at-least-once", "nobody"}:
        value = median(figures[OURS], bar.against)
        return {} if value is None else {bar.against: value}
    names = set(report["peers"]) - {OURS} if isinstance(bar.against, str) else set(bar.against)
    if bar.against == "at-least-once":
        names = {name for name in names if not report["peers"][name].get("loses")}
    found = {name: median(figures.get(name, {}), FIGURE_OF_FLOOR.get(name, bar.figure)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def judged(report: dict[str, Any], bar: Bar) -> list[str]:
    """Return a row: what, ours, the best rival's, the ratio, what is asked for, whether it is reached."""
    ours = median(report["figures"].get(OURS, {}), bar.figure)
    asked = f"{'at least' if is_more(bar.figure) else 'at most'} {bar.limit:g}"
    if ours is None:
        return [bar.what, "not measured", "", "", asked, ""]
    if bar.against == "nobody":
        return [bar.what, number(ours), "", "", asked, reached(ours, bar)]
    best = sorted(rivals(report, bar).items(), key=lambda pair: -pair[1] if is_more(bar.figure) else pair[1])
    if not best:
        return [bar.what, number(ours), "none was measured", "", asked, ""]
    name, theirs = best[0]
    ratio = ours / theirs
    told = number(theirs) if isinstance(bar.against, str) and bar.against.startswith("backlog") else f"{number(theirs)} ({name})"
    return [bar.what, number(ours), told, f"{ratio:.2f}", asked, reached(ratio, bar)]


def reached(value: float, bar: Bar) -> str:
    """Tell whether a value is as asked."""
    return "yes" if (value >= bar.limit if is_more(bar.figure) else value <= bar.limit) else "no"


def bar_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of all bars, its head first."""
    return [["what", "angelrt", "best other", "ratio", "asked for", "reached"], *(judged(report, bar) for bar in BARS)]
