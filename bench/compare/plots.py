"""The plots of one run as SVG: bars for the peers, curves for angelrt alone. The same figures give the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from .catalog import OURS
from .curves import BACKLOGS, WORKERS
from .table import TABLES, is_more, median, number, ordered

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

OUR_COLOUR, THEIR_COLOUR = "#c0392b", "#7f8c8d"
COLUMNS = 3
UNDER_ANOTHER = {"p99 ms", "least ms"}


def bars(axes: Axes, report: dict[str, Any], title: str, figure: str) -> None:
    """Draw a figure of all peers, the best above. Times are on a logarithmic axis: they lie orders of magnitude apart."""
    found = [(name, value) for name, value in values_of(report, figure) if value > 0]
    found.sort(key=lambda pair: pair[1], reverse=not is_more(figure))
    names, values = [name for name, _ in found], [value for _, value in found]
    drawn = axes.barh(names, values, color=[OUR_COLOUR if name == OURS else THEIR_COLOUR for name in names])
    axes.bar_label(drawn, [number(value) for value in values], padding=2, fontsize=7)
    is_time = figure.endswith("_ms")
    axes.set_title(f"{title} (logarithmic)" if is_time else title, fontsize=9)
    axes.set_xscale("log" if is_time else "linear")
    if not is_time:
        axes.locator_params(axis="x", nbins=5)  # more would run into each other where they have six digits
    axes.margins(x=0.25)
    axes.tick_params(labelsize=7)
    axes.tick_params(which="both", labelbottom=not is_time)  # each bar has its figure


def values_of(report: dict[str, Any], figure: str) -> list[tuple[str, float]]:
    """Return the peers that have a figure, with its median."""
    return [(name, value) for name in ordered(report) if (value := median(report["figures"][name], figure)) is not None]


def peers_plot(report: dict[str, Any], word: str, path: Path) -> bool:
    """Draw all figures of one table; tell whether there were any."""
    columns: list[tuple[str, str]] = []
    before = ""
    for column in TABLES[word]:
        before = before if column.title in UNDER_ANOTHER else column.title.removesuffix(" p50 ms")
        title = f"{before} {column.title}" if column.title in UNDER_ANOTHER else column.title
        if column.title != "least ms" and any(value > 0 for _, value in values_of(report, column.figure)):
            columns.append((title, column.figure))
    if not columns:
        return False
    height = -(-len(columns) // COLUMNS)
    figure, grid = plt.subplots(height, COLUMNS, figsize=(12, 3.2 * height), squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, (title, name) in zip(grid.flat, columns, strict=False):
        axes.set_visible(True)
        bars(axes, report, title, name)
    save(figure, path)
    return True


def curves_plot(report: dict[str, Any], path: Path) -> bool:
    """Draw the cost of a job against the backlog, and the rate against the number of workers; tell whether they were measured."""
    ours = report["figures"].get(OURS, {})
    if not any(word.startswith(("backlog_", "workers_")) for word in ours):
        return False
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
    for label, word in {"drain, time": "us", "drain, Redis CPU": "redis_cpu_us", "send, Redis CPU": "send_redis_cpu_us"}.items():
        points = [(size, value) for size in BACKLOGS if (value := median(ours, f"backlog_{size}_{word}"))]
        left.plot([size for size, _ in points], [value for _, value in points], marker="o", label=label)
    left.set(xscale="log", xlabel="pending jobs", ylabel="us per job")
    left.margins(y=0.3)  # room for the legend
    left.set_ylim(bottom=0)
    left.legend(fontsize=7)
    points = [(workers, value) for workers in WORKERS if (value := median(ours, f"workers_{workers}_per_s"))]
    right.plot([workers for workers, _ in points], [value for _, value in points], marker="o", color=OUR_COLOUR)
    right.set(xlabel="worker processes", ylabel="jobs/s", ylim=(0, 1.2 * max((value for _, value in points), default=1)), xticks=WORKERS)
    save(figure, path)
    return True


def save(figure: Any, path: Path) -> None:
    """Write a plot without its date."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw(report: dict[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Draw everything; return title and file of each."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "angelrt"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[tuple[str, Path]] = []
    for word in TABLES:
        path = folder / f"{word.lower()}.svg"
        if peers_plot(report, word, path):
            found.append((word, path))
    if curves_plot(report, folder / "curves.svg"):
        found.append(("Curves of angelrt", folder / "curves.svg"))
    return found
