"""The figures of one run as Markdown for docs/performance.md, with plots beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .bars import bar_rows
from .catalog import OURS, ROOT
from .curves import BACKLOGS, WORKERS
from .table import TABLES, failures, median, number, ordered, rows_of

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END = "<!-- compared: begin -->", "<!-- compared: end -->"


def markdown(rows: list[list[str]]) -> str:
    """Return a table, numbers to the right."""
    head, *body = [[text.replace("|", "\\|") for text in row] for row in rows]
    numeric = [any(text[:1].isdigit() for text in column) for column in zip(*rows[1:], strict=True)]
    rule = ["---", *("---:" if numbers else "---" for numbers in numeric[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def described(report: dict[str, Any]) -> str:
    """Return what was measured where, and with which command."""
    machine = report["machine"]
    runs_on = sorted({about["runs_on"] for about in report["peers"].values() if "runs_on" in about})
    return (
        f"{report['date'][:10]}, {machine['cores']} cores of {machine['processor']}, {machine['system']}, {report['server']} over TCP on "
        f"loopback, nothing on disk, {' and '.join(runs_on)}, commit {report['commit']}, the peers in turns, rounds: {report['rounds']}, "
        f"{report['minutes']:g} minutes.\n\n```console\n$ {report['command']}\n```"
    )


def peers_table(report: dict[str, Any]) -> str:
    """Return who took part, with which settings and which guarantee."""
    rows = [["peer", "version", "settings", "jobs of a killed worker", "results", "pickup"]]
    for name in ordered(report):
        about = report["peers"][name]
        rows.append([f"[{name}]({about['documented']})" if name != OURS else name, about["version"], about["settings"]])
        rows[-1] += [about["killed"], about["results"], about["pickup"]]
    return markdown(rows)


def spread_table(report: dict[str, Any]) -> str:
    """Return how far the rounds lay apart, for the figure that all are ranked by."""
    rows = [["peer", "drain jobs/s", "least", "most", "rounds"]]
    for name in ordered(report):
        found = report["figures"][name].get("drain_per_s")
        if found:
            rows.append([name, *(number(found[word]) for word in ("median", "least", "most")), str(found["samples"])])
    return markdown(rows)


def floors_table(report: dict[str, Any]) -> str:
    """Return the floors of the run."""
    rows = [["floor", "per second"]]
    for name in ("redis-benchmark", "bare loop"):
        for figure, value in report["figures"].get(name, {}).items():
            if isinstance(value, dict):
                rows.append([f"{name}: {figure.removesuffix('_per_s').removeprefix('bare_').upper()}", number(value["median"])])
    return markdown(rows)


def curves_table(report: dict[str, Any]) -> str:
    """Return what was measured of angelrt alone."""
    ours = report["figures"].get(OURS, {})
    rows = [["angelrt alone", "time us/job", "Redis CPU us/job", "jobs/s"]]
    for size in BACKLOGS:
        for title, word in ((f"drain beside {size:,} pending", ""), (f"send beside {size:,} pending", "send_")):
            rows.append([title, shown(ours, f"backlog_{size}_{word}us"), shown(ours, f"backlog_{size}_{word}redis_cpu_us"), ""])
    rows += [[f"{workers} worker processes", "", "", shown(ours, f"workers_{workers}_per_s")] for workers in WORKERS]
    spreads = {"one queue": "plain", "100 queues": "queues", "10 priorities": "priorities"}
    rows += [[title, "", "", shown(ours, f"spread_{word}_per_s")] for title, word in spreads.items()]
    return markdown(rows)


def shown(figures: dict[str, Any], figure: str) -> str:
    """Write a figure that may be missing."""
    value = median(figures, figure)
    return "-" if value is None else number(value)


def placed(text: str, rendered: str) -> str:
    """Return a document with what stands between its marks replaced. Raises ValueError for one without marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        message = f"there is no {BEGIN} with an {END} behind it"
        raise ValueError(message)
    return f"{head}{begin}\n\n{rendered}\n{end}{tail}"


def render(report: dict[str, Any], plots: Path) -> str:
    """Draw the plots and return the Markdown."""
    from .plots import draw  # noqa: PLC0415 - it brings matplotlib

    parts = [described(report), "#### The bar", markdown(bar_rows(report)), "#### Who takes part", peers_table(report)]
    if missing := failures(report):
        parts += ["Not measured:", "\n".join(f"- {sentence}" for sentence in missing)]
    for title, columns in TABLES.items():
        parts += [f"#### {title}", markdown(rows_of(report, columns))]
    parts += ["#### Spread", spread_table(report), "#### Floors", floors_table(report), "#### Curves", curves_table(report)]
    for title, path in draw(report, plots):
        parts.append(f"![{title}]({os.path.relpath(path, ROOT / 'docs')})")
    return "\n\n".join(parts) + "\n"
