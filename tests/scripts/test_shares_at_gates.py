"""The error of a tenant's share at a gate, whatever comes and goes there."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from hypothesis import example, given
from hypothesis import strategies as st

from tests.scripts.gated import declare, gate_problems, held
from tests.scripts.partition import Partition, ids, job, on_a_partition, verdict
from tests.scripts.tenants import jobs, weigh
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHTS: Final = {"ann": 1.0, "bob": 0.5, "cid": 4.0, "-": 1.0}
WHO: Final = st.sampled_from(sorted(WEIGHTS))


class AtAGate:
    """Tenants at one gate that is never without a waiter; `since` is what each of a pair was served, by weight, since both wait there."""

    def __init__(self, part: Partition) -> None:
        self.part = part
        self.sent = 0
        self.running: dict[str, str] = {}
        self.waiting: dict[str, set[str]] = {name: set() for name in WEIGHTS}
        self.since: dict[tuple[str, str], dict[str, float]] = {}

    async def do(self, steps: Sequence[tuple[str, str, int]]) -> None:
        """Do the steps, and compare the shares after each job that begins."""
        for name, weight in WEIGHTS.items():
            if name != "-":
                await weigh(self.part, name, weight)
        await declare(self.part, spec=1)
        await self.part.send(job("first", flow=held()))
        self.running = dict.fromkeys(ids(await self.part.claim(1, under="t0")), "t0")
        for kind, name, number in steps:
            self.part.now_ms += 1
            await getattr(self, f"do_{kind}")(name, number)
            self._note_who_waits()
        assert problems(await self.part.state()) == []
        assert await gate_problems(self.part) == []

    async def do_arrive(self, name: str, number: int) -> None:
        some = jobs(name, number, first=self.sent, gates=held())
        self.sent += number
        await self.part.send(*some)
        self.waiting[name] |= {each.id for each in some}

    async def do_cancel(self, name: str, _: int) -> None:
        """Cancel all that a tenant has waiting."""
        if self.waiting[name]:
            await self.part.store.cancel(sorted(self.waiting[name]), "tester")
            self.waiting[name].clear()

    async def do_claim(self, _: str, number: int) -> None:
        """Let so many go through the gate, one after the other."""
        for _ in range(number):
            if self.running and not any(self.waiting.values()):
                return  # else the gate would be open to the next one who comes
            for each, token in self.running.items():
                await self.part.settle(verdict(each, "c", b"1", under=token))
            token = secrets.token_hex(4)
            self.running = dict.fromkeys(ids(await self.part.claim(5, under=token)), token)
            assert len(self.running) == 1, "a place is free, and somebody waits"
            for each in self.running:
                self._serve(each.partition(".")[0], each)

    def _serve(self, name: str, job_id: str) -> None:
        self.waiting[name].remove(job_id)
        for pair, served in self.since.items():
            if name in pair:
                served[name] += 1 / WEIGHTS[name]
            bound = sum(1 / WEIGHTS[each] for each in pair)
            one, other = (served[each] for each in pair)
            assert abs(one - other) <= bound + 1e-9, f"{served} of {pair}"
        self._note_who_waits()

    def _note_who_waits(self) -> None:
        both = {(one, other) for one in WEIGHTS for other in WEIGHTS if one < other and self.waiting[one] and self.waiting[other]}
        self.since = {pair: self.since.get(pair, dict.fromkeys(pair, 0.0)) for pair in sorted(both)}


@example(steps=[("arrive", "ann", 12), ("arrive", "bob", 1), ("claim", "-", 1), ("arrive", "bob", 1), ("claim", "-", 3)])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("arrive"), WHO, st.integers(1, 12)),
            st.tuples(st.just("claim"), st.just("-"), st.integers(1, 9)),
            st.tuples(st.just("claim"), st.just("-"), st.integers(1, 9)),
            st.tuples(st.just("cancel"), WHO, st.just(0)),
        ),
        min_size=15,
        max_size=40,
    )
)
def test_share_of_two_who_both_wait_at_a_gate_never_differs_by_more_than_a_job_of_each(
    server_url: str, steps: list[tuple[str, str, int]]
) -> None:
    on_a_partition(server_url, lambda part: AtAGate(part).do(steps))
