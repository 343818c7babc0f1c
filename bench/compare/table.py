"""Figures as people read them: which there are, how each is written, and the table that a run prints."""

from __future__ import annotations

from typing import Any, NamedTuple

SMALL = 10


class Column(NamedTuple):
    """A figure of the table; a peer without it shows `instead`, the first text of these that there is."""

    title: str
    figure: str
    instead: tuple[str, ...] = ()


THROUGHPUT = (
    Column("drain jobs/s", "drain_per_s"),
    Column("end to end jobs/s", "end_to_end_per_s"),
    Column("10 ms I/O jobs/s", "io_per_s", ("not_asynchronous",)),
    Column("send/s awaited", "single_per_s"),
    Column("send/s of 100", "concurrent_per_s"),
    Column("send/s bulk", "bulk_per_s"),
)
LATENCY = (
    Column("idle pickup p50 ms", "idle_p50_ms"),
    Column("p99 ms", "idle_p99_ms"),
    Column("at 1,000/s p50 ms", "pickup_1000_p50_ms", ("pickup_1000 carried",)),
    Column("p99 ms", "pickup_1000_p99_ms", ("pickup_1000 carried",)),
    Column("at 5,000/s p50 ms", "pickup_5000_p50_ms", ("pickup_5000 carried",)),
    Column("p99 ms", "pickup_5000_p99_ms", ("pickup_5000 carried",)),
    Column("70% of its end to end, jobs/s", "load_per_s"),
    Column("at that load p50 ms", "pickup_70_p50_ms", ("pickup_70 carried",)),
    Column("p99 ms", "pickup_70_p99_ms", ("pickup_70 carried",)),
    Column("delayed late p50 ms", "delayed_p50_ms"),
    Column("p99 ms", "delayed_p99_ms"),
    Column("least ms", "delayed_least_ms"),
    Column("recovery s", "recovery_s", ("not_recovered",)),
)
COST = (
    Column("Redis CPU us/job", "redis_cpu_us"),
    Column("commands/job", "redis_commands"),
    Column("worker CPU us/job", "worker_cpu_us"),
    Column("worker MiB", "worker_mib"),
    Column("bytes/pending job", "pending_bytes"),
    Column("bytes/finished job", "kept_bytes"),
)
TABLES = {"Throughput": THROUGHPUT, "Latency": LATENCY, "Cost": COST}
WORKLOAD_OF = {
    **dict.fromkeys(("single_per_s", "concurrent_per_s"), "send"),
    **dict.fromkeys(("end_to_end_per_s",), "end_to_end"),
    **dict.fromkeys(("io_per_s",), "io"),
    **dict.fromkeys(("recovery_s",), "recovery"),
    **{f"{name}_{cut}_ms": name for name in ("idle", "pickup_1000", "pickup_5000", "pickup_70", "delayed") for cut in ("p50", "p99")},
    "load_per_s": "pickup_70",
    "delayed_least_ms": "delayed",
}
"""The workload behind a figure; drain, where it is not said."""


def is_more(figure: str) -> bool:
    """Whether more of a figure is better: of rates alone."""
    return figure.endswith("_per_s")


def number(value: float) -> str:
    """Write a number with as many digits as mean something."""
    return f"{value:,.2f}" if abs(value) < SMALL else f"{value:,.0f}"


def median(figures: dict[str, Any], figure: str) -> float | None:
    """Return the median of a figure; None where there is none."""
    found = figures.get(figure)
    return float(found["median"]) if isinstance(found, dict) else None


def cell(figures: dict[str, Any], column: Column) -> str:
    """Write the figure of a peer, or what stands there instead."""
    value = median(figures, column.figure)
    text = next((str(figures[other]) for other in column.instead if other in figures), "")
    if value is not None and not text.startswith("no"):
        return number(value)
    if text:
        return text
    return "failed" if f"{WORKLOAD_OF.get(column.figure, 'drain')} failed" in figures else "-"


def ordered(report: dict[str, Any]) -> list[str]:
    """Return the peers that have figures, fastest drain first."""
    names = [name for name in report["figures"] if name in report["peers"]]
    return sorted(names, key=lambda name: -(median(report["figures"][name], "drain_per_s") or 0))


def rows_of(report: dict[str, Any], columns: tuple[Column, ...]) -> list[list[str]]:
    """Return the rows of a table, its head first; beside throughput stands what is guaranteed for it."""
    rows = [["", *(column.title for column in columns)]]
    rows += [[name, *(cell(report["figures"][name], column) for column in columns)] for name in ordered(report)]
    if columns is THROUGHPUT:
        rows[0] += ["jobs of a killed worker", "results"]
        for row in rows[1:]:
            row += [report["peers"][row[0]][word] for word in ("killed", "results")]
    return rows


def failures(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each peer that could not be measured, and for each workload at which one failed."""
    found = [f"{name}: {about['failed']}" for name, about in report["peers"].items() if "failed" in about]
    for name, figures in report["figures"].items():
        found += [f"{name}, {figure.removesuffix(' failed')}: {why}" for figure, why in figures.items() if figure.endswith(" failed")]
    return found


def others(report: dict[str, Any]) -> dict[str, float]:
    """Return the medians of the floors and of what is measured of angelrt alone."""
    shown = {column.figure for columns in TABLES.values() for column in columns}
    found: dict[str, float] = {}
    for figures in report["figures"].values():
        for figure in figures:
            value = median(figures, figure)
            if value is not None and figure not in shown and figure.startswith(("z", "l", "bare", "backlog", "workers", "spread")):
                found[figure] = value
    return found


def text_table(report: dict[str, Any]) -> str:
    """Return everything as text for a terminal."""
    parts: list[str] = []
    for title, columns in TABLES.items():
        rows = [row for row in rows_of(report, columns) if any(text != "-" for text in row[1 : len(columns) + 1])]
        if len(rows) > 1:
            widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
            lines = ("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
            parts.append("\n".join([title, *lines]))
    parts.append("\n".join(f"{name:36} {number(value)}" for name, value in others(report).items()))
    parts.append("\n".join(failures(report)))
    return "\n\n".join(part for part in parts if part) + "\n"
