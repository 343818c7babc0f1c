"""What the server was asked and answered, checked as it happens: tokens, ends, children, limits, and the cause of every lost lease.

It knows nothing of how the scripts work: it reads the calls that workers made and the answers that they got.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgpack

from angelrt.views import deaths_of, read_lease
from tests.simulation.deaths import Deaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.loop import Process

VARIANT: Final = re.compile("_(plain|with_children)$")
RUN_FIELDS: Final = 3
REPLY_HEAD: Final = 4
ENDS: Final = "cfgk"
WORDS: Final = {"c": "completed", "f": "failed", "g": "failed", "k": "cancelled"}
EXTRA_S: Final = {"silence": 7, "no greeting": 7, "late": 7, "cut off": 7, "stalled": 3, "down": 3, "lost": 2, "reset": 2}
"""What a fault costs beside its own length: a reply is waited for 6 s, a reset connection is made anew within two."""
RENEWED_S: Final = 1.5
"""Leases are renewed three times in their length, and so much later at most."""
BEFORE_S: Final = 3.0
"""A fault of the packet that carried a claim comes so much before the claim, which may have waited for a marker."""


def packed_ids(argument: bytes) -> list[str]:
    """Return the ids of the new jobs that an argument stands for."""
    lone = re.match(rb"\d+\0([^\0]+)\0", argument)
    ids = [lone[1]] if lone else msgpack.unpackb(argument, raw=True)[1]
    return [job_id.decode() for job_id in ids]


@dataclass
class Lease:
    """One delivery, as its claim answered it."""

    token: str
    worker: str
    gates: tuple[str, ...]
    claimed_s: float
    lease_s: float
    until_ms: float
    deaths: int = 0
    attempts: int = 0
    verdict: str = ""
    is_struck: bool = False
    is_struck_early: bool = False
    has_lapsed: bool = False

    def is_valid(self, now_ms: float) -> bool:
        """Whether the server must hold the token valid."""
        return not self.verdict and not self.is_struck and not self.has_lapsed and self.until_ms > now_ms


@dataclass(frozen=True)
class Fault:
    """Something that was done to the world; without a process, to all of it."""

    name: str
    process: Process | None
    from_s: float
    until_s: float

    @property
    def may_be_silent(self) -> bool:
        """Whether a connection may be dead for a while without anybody knowing."""
        return any(word in self.name for word in ("silence", "greeting", "late", "cut off"))

    @property
    def weight_s(self) -> float:
        """How long it may keep a worker from renewing its leases."""
        if self.name.startswith(("killed", "clock jump", "request late")):
            return math.inf  # a claim that comes late leases jobs to a worker that waits for it no longer
        named = next((extra_s for words, extra_s in EXTRA_S.items() if words in self.name), 0)
        return self.until_s - self.from_s + named if named else 0


@dataclass
class Ledger:
    """`problem` hears of every breach; `limits` are the most that may hold a concurrency gate, by rule."""

    now_s: Callable[[], float]
    now_ms: Callable[[], float]
    problem: Callable[[str], None]
    limits: dict[str, int]
    leases: dict[str, list[Lease]] = field(default_factory=dict)
    claims: dict[str, set[str]] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    processes: dict[str, Process] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    lease_ms: float = math.inf
    deaths: Deaths = field(init=False)

    def __post_init__(self) -> None:
        self.deaths = Deaths(self.problem, counts=self.counts)

    def clock_jumps(self) -> None:
        """What has run out by the clock as it was may have been taken back, whatever the clock will say."""
        for leases in self.leases.values():
            leases[-1].has_lapsed |= leases[-1].until_ms <= self.now_ms()

    def executed(self, script: str, named: dict[str, bytes], rest: list[bytes], reply: Any) -> None:
        """Take note of a call of a script."""
        read = getattr(self, f"_read_{VARIANT.sub('', script)}", None)
        if read is not None and reply is not None and not isinstance(reply, Exception):
            read(named, [part.decode("latin-1") for part in rest], reply)

    def _read_enqueue(self, named: dict[str, bytes], _: list[str], reply: list[Any]) -> None:
        for job_id, code in zip(packed_ids(named["jobs"]), reply, strict=True):
            if code == 1:
                self.created.add(job_id)

    def _read_claim(self, named: dict[str, bytes], _: list[str], reply: list[Any]) -> None:
        token, worker, now_ms = named["token"].decode(), named["worker"].decode(), self.now_ms()
        self.lease_ms = float(named["lease_ms"])
        if worker in self.deaths.beats:
            self.deaths.beats[worker] = float(reply[0])  # who claims is alive
        for job_id, stored in zip(*(iter(reply[REPLY_HEAD + first :: 5]) for first in (0, 4)), strict=True):
            told, attempts, flow, history = read_lease(stored)
            if told != token:
                self.problem(f"job {job_id.decode()}: the claim {token} is answered with a lease under {told}")
            gates = tuple(item[1:] for item in flow.split(",") if item[0] == "c")
            until_ms = math.floor(now_ms + self.lease_ms)
            lease = Lease(token, worker, gates, self.now_s(), self.lease_ms / 1000, until_ms, deaths_of(flow), attempts)
            self._lease(job_id.decode(), lease, history)
        self._check_repeated(token, worker, {job_id.decode() for job_id in reply[REPLY_HEAD::5]})
        if len(reply) > REPLY_HEAD and not self._is_overtaken(worker):
            last = {job_id: leases[-1] for job_id, leases in self.leases.items()}
            held = {job_id: one for job_id, one in last.items() if one.worker == worker and one.is_valid(now_ms)}
            self.deaths.check_apart(worker, held)

    def _check_repeated(self, token: str, worker: str, answered: set[str]) -> None:
        """A claim that is sent again is answered with what its token holds; only one that was overtaken by its own repetition is not."""
        held = self.claims.setdefault(token, set())
        is_overtaken = self._is_overtaken(worker)
        for job_id in sorted(held - answered):
            lease = self.leases[job_id][-1]
            if lease.token == token and lease.is_valid(self.now_ms()) and not is_overtaken:
                self.problem(f"job {job_id}: the claim {token} was sent again, and is not told that it holds the job")
        held |= answered

    def _is_overtaken(self, worker: str) -> bool:
        process = self.processes.get(worker)
        return any(fault.process is process and "request late" in fault.name for fault in self.faults)

    def _lease(self, job_id: str, lease: Lease, history: str) -> None:
        earlier = self.leases.setdefault(job_id, [])
        last = earlier[-1] if earlier else None
        if last is not None and last.token == lease.token:
            last.deaths, last.attempts = lease.deaths, lease.attempts  # a claim that is sent again may lease anew what it has lost
            return
        self.counts["deliveries"] += 1
        if last is not None and last.is_valid(self.now_ms()):
            self.problem(f"job {job_id} is leased under {lease.token} while {last.token} of worker {last.worker} is valid")
        if job_id in self.ends:
            self.problem(f"job {job_id} is leased after it has ended")
        if last is not None and not last.verdict:
            self._account_for(job_id, last)
        self.deaths.check_lease(job_id, lease, last, history)
        earlier.append(lease)
        for gate in lease.gates:
            held = sum(gate in one.gates and one.is_valid(self.now_ms()) for leases in self.leases.values() for one in leases[-1:])
            most = self.limits[gate.partition("=")[0]]
            if held > most:
                self.problem(f"{held} jobs hold the gate {gate}, which lets {most} through: the last is {job_id}")

    def _account_for(self, job_id: str, lost: Lease) -> None:
        """A lease that was lost must have a cause that has a name."""
        process, since_s = self.processes.get(lost.worker), lost.claimed_s - BEFORE_S
        if lost.is_struck_early:  # what the strike was for has been looked at
            self.counts["lost by a strike"] += 1
            return
        suffered = [fault for fault in self.faults if fault.process in (None, process) and fault.weight_s]
        suffered = [fault for fault in suffered if fault.from_s + fault.weight_s >= since_s]
        if suffered and sum(fault.weight_s for fault in suffered) >= lost.lease_s * 2 / 3 - RENEWED_S:
            self.counts[f"lost by {max(suffered, key=lambda fault: fault.weight_s).name.partition(' jump')[0]}"] += 1
        else:
            names = ", ".join(fault.name for fault in suffered) or "nothing"
            self.problem(f"job {job_id} was leased again although only this happened to {lost.worker}, which holds {lost.token}: {names}")

    def _read_renew(self, named: dict[str, bytes], rest: list[str], reply: list[Any]) -> None:
        lost = {job_id.decode() for job_id in reply[1 : 1 + reply[0]]}
        for job_id, token in zip(rest[1::3], rest[2::3], strict=True):
            lease = self._find(job_id, token)
            if job_id not in lost:
                lease.until_ms = math.floor(self.now_ms() + float(named["lease_ms"]))
                if lease is not self.leases[job_id][-1]:
                    self.problem(f"job {job_id}: a lease was renewed under the void token {token}")
            elif lease is self.leases[job_id][-1] and lease.is_valid(self.now_ms()):
                self.problem(f"job {job_id}: the renewal of the valid token {token} was refused")

    def _read_settle(self, _: dict[str, bytes], rest: list[str], reply: list[Any]) -> None:
        after = RUN_FIELDS * len(reply)
        children = iter(packed_ids(rest[after].encode("latin-1")) if len(rest) > after else [])
        for at, code in zip(range(0, after, RUN_FIELDS), reply, strict=True):
            job_id, _, told = rest[at : at + RUN_FIELDS]
            token, _, how = told.partition("\0")[0].split(" ", 2)
            verdict, _, gates, number = how.split(" ") if " " in how else (how, "0", "", "0")
            names = list(islice(children, int(number)))
            if verdict != "n":
                self._settle(job_id, token, verdict, code, names)
                if code == 1 and job_id in self.leases:
                    self.deaths.check_verdict(job_id, verdict, gates, self.leases[job_id], self.processes.get)
            elif code == 1 and not self._is_current(job_id, token):
                self.problem(f"job {job_id}: a note under the void token {token} was accepted")

    def _settle(self, job_id: str, token: str, verdict: str, code: int, children: list[str]) -> None:
        lease = self._find(job_id, token)
        if code == 1:
            if not self._is_current(job_id, token):
                self.problem(f"job {job_id}: the verdict {verdict} under the void token {token} was accepted")
            lease.verdict = verdict
            self.counts[f"settled {verdict}"] += 1
            if verdict in ENDS:
                self._end(job_id, WORDS[verdict])
            self.children.update(children if verdict in ENDS else ())
        elif code == 0:
            self.counts["refused verdicts"] += 1
            if lease is self.leases[job_id][-1] and lease.is_valid(self.now_ms()):
                self.problem(f"job {job_id}: the verdict {verdict} under the valid token {token} was refused")
            self.counts["children of refused verdicts"] += len(children)
        elif not lease.verdict:
            self.problem(f"job {job_id}: the verdict {verdict} under {token} is said to be written before, and was not")

    def _read_beat(self, named: dict[str, bytes], _: list[str], reply: bytes) -> None:
        self.deaths.beats[named["worker"].decode()] = float(reply)

    def _read_expire_worker(self, named: dict[str, bytes], _: list[str], reply: int) -> None:
        worker, is_death = named["worker"].decode(), named["how"] == b"l"
        if reply >= 0:
            is_early = is_death and abs(self.now_ms() - float(named["beat_ms"])) < self.lease_ms
            self.deaths.beats.pop(worker, None)
            if is_early:
                self.deaths.check_strike(worker, self.processes.get(worker), self.faults, self.now_s())
            for leases in self.leases.values():
                if leases[-1].worker == worker and not leases[-1].verdict:
                    leases[-1].is_struck, leases[-1].is_struck_early = True, is_early
                    if not is_death:
                        leases[-1].verdict = "x"

    def _read_cancel(self, _: dict[str, bytes], rest: list[str], reply: list[int]) -> None:
        for job_id, code in zip(rest, reply, strict=True):
            if code == 1:
                self._end(job_id, "cancelled")

    def _end(self, job_id: str, how: str) -> None:
        if job_id in self.ends:
            self.problem(f"job {job_id} ends as {how}, and has ended as {self.ends[job_id]} before")
        self.ends[job_id] = how

    def _find(self, job_id: str, token: str) -> Lease:
        # The last: a claim that is sent again may lease, under its token, what it has lost to another worker meanwhile.
        found = next((lease for lease in reversed(self.leases.get(job_id, ())) if lease.token == token), None)
        if found is None:
            self.problem(f"job {job_id}: a worker names the token {token}, which no claim has answered")
            return Lease(token, "?", (), 0, 0, 0, verdict="?")
        return found

    def _is_current(self, job_id: str, token: str) -> bool:
        lease = self.leases.get(job_id, [Lease("", "", (), 0, 0, 0)])[-1]
        return lease.token == token and not lease.verdict

    def at_the_end(self, places: dict[str, list[str]], stats: Counter[str]) -> Iterator[str]:
        """Name what is wrong in the state that is left when everything has come to rest."""
        known = self.created | self.children
        yield from (f"job {job_id} is lost" for job_id in sorted(known - places.keys()))
        yield from (f"job {job_id} is there, and nobody sent it" for job_id in sorted(places.keys() - known))
        for job_id, found in sorted(places.items()):
            if found not in (["completed"], ["failed"], ["cancelled"]):
                yield f"job {job_id} has not ended: it is in {found}"
            elif self.ends.get(job_id, found[0]) != found[0]:
                yield f"job {job_id} ended as {self.ends[job_id]}, and stands in {found[0]}"
        for word in ("completed", "failed"):
            counted = sum(count for name, count in stats.items() if name.endswith(f"|{word}"))
            ended = sum(how == word for how in self.ends.values())
            if counted != ended:
                yield f"{ended} jobs ended as {word}, and the counters say {counted}"
