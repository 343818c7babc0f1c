"""The history of a run: one fact a line. Some are noted while it goes on, the rest is read from the server when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from angelrt.job import rank_ready_ms, read_record
from angelrt.views import read_outcome
from tests.chaos.fleet import now_ms, worker_ids
from tests.state import problems, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from angelrt.store import Store
    from tests.state import State

Fact = dict[str, Any]


class History:
    """Collects facts in a file of the run's folder."""

    def __init__(self, folder: Path) -> None:
        """Open the file."""
        self._folder = folder
        self._file = (folder / "run.facts").open("ab", buffering=0)

    def note(self, fact: str, **what: Any) -> None:
        """Add a fact with the time (ms since 1970)."""
        self._file.write(orjson.dumps({"fact": fact, "at": now_ms(), **what}) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def facts(self) -> list[Fact]:
        """Return what was noted by every process, in the order of time."""
        found = [orjson.loads(line) for path in self._folder.glob("*.facts") for line in path.read_bytes().splitlines()]
        return sorted(found, key=lambda fact: float(fact["at"]))


def write(path: Path, facts: list[Fact]) -> None:
    """Write a history."""
    path.write_bytes(b"".join(orjson.dumps(fact) + b"\n" for fact in facts))


def read(path: Path) -> list[Fact]:
    """Read a history."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def collect(store: Store, folder: Path) -> list[Fact]:
    """Return what the server and the logs tell when all is over: how every job ended, what was counted, who was which worker."""
    state = await read_state(store)
    facts: list[Fact] = [{"fact": "worker", "pid": pid, "worker": worker} for pid, worker in worker_ids(folder).items()]
    facts += [{"fact": "unsound", "what": what} for what in problems(state)]
    facts += _ends(state)
    facts += [{"fact": "left over", "job": job_id, "place": place} for job_id, place in _waiting(state)]
    facts += _counters(state)
    return facts


def _ends(state: State) -> Iterator[Fact]:
    for outcome in ("completed", "failed", "cancelled"):
        for job_id, ended_ms in getattr(state, outcome).items():
            yield {"fact": "ended", "job": job_id, "outcome": outcome, "at": ended_ms, **_run_of(state, job_id)}


def _run_of(state: State, job_id: str) -> Fact:
    """Return the run that settled a job, and those before it; nothing for a job that ended without one."""
    record, stored = read_record(state.jobs[job_id]), state.results.get(job_id)
    if stored is None:
        return {"actor": record.actor, "deliveries": 0, "timeline": []}
    run, payload = read_outcome(stored)
    payload = state.blobs.get(f"{job_id}={run.token}", b"") if payload == b"\1" else payload
    earlier = [entry.split(",") for entry in reversed(run.history.split(";") if run.history else [])]
    found: Fact = {
        "actor": record.actor, "deliveries": run.deliveries, "worker": run.worker, "attempts": run.attempts, "started": run.started_ms,
        "ready": rank_ready_ms(run.rank), "timeline": [[how, float(start), float(end), worker] for how, start, end, worker in earlier],
    }  # fmt: skip
    result = orjson.loads(payload)
    found |= {"error": f"{result['type']}: {result['message']}"} if isinstance(result, dict) else {"result": result[:2]}
    if record.actor == "child":
        found["parent"] = orjson.loads(record.arguments)["of"]
        found["child"] = orjson.loads(record.arguments)["number"]
    return found


def _waiting(state: State) -> Iterator[tuple[str, str]]:
    for job_id, places in state.places().items():
        if not {"completed", "failed", "cancelled"} & set(places):
            yield job_id, ",".join(places)


def _counters(state: State) -> Iterator[Fact]:
    """Yield how often each outcome was counted for each actor, by the scripts that settled."""
    totals: dict[tuple[str, str], int] = {}
    for field, times in state.stats.items():
        _, actor, word = field.split("|")
        if word in ("completed", "failed", "cancelled"):
            totals[actor, word] = totals.get((actor, word), 0) + times
    yield from ({"fact": "counted", "actor": actor, "outcome": word, "times": times} for (actor, word), times in totals.items())
