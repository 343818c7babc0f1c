"""What the keys of a namespace hold, as a value: written, read, made canonical, and seen as the model sees it.

Canonical: the clock stands at one time, so that only "ended", "due" and "open" are left of times; a job that has a run counts as
delivered before; the token of a run is its worker's name, or `old` where no worker remembers it; beside the keys there is `passed`, the
marks of actors' lanes that a worker had seen when it looked last.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from angelrt.keys import OWN_KEYS, QUEUE_KEYS
from tests.state import VOID, gates_of, lane_of_actor, lane_of_gate

from .model import ENDED, GHOST, Db, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .world import World

NOW_MS: Final = 1_750_000_000_000
LEASE_MS: Final = 15_000
QUEUE: Final = "q"
HASHES: Final = ("jobs", "runs", "results", "rules", "control")
SETS: Final = ("held", "holders", "completed", "failed", "cancelled")
EMPTY: Final = ("blobs", "notes", "watch", "gates", "gates_void", "unique", "unique_void", "schedules", "turns")
"""What no step of these worlds may leave anything in."""
UNREAD: Final = ("queues", "events", "beats", "workers")
DEATHS: Final = re.compile(r"d\d+")
"""How a flow counts the deaths of a job's workers. Here every worker has beaten since, so that no job comes under suspicion."""
OLD: Final = "old"
LOOKED_MS: Final = NOW_MS - 2
"""When a worker that claims has looked last. Marks that it had seen then are as old, those that it has not seen are newer."""

