"""What a run has shown, as a short table and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.checker import Fact, Finding
    from tests.chaos.lives import Life

SHOWN_PROBLEMS: Final = 20
UNLIMITED: Final = ("work", "parent", "flaky")
"""Actors whose jobs wait for nothing but a worker: their pickup is that of the queue."""


def summary(facts: Sequence[Fact], finding: Finding) -> dict[str, Any]:
    """Return the figures of a run. Times are in ms."""
    head = next(fact for fact in facts if fact["fact"] == "run")
    waits = [wait for wait in map(pickup, finding.lives) if wait is not None]
    met = Counter(fact["kind"] for fact in facts if fact["fact"] == "fault" and fact["met"])
    kinds = Counter(fact["fact"] for fact in facts)
    return {
        **{name: value for name, value in head.items() if name not in ("fact", "at")},
        "sent": finding.sent, "completed": finding.completed, "failed": finding.failed, "lost": finding.lost,
        "completion_rate": round(finding.rate, 6), "applied_twice": finding.twice, "children": len(finding.lives) - finding.sent,
        "faults": dict(met.most_common()), "extra_deliveries": dict(finding.extra.most_common()), "unexplained": finding.unexplained,
        "runs": kinds["began"], "runs_cut": kinds["cut"], "sends_refused": kinds["refused"], "results_heard": kinds["heard"],
        "pickup_ms": spread(waits), "recovery_ms": recovery(facts, finding.lives), "took_s": round(_took_ms(facts) / 1000, 1),
        "failures": [f"job {life.id}: {life.end.get('error', '')}" for life in finding.lives if life.end["outcome"] != "completed"],
        "problems": finding.problems,
    }  # fmt: skip


def pickup(life: Life) -> float | None:
    """Return how long a job was ready before an actor first ran it, in ms; None where a limit or a retry stood between."""
    if life.end["actor"] not in UNLIMITED or life.began is None or any(one.how == "r" for one in life.deliveries):
        return None
    return max(life.began - float(life.end["ready"]), 0.0)


def recovery(facts: Sequence[Fact], lives: Sequence[Life]) -> dict[str, dict[str, float]]:
    """Return by kind of fault how long after its begin the jobs that it took from a worker were delivered elsewhere, the last of them.

    For the server's: how long after it answered again the next job began.
    """
    last: defaultdict[tuple[int, str], float] = defaultdict(float)
    for life in lives:
        for lost, following in pairwise(life.deliveries):
            if lost.fault is not None and lost.fault.worker:
                name = (lost.fault.number, lost.fault.kind)
                last[name] = max(last[name], following.started - lost.fault.begin)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for (_, kind), took_ms in last.items():
        found[kind].append(took_ms)
    begins = sorted(fact["at"] for fact in facts if fact["fact"] == "began")
    for fault in facts:
        if fault["fact"] == "fault" and fault["kind"].startswith("server"):
            after = next((at for at in begins if at >= fault["end"]), None)
            if after is not None:
                found[fault["kind"]].append(after - fault["end"])
    return {kind: spread(times) for kind, times in sorted(found.items())}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return number, median, 99th percentile and maximum."""
    if not values:
        return {"count": 0}
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    return {"count": len(values), "p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(max(values), 1)}


def table(found: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    waits = found["pickup_ms"]
    rows = [
        (
            "jobs",
            f"{found['sent']:,} sent, {found['completed']:,} completed, {found['failed']:,} failed; {found['children']:,} children",
        ),
        ("lost", f"{found['lost']} (must be 0)"),
        ("completion rate", f"{found['completion_rate']:.4%} (at least 99.99%)"),
        ("effects twice", f"{found['applied_twice']} (must be 0)"),
        ("faults", _counted(found["faults"])),
        ("extra deliveries", _counted(found["extra_deliveries"])),
        ("unexplained", f"{found['unexplained']} (must be 0)"),
        ("pickup", f"p50 {waits.get('p50', 0):,} ms, p99 {waits.get('p99', 0):,} ms"),
        *((f"after {kind}", _spread(times)) for kind, times in found["recovery_ms"].items()),
        ("runs", f"{found['runs']:,}, of which {found['runs_cut']} were cut when their lease was lost"),
        ("sends", f"{found['sends_refused']} refused and repeated; {found['results_heard']:,} results waited for and heard"),
        *(("failed", words) for words in found["failures"][:SHOWN_PROBLEMS]),
        ("took", f"{found['took_s']} s on {found['server']}, commit {found['commit']}"),
        ("again", found["command"]),
        *(("PROBLEM", problem) for problem in found["problems"][:SHOWN_PROBLEMS]),
    ]
    if len(found["problems"]) > SHOWN_PROBLEMS:
        rows.append(("PROBLEM", f"and {len(found['problems']) - SHOWN_PROBLEMS} more"))
    return "\n".join(f"{name:>18}  {value}" for name, value in rows)


def _spread(times: dict[str, float]) -> str:
    return f"{times['count']} times: p50 {times['p50']:,} ms, max {times['max']:,} ms until work went on"


def _counted(counts: dict[str, int]) -> str:
    return f"{sum(counts.values()):,}: " + ", ".join(f"{kind} {times:,}" for kind, times in counts.items())


def _took_ms(facts: Sequence[Fact]) -> float:
    times = [float(fact["at"]) for fact in facts if fact.get("at")]
    return max(times) - min(times)
