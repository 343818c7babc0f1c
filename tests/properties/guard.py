"""The great claims on gates, checked on what the server holds and on nothing that the model says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.state import GATE_LANE, deaths_of, first_by_lane, gates_of, lane_of_gate, lanes_of_gate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from angelrt.store import Verdict
    from tests.state import Queue, State, Waiter

SLACK_SLICES: Final = 2
"""Tokens come back at most so many slices (1/64 of a window) after their window."""


class Grant(NamedTuple):
    """Tokens that a run took, and when."""

    ms: float
    gate: str
    job_id: str
    token: str
    tokens: int
    has_cost: bool


class Guard:
    """Watches one namespace from step to step."""

    def __init__(self) -> None:
        """Begin with a namespace that is empty."""
        self.is_one_claim = True
        self._before: State | None = None
        self._grants: list[Grant] = []
        self._deliveries: dict[str, int] = {}
        self._latest_ms = 0.0
        self._has_tenants = False

    def settle(self, verdicts: Sequence[Verdict]) -> None:
        """Note what verdicts will tell of tokens, those on runs that are valid."""
        settled: set[str] = set()
        for verdict in verdicts:
            if self._before is None:
                return
            stored = self._before.runs.get(verdict.id, b"")
            if verdict.code == "n" or verdict.id in settled or not stored.startswith(verdict.token.encode() + b" "):
                continue
            settled.add(verdict.id)
            runs = [one.ms for one in self._grants if (one.job_id, one.token) == (verdict.id, verdict.token)]
            of_run = (verdict.id, verdict.token, max(runs, default=0.0))  # a claim that is sent again may lease a job twice under its token
            self._grants = [
                _corrected(one, verdict) if (one.job_id, one.token, one.ms) == of_run and _counts(self._before, one) else one
                for one in self._grants
            ]

    def breaches(self, state: State, now_ms: float) -> list[str]:
        """Name every claim that does not hold after this step."""
        new = self._new_grants(state)
        self._has_tenants = any(_tenant(state.flow(job_id)) for job_id in state.runs)
        self._latest_ms = max(now_ms, self._latest_ms)  # a mark that was of the present before the clock jumped back is no later than that
        found = [*self._too_many_tokens(state, new), *self._too_many_holders(state), *self._overtaken(state), *self._late(state, now_ms)]
        self._before = state
        kept = {job_id: number for job_id, number in self._deliveries.items() if job_id in state.jobs}  # one that failed may be replayed
        self._deliveries = kept | {job_id: state.run(job_id).deliveries for job_id in state.runs}
        return found

    # -- never more tokens than the limit in any window ----------------------------------------------------------------------------

    def _new_grants(self, state: State) -> list[Grant]:
        new: list[Grant] = []
        for job_id in state.runs:
            run = state.run(job_id)
            starts = [run.started_ms, *(float(entry.split(",")[1]) for entry in run.history.split(";") if entry)]
            is_leased = not state.runs[job_id].startswith(b"!")
            for number in range(run.deliveries - self._deliveries.get(job_id, 0)):
                ms = starts[number] if is_leased else starts[number + 1]
                new += [
                    Grant(ms, gate.name, job_id, run.token.strip("!"), gate.cost, gate.has_cost)
                    for gate in gates_of(run.flow)
                    if gate.is_rate and state.limit(gate.name)
                ]
        self._grants += new
        return new

    def _too_many_tokens(self, state: State, new: list[Grant]) -> Iterator[str]:
        """Each window that ends with a grant: one that holds too much is found with its last grant."""
        for grant in new:
            most, window_ms, _ = state.limit(grant.gate)
            taken = self._taken(grant.gate, grant.ms - window_ms, grant.ms)
            if taken > most:
                yield f"{taken} tokens of {grant.gate} in {window_ms} ms, and the limit is {most}"

    def _taken(self, gate: str, after_ms: float, until_ms: float) -> int:
        return sum(one.tokens for one in self._grants if one.gate == gate and after_ms + 1 < one.ms < until_ms + 1)

    # -- never more holders than the limit -----------------------------------------------------------------------------------------

    def _too_many_holders(self, state: State) -> Iterator[str]:
        """More than the limit may run only where it was lowered meanwhile, and then no more than before."""
        for gate in {gate.name for job_id in state.runs for gate in gates_of(state.run(job_id).flow) if not gate.is_rate}:
            limit, lane = state.limit(gate), lane_of_gate(gate)
            number = sum(of_lane == lane for of_lane, _ in state.holders)
            before = sum(of_lane == lane for of_lane, _ in self._before.holders) if self._before else 0
            if limit and number > max(limit[0], before):
                yield f"{number} hold {gate}, and the limit is {limit[0]}"

    # -- nobody overtakes ----------------------------------------------------------------------------------------------------------

    def _was_suspect(self, job_id: str) -> bool:
        return self._before is not None and job_id in self._before.runs and deaths_of(self._before.flow(job_id)) > 0

    def _overtaken(self, state: State) -> Iterator[str]:
        if not self.is_one_claim:
            return
        for job_id, stored in state.runs.items():
            run = state.run(job_id)
            if stored.startswith(b"!") or run.deliveries == self._deliveries.get(job_id, 0) or self._was_suspect(job_id):
                continue  # not leased just now, or a suspect, whose turn comes before others
            lanes = {lane_of_gate(gate.name): gate.name for gate in gates_of(run.flow)}
            for name, queue in state.queues.items():
                for waiter in self._waiters(name, queue):
                    gate, is_kin = lanes.get(waiter.lane[:GATE_LANE]), _tenant(state.flow(waiter.id)) == _tenant(run.flow)
                    if gate and is_kin and waiter.rank < run.rank:
                        yield f"{job_id} was let through {gate} before {waiter.id}, which waited there and comes first"

    def _waiters(self, name: str, queue: Queue) -> Iterable[Waiter]:
        """Where tenants take turns, who waited for a gate has had its turn, and who has just come there has not."""
        before = self._before.queues.get(name) if self._before else None
        # Turns may have come and gone in the very call: wherever a job has a tenant, they may have been taken.
        takes_turns = queue.turns or self._has_tenants or (before and before.turns)
        return [waiter for waiter in queue.lanes if waiter in before.lanes] if before and takes_turns else queue.lanes

    # -- no free place beside a waiter ---------------------------------------------------------------------------------------------

    def _late(self, state: State, now_ms: float) -> Iterator[str]:
        """The first in each lane of a gate, whom nothing there holds back: its lane is to be looked at now, not later."""
        for name, queue in state.queues.items():
            for lane, waiter in first_by_lane(queue, ages=f"aging {name}" in state.rules).items():
                job_id = waiter.id
                gate = next((gate for gate in gates_of(state.run(job_id).flow) if lane in lanes_of_gate(gate)), None)
                if gate is None or f"g{gate.name}" in state.control:
                    continue
                if float(state.gates.get(lane_of_gate(gate.name), b"0").split()[0]) > now_ms:
                    continue
                limit, mark_ms = state.limit(gate.name), queue.opens.get(lane)
                if limit and gate.is_rate:
                    most, window_ms, burst = limit
                    # A run begins up to a millisecond before its lease, and `_taken` leaves out another one.
                    taken = self._taken(gate.name, now_ms - window_ms - SLACK_SLICES * (window_ms // 64) - 2, math.inf)
                    is_free = burst == most and taken + gate.cost <= most
                else:
                    is_free = not limit or sum(of_lane == lane for of_lane, _ in state.holders) < limit[0]
                if is_free and (mark_ms is None or mark_ms > self._latest_ms):
                    yield f"{job_id} waits in queue {name} for {gate.name}, which is free, and its lane is looked at {mark_ms or 'never'}"


def _tenant(flow: str) -> str:
    return next((item for item in flow.split(",") if item[0] == "t"), "")


def _counts(state: State, grant: Grant) -> bool:
    """Tell whether a run took its tokens under the limit that holds now: otherwise it neither gives them back nor takes more."""
    return bool(state.limit(grant.gate)) and grant.ms > float(state.rules.get(f"{grant.gate.partition('=')[0]}^", b"0"))


def _corrected(grant: Grant, verdict: Verdict) -> Grant:
    if "\0" not in verdict.counters:
        return grant._replace(tokens=0)
    used = verdict.gates.strip("uh")
    return grant._replace(tokens=int(used)) if used and grant.has_cost else grant