Keys = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Each key that is not empty, with its members and their values or scores, sorted."""

assert {*HASHES, *SETS, *EMPTY, *UNREAD} | set(QUEUE_KEYS) >= set(OWN_KEYS), "a key that nobody looks at"


def gate_name(gate: str) -> str:
    """Return the gate of a world as clients write it."""
    return f"{rule_name(gate[0])}={gate[1:]}"


def rule_name(rule: str) -> str:
    """Return a rule as clients write it."""
    return f"x.{rule}@{QUEUE}"


def canonical(keys: Mapping[str, Mapping[str, str]]) -> Keys:
    """Return what the keys hold, without what no script would act upon."""
    left = {name: dict(members) for name, members in keys.items() if members and name not in UNREAD}
    if "runs" in left:
        left["runs"] = {job: _run(run) for job, run in left["runs"].items()}
    if "results" in left:
        left["results"] = {job: _run(result.partition("\0")[0]) + "\0" for job, result in left["results"].items()}
    return tuple((name, tuple(sorted(members.items()))) for name, members in sorted(left.items()))


def _run(run: str) -> str:
    token, worker, rank, _, _, _, _, flow, _ = run.split(" ", 8)
    if token.startswith(VOID):
        token, worker = VOID if token == VOID + OLD else token, OLD
    kept = ",".join(item for item in flow.split(",") if not DEATHS.fullmatch(item)) or "-"
    return f"{token} {worker} {rank} 2 2 0 {NOW_MS} {kept} "


class Snapshots:
    """Reads the namespaces of one world."""

    def __init__(self, world: World) -> None:
        """Prepare the names of its jobs, gates and lanes."""
        self.world = world
        self.ids = [f"j{index}" for index in range(len(world.jobs))]
        self._lanes = {lane_of_gate(gate_name(gate)): gate for gate in world.gates}
        self._lanes |= {lane_of_actor(job.actor): job.actor for job in world.jobs}

    def flow(self, job: int) -> str:
        """Return what may hold a job back, as a client writes it."""
        _, gates, expires = self.world.jobs[job]
        return ",".join([*(f"c{gate_name(gate)}" for gate in gates), *([f"x{NOW_MS + LEASE_MS}"] if expires else [])])

    def start(self) -> Keys:
        """Return the namespace before anything is sent: limits are declared."""
        rules = {f"{rule_name(rule)}!": str(self.world.limits[0]) for rule in self.world.rules}
        return canonical({"rules": rules})

    # -- what happens without a call -----------------------------------------------------------------------------------------------

    def pop(self, keys: Keys) -> Keys:
        """Take the marker."""
        return tuple(key for key in keys if key[0] != "wake")

    def ends(self, keys: Keys, job: int) -> Keys:
        """Let the time come that a job waits for: the end of its lease, its due time, or that until which it must have begun."""
        changed = {name: dict(members) for name, members in keys}
        for name, past in (("leased", NOW_MS - 1), ("delayed", NOW_MS), ("expires", NOW_MS)):
            if self.ids[job] in changed.get(name, {}):
                changed[name][self.ids[job]] = str(past)
        return canonical(changed)

    def die(self, keys: Keys, worker: str) -> Keys:
        """Let a worker be gone: who comes in its place has another name, so that here the dead one is renamed."""
        changed = {name: dict(members) for name, members in self.forget(keys, worker)}
        held = changed.get("held", {})
        changed["held"] = {member.replace(f"{worker}\0", f"{GHOST}\0"): score for member, score in held.items()}
        passed = changed.get("passed", {})
        changed["passed"] = {member: score for member, score in passed.items() if not member.startswith(f"{worker}\0")}
        for job, run in changed.get("runs", {}).items():
            changed["runs"][job] = run.replace(f" {worker} ", f" {GHOST} ", 1)
        return canonical(changed)

    def forget(self, keys: Keys, worker: str) -> Keys:
        """Let a worker forget its token: what is left of it stands for any that nobody knows."""
        changed = {name: dict(members) for name, members in keys}
        for name in ("runs", "results"):
            for job, run in changed.get(name, {}).items():
                token, _, rest = run.partition(" ")
                if token.lstrip(VOID) == worker:
                    changed[name][job] = token.replace(worker, OLD) + " " + rest
        return canonical(changed)

    def remember(self, keys: Keys, worker: str) -> Keys:
        """Let a worker have looked: it has seen every mark."""
        changed = {name: dict(members) for name, members in keys}
        lacked = [lane for lane in self._marked_actors(changed) if self._lanes[lane] not in self.world.workers[int(worker[1:])]]
        changed["passed"] = changed.get("passed", {}) | {f"{worker}\0{lane}": "0" for lane in lacked}
        return canonical(changed)

    def _marked_actors(self, keys: Mapping[str, Mapping[str, str]]) -> list[str]:
        return [lane for lane, score in keys.get("opens", {}).items() if float(score) < 0]

    def timed(self, keys: Keys, worker: str) -> Keys:
        """Return what the keys are to hold when this worker calls: the marks that it has seen are older than its last look."""
        changed = {name: dict(members) for name, members in keys}
        passed = changed.pop("passed", {})
        for lane in self._marked_actors(changed):
            changed["opens"][lane] = str(-LOOKED_MS if f"{worker}\0{lane}" in passed else -LOOKED_MS - 1)
        return canonical(changed)

    def untimed(self, before: Keys, after: Keys) -> Keys:
        """Return what a call has made of the keys: marks that it has set are news to everybody."""
        changed = {name: dict(members) for name, members in after}
        seen = {lane for lane in self._marked_actors(changed) if float(changed["opens"][lane]) > -NOW_MS}
        for lane in self._marked_actors(changed):
            changed["opens"][lane] = str(-NOW_MS)
        passed = dict(before).get("passed", ())
        changed["passed"] = {member: score for member, score in passed if member.partition("\0")[2] in seen}
        return canonical(changed)

    # -- as the model sees it --------------------------------------------------------------------------------------------------------

    def view(self, keys: Keys) -> Db:
        """Return a namespace as the model sees it. Raises AssertionError where it is none."""
        found = {name: dict(members) for name, members in keys}
        strange = [name for name in EMPTY if name in found]
        assert not strange, f"{strange} should be empty"
        runs, opens, rules = found.get("runs", {}), found.get("opens", {}), found.get("rules", {})
        places = tuple(self._place(found, job) for job in self.ids)
        overdue = {
            index for index, job in enumerate(self.ids)
            for name, past in (("leased", NOW_MS), ("delayed", NOW_MS), ("expires", NOW_MS))
            if float(found.get(name, {}).get(job, NOW_MS + 1)) <= past
        }  # fmt: skip
        asked = {index for index, job in enumerate(self.ids) if ",k" in "," + runs.get(job, "! - 0 0 0 0 0 - ").split(" ")[7]}
        settled = {
            (index, worker) for index, job in enumerate(self.ids) for worker in self._settled_by(found, job)
        }  # fmt: skip
        marks = {self._lanes[lane] for lane, score in opens.items() if float(score) <= NOW_MS}
        limits = tuple(int(rules[f"{rule_name(rule)}!"]) for rule in self.world.rules)
        sweeping = {rule for rule in self.world.rules if f"{rule_name(rule)}~" in rules}
        paused = {self._pause(field) for field in found.get("control", {})}
        watched = {index for index, job in enumerate(self.ids) if job in found.get("expires", {})}
        passed = {(self._lanes[lane], worker) for worker, _, lane in (member.partition("\0") for member in found.get("passed", {}))}
        return Db(
            places, frozenset(overdue), frozenset(watched), frozenset(asked), frozenset(settled), frozenset(marks), "wake" in found,
            limits, frozenset(sweeping), frozenset(paused), frozenset(passed),
        )  # fmt: skip

    def _pause(self, field: str) -> str:
        if field[0] == "q":
            return "q"
        return field if field[0] == "a" else "g" + next(gate for gate in self.world.gates if gate_name(gate) == field[1:])

    def _settled_by(self, found: dict[str, dict[str, str]], job: str) -> list[str]:
        run, result = found.get("runs", {}).get(job, ""), found.get("results", {}).get(job, "")
        token = run[1:].partition(" ")[0] if run.startswith(VOID) else result.partition(" ")[0] if not run else ""
        return [token] if token not in ("", OLD) and not token.startswith(VOID) else []

    def _place(self, found: dict[str, dict[str, str]], job: str) -> Place:
        states = ("ready", "delayed", "leased", "completed", "failed", "cancelled")
        places = [Place(state) for state in states if job in found.get(state, {})]
        places += [Place("lane", self._lanes[member.split("\0")[0]]) for member in found.get("lanes", {}) if member.split("\0")[2] == job]
        known = job in found.get("jobs", {})
        assert len(places) == known, f"{job} is in {places}, and has {'a' if known else 'no'} record"
        run = found.get("runs", {}).get(job, "! - 0 0 0 0 0 - ")
        is_leased = places == [Place("leased")]
        assert is_leased == (not run.startswith(VOID)), f"{job} is in {places} with the run {run!r}"
        worker = run.split(" ")[1]
        held = {member for member in found.get("held", {}) if member.endswith(f"\0{job}")}
        assert held == ({f"{worker}\0{job}"} if is_leased else set()), f"{job} is in {places} and held as {held}"
        gates = {f"{lane_of_gate(gate.name)}\0{job}" for gate in gates_of(run.split(" ")[7]) if is_leased}
        holders = {member for member in found.get("holders", {}) if member.endswith(f"\0{job}")}
        assert holders == gates, f"{job} is in {places} and holds {holders}"
        has_ended = bool(places) and places[0].state in ENDED
        assert not (has_ended and job in found.get("runs", {})), f"{job} has ended and has a run"
        return Place("leased", worker) if is_leased else places[0] if places else Place("unsent")
