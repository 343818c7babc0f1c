"""One run: environments, one server, rounds in which the peers take turns; every sample is kept, failures with their reasons among them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .catalog import OURS, PEERS, ROOT
from .curves import CURVES
from .floors import FLOORS
from .install import NotInstalled, here, prepared
from .place import Place
from .process import PeerFailed
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .catalog import Peer
    from .install import Environment
    from .workloads import Figures

    Samples = dict[str, dict[str, list[Figures]]]

FAILURES_MAX = 2
"""A peer that failed so often at a workload is not tried there again; one whose jobs did not come back in time, not a second time."""
CURVE_ROUNDS_MAX = 3


class Options(NamedTuple):
    """What to measure."""

    peers: tuple[str, ...]
    only: tuple[str, ...]
    scale: float
    rounds: int
    cache: Path | None
    """None: in this very interpreter, with what is installed in it."""


class Turn(NamedTuple):
    """One measurement of one round."""

    workload: str
    name: str
    measure: Callable[[Place], Figures]


class Run:
    """What is known so far."""

    def __init__(self, options: Options, told: Callable[[str], None]) -> None:
        """Begin with nothing; `told` gets a line for each thing that happens."""
        self.options = options
        self.told = told
        self.peers: dict[str, dict[str, Any]] = {}
        self.samples: Samples = {}
        self.begun = datetime.now(UTC)
        self.machine = machine()
        self.commit = commit()

    def measure(self, save: Callable[[dict[str, Any]], None]) -> None:
        """Install, then measure in rounds; what is known is saved again and again."""
        environments = self.environments()
        with Place(environments, self.options.scale) as place:
            self.server = str(place.server.program)
            for peer in [peer for peer in PEERS if peer.name in environments]:
                self.introduce(place, peer)
            contestants = [peer for peer in PEERS if "failed" not in self.peers.get(peer.name, {"failed": ""})]
            for number in range(self.options.rounds):
                for turn in self.turns(contestants, number):
                    self.take(place, turn, number)
                    save(self.report())

    def environments(self) -> dict[str, Environment]:
        """Prepare the environments of the chosen peers; who has none is noted with the reason."""
        found: dict[str, Environment] = {}
        for peer in PEERS:
            if peer.name not in self.options.peers:
                continue
            self.told(f"installing {peer.name}")
            try:
                found[peer.name] = here(peer) if self.options.cache is None else prepared(peer, self.options.cache)
            except NotInstalled as error:
                self.peers[peer.name] = {"failed": f"cannot be installed: {error}"}
                self.told(f"  {peer.name} cannot be installed: {error}")
        return found

    def introduce(self, place: Place, peer: Peer) -> None:
        """Start a client and a worker once: what the peer says of itself, or why it cannot be measured."""
        place.empty()
        try:
            with place.worker(peer) as worker, place.client(peer):
                self.peers[peer.name] = worker.about
        except PeerFailed as error:
            self.peers[peer.name] = {"failed": str(error)}
            self.told(f"  {peer.name} does not start: {error}")

    def turns(self, contestants: list[Peer], number: int) -> Iterator[Turn]:
        """Yield the measurements of a round: each workload for every peer before the next workload, a different peer first each round."""
        for name, floor in FLOORS.items():
            if self.chosen("floors") and (name == "redis-benchmark" or any(peer.name == OURS for peer in contestants)):
                yield Turn("floors", name, floor)
        shift = number % max(len(contestants), 1)
        for workload in WORKLOADS:
            if self.chosen(workload.name) and number < workload.rounds_max:
                for peer in contestants[shift:] + contestants[:shift]:
                    yield Turn(workload.name, peer.key, bound(workload.run, peer))
        for peer in [peer for peer in contestants if peer.name == OURS]:
            for name, curve in CURVES.items():
                if (self.chosen(name) or self.chosen("curves")) and number < CURVE_ROUNDS_MAX:
                    yield Turn(name, peer.key, bound(curve, peer))

    def chosen(self, workload: str) -> bool:
        """Whether a workload is among those to be measured."""
        return not self.options.only or workload in self.options.only

    def take(self, place: Place, turn: Turn, number: int) -> None:
        """Measure once, and keep the figures or the reason why there are none."""
        kept = self.samples.setdefault(turn.workload, {}).setdefault(turn.name, [])
        if sum("failed" in sample for sample in kept) >= FAILURES_MAX or any("not_recovered" in sample for sample in kept):
            return
        place.empty()
        begun_s = time.monotonic()
        figures: Figures
        try:
            figures = turn.measure(place)
        except PeerFailed as error:
            figures = {"failed": str(error)}
        kept.append(figures)
        shown = ", ".join(f"{name} {figure:,.4g}" if isinstance(figure, float) else f"{name} {figure}" for name, figure in figures.items())
        self.told(f"round {number + 1} {turn.workload:12} {turn.name:16} {time.monotonic() - begun_s:5.1f} s  {shown}")

    def report(self) -> dict[str, Any]:
        """Return all that is known, ready for JSON."""
        return {
            "date": self.begun.isoformat(timespec="seconds"),
            "minutes": round((datetime.now(UTC) - self.begun).total_seconds() / 60, 1),
            "commit": self.commit,
            "command": "tox -e compare" + "".join(f" {word}" for word in (["--", *sys.argv[1:]] if sys.argv[1:] else [])),
            "machine": self.machine,
            "server": self.server,
            "rounds": self.options.rounds,
            "scale": self.options.scale,
            "peers": self.peers,
            "samples": self.samples,
            "figures": summary(self.samples),
        }


def bound(run: Callable[[Place, Peer], Figures], peer: Peer) -> Callable[[Place], Figures]:
    """Return a workload of one peer."""
    return lambda place: run(place, peer)


def summary(samples: Samples) -> dict[str, dict[str, Any]]:
    """Return, by peer and figure, the median with the least and the most, or the last words where the figure is text."""
    gathered: dict[str, dict[str, list[float | str]]] = {}
    for workload, peers in samples.items():
        for name, rows in peers.items():
            for row in rows:
                for figure, value in row.items():
                    key = f"{workload} {figure}" if figure in {"failed", "carried"} else figure
                    gathered.setdefault(name, {}).setdefault(key, []).append(value)
    return {name: {figure: summed(values) for figure, values in figures.items()} for name, figures in gathered.items()}


def summed(values: list[float | str]) -> Any:
    """Return the median and the spread of numbers; of texts the last that says what most of them say before the colon."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        said = [str(value).partition(":")[0] for value in values]
        return next(value for value, word in zip(reversed(values), reversed(said), strict=True) if word == statistics.mode(said))
    return {"median": statistics.median(numbers), "least": min(numbers), "most": max(numbers), "samples": len(numbers)}


def commit() -> str:
    """Return the commit that is checked out, with a plus sign when files differ from it."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty=+"], check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def machine() -> dict[str, Any]:
    """Return what this runs on, and how busy it was before."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"processor": model or platform.processor(), "cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()}


def write(report: dict[str, Any], path: Path) -> None:
    """Write a report as one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
