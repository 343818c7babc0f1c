"""`python -m bench.compare [run]` measures, `python -m bench.compare report JSON` renders; `tox -e compare` does either."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from .catalog import PEERS, ROOT
from .curves import CURVES
from .report import BEGIN, END, placed, render
from .runner import Options, Run, write
from .table import text_table
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE = "COMPARE_CACHE"
WORDS = ("floors", *(workload.name for workload in WORKLOADS), "curves", *CURVES)


def listed(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of words with commas between, each of which must be known."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if wrong := [word for word in chosen if word not in known]:
            message = f"{', '.join(wrong)}: choose from {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return chosen

    return parse


def measure_parser() -> argparse.ArgumentParser:
    """Return the parser of a run."""
    names = tuple(peer.name for peer in PEERS)
    found = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    found.add_argument("--peers", type=listed(names), default=names, metavar="A,B", help=f"who takes part: {', '.join(names)}")
    found.add_argument("--only", type=listed(WORDS), default=(), metavar="A,B", help=f"workloads: {', '.join(WORDS)}")
    found.add_argument("--scale", type=float, default=1.0, help="the number of jobs, as a share of the full run")
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--json", type=Path, default=ROOT / "compare.json", help="where the figures go")
    found.add_argument("--here", action="store_true", help="use this interpreter and what is installed in it, install nothing")
    return found


def report_parser() -> argparse.ArgumentParser:
    """Return the parser of `report`."""
    found = argparse.ArgumentParser(prog="python -m bench.compare report", description="Markdown on standard output, plots in a folder.")
    found.add_argument("figures", type=Path, metavar="JSON")
    found.add_argument("--plots", type=Path, default=ROOT / "docs" / "performance", help="the folder of the plots")
    found.add_argument("--into", type=Path, metavar="FILE", help=f"write between {BEGIN} and {END} of this file, not to standard output")
    return found


def measure(arguments: list[str]) -> None:
    """Measure, and print the table."""
    given = measure_parser().parse_args(arguments)
    cache = None if given.here else Path(os.environ.get(CACHE, ROOT / ".tox" / "compare" / "peers")).resolve()
    run = Run(Options(given.peers, given.only, given.scale, given.rounds, cache), told=say)
    run.measure(lambda report: write(report, given.json))
    sys.stdout.write(text_table(run.report()) + f"\n{given.json}\n")


def say(line: str) -> None:
    """Tell at once what happens."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def render_report(arguments: list[str]) -> None:
    """Render what was measured."""
    given = report_parser().parse_args(arguments)
    rendered = render(orjson.loads(given.figures.read_bytes()), given.plots)
    if given.into is None:
        sys.stdout.write(rendered)
    else:
        given.into.write_text(placed(given.into.read_text(encoding="utf-8"), rendered), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["report"]:
        render_report(sys.argv[2:])
    else:
        measure(sys.argv[1:])
