"""claim: tenants of a queue take turns by weight, within a priority; who has more jobs does not get more."""

from __future__ import annotations

import secrets
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from angelrt import scripts
from tests.scripts.gated import declare, gate, held, pause, resume
from tests.scripts.partition import LEASE_MS, ids, on_a_partition, verdict
from tests.scripts.tenants import BATCH, claim, jobs, send, tenants, weigh
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scripts.partition import Partition

# -- shares --------------------------------------------------------------------------------------------------------------------------


async def test_tenants_take_turns_whoever_sent_first_and_however_much(part: Partition) -> None:
    await send(part, jobs("ann", 6), jobs("bob", 3), jobs("cid", 3))
    claimed = await claim(part, 9)
    assert Counter(tenants(claimed)) == {"ann": 3, "bob": 3, "cid": 3}
    assert [set(tenants(claimed[n : n + 3])) for n in (0, 3, 6)] == [{"ann", "bob", "cid"}] * 3
    assert tenants(await claim(part, 9)) == ["ann"] * 3


async def test_jobs_of_a_tenant_keep_their_order(part: Partition) -> None:
    await send(part, jobs("ann", 5), jobs("bob", 5))
    claimed = await claim(part, 10)
    for name in ("ann", "bob"):
        assert [each for each in claimed if each.startswith(name)] == [f"{name}.{n}" for n in range(5)]


async def test_one_with_100_000_leaves_the_nine_their_share_from_the_first_claim_on(part: Partition) -> None:
    nine = [f"small{n}" for n in range(9)]
    await send(part, jobs("big", 100_000), *(jobs(name, 100) for name in nine))
    for capacity in (100, 10, 500, 390):
        assert Counter(tenants(await claim(part, capacity))) == dict.fromkeys(["big", *nine], capacity // 10)
    assert Counter(tenants(await claim(part, 100))) == {"big": 100}


@pytest.mark.parametrize("capacity", [1, 7, 120])
async def test_shares_are_as_the_weights(part: Partition, capacity: int) -> None:
    weights = {"ann": 1, "bob": 2, "cid": 3, "low": 0.5}
    for name, weight in weights.items():
        await weigh(part, name, weight)
    await send(part, *(jobs(name, 200) for name in weights), jobs("-", 200))
    claimed: list[str] = []
    while len(claimed) < 225:
        claimed += await claim(part, min(capacity, 225 - len(claimed)))
    shares = Counter(tenants(claimed))
    for name, weight in {**weights, "-": 1}.items():
        assert abs(shares[name] - 30 * weight) <= 1, shares


async def test_order_is_the_same_however_many_a_claim_takes(part: Partition) -> None:
    """Where turns are equal, the name of the lane decides, in a claim as between claims."""
    orders: list[list[str]] = []
    for capacity in (1, 2, 3, 5, 100):
        await part.clear()
        await weigh(part, "bob", 2)
        await send(part, jobs("ann", 6), jobs("bob", 6), jobs("cid", 4), jobs("-", 4))
        claimed: list[str] = []
        while len(claimed) < 20:
            claimed += await claim(part, capacity)
        orders.append(claimed)
    assert orders == [orders[0]] * len(orders)


async def test_weight_that_is_changed_counts_at_the_next_claim(part: Partition) -> None:
    await send(part, jobs("ann", 60), jobs("bob", 60))
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}
    await weigh(part, "ann", 4)
    assert abs(Counter(tenants(await claim(part, 50)))["ann"] - 40) <= 1


async def test_jobs_without_a_tenant_take_turns_as_one_more(part: Partition) -> None:
    await send(part, jobs("ann", 10), jobs("-", 10), jobs("bob", 10))
    assert Counter(tenants(await claim(part, 15))) == {"ann": 5, "-": 5, "bob": 5}
    assert Counter(tenants(await claim(part, 100))) == {"ann": 5, "-": 5, "bob": 5}


@pytest.mark.parametrize("capacity", [1, 10, 70, 500])
async def test_more_tenants_than_one_look_divides_turns_among(part: Partition, capacity: int) -> None:
    names = [f"t{n:03}" for n in range(100)]
    await send(part, *(jobs(name, 5) for name in names))
    served = Counter[str]()
    while sum(served.values()) < 500:
        some = tenants(await claim(part, capacity))
        assert some, f"{500 - sum(served.values())} wait, and a worker finds nothing"
        for name in some:
            served[name] += 1
            assert max(served.values()) - min(served[each] for each in names) <= 1, served


# -- what nobody owes, and nobody has saved up -----------------------------------------------------------------------------------------


async def test_one_who_cancels_its_backlog_owes_nothing(part: Partition) -> None:
    await send(part, jobs("ann", 200), jobs("bob", 50))
    claimed = await claim(part, 10)
    assert Counter(tenants(claimed)) == {"ann": 5, "bob": 5}
    waiting = [f"ann.{n}" for n in range(200) if f"ann.{n}" not in claimed]
    assert set(await part.store.cancel(waiting, "ann")) == {1}
    assert tenants(await claim(part, 10)) == ["bob"] * 10
    await send(part, jobs("ann", 50, first=200))
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}


async def test_one_who_cancels_before_anybody_claims_is_as_new(part: Partition) -> None:
    await send(part, jobs("ann", 100), jobs("bob", 50))
    await part.store.cancel([f"ann.{n}" for n in range(100)], "ann")
    await send(part, jobs("ann", 50, first=100))
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}


async def test_one_who_was_idle_has_saved_up_nothing(part: Partition) -> None:
    await send(part, jobs("ann", 1), jobs("bob", 200))
    assert Counter(tenants(await claim(part, 100))) == {"ann": 1, "bob": 99}
    await send(part, jobs("ann", 100, first=1))
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}


@pytest.mark.parametrize("name", ["dan", "zoe"], ids=["a lane before his", "a lane behind his"])
async def test_one_who_sends_the_next_job_when_the_last_one_began_gets_its_share_and_no_more(part: Partition, name: str) -> None:
    await send(part, jobs("bob", 100))
    claimed: list[str] = []
    for n in range(40):
        await send(part, jobs(name, 1, first=n))
        claimed += await claim(part, 1)
    assert abs(Counter(tenants(claimed))["bob"] - 20) <= 1


async def test_many_who_come_one_by_one_do_not_keep_one_who_waits_from_its_turn(part: Partition) -> None:
    await send(part, jobs("bob", 10))
    claimed: list[str] = []
    for n in range(40):
        await send(part, jobs(f"new{n}", 2))
        claimed += await claim(part, 1)
    assert "bob" in tenants(claimed[:2])


async def test_tenants_without_a_job_leave_the_turns(part: Partition) -> None:
    names = [f"t{n}" for n in range(50)]
    await send(part, *(jobs(name, 2) for name in names))
    await part.store.cancel([f"{name}.1" for name in names], "ann")
    assert len(await claim(part, 500)) == 50
    await part.claim(under="look")
    assert (await part.state()).queues["q"].turns == {}
    assert not (await part.claim(under="none")).again


async def test_a_thousand_who_cancelled_hide_nobody(part: Partition) -> None:
    for n in range(1_000):
        await part.send(*jobs(f"t{n}", 1))
    for first in range(0, 1_000, BATCH):
        await part.store.cancel([f"t{n}.0" for n in range(first, first + BATCH)], "ann")
    await send(part, jobs("bob", 1))
    assert await claim(part, 10) == ["bob.0"]


# -- priorities ------------------------------------------------------------------------------------------------------------------------


async def test_priorities_come_first_and_turns_are_within_them(part: Partition) -> None:
    await send(part, jobs("ann", 4), jobs("bob", 4, priority=1), jobs("cid", 4, priority=1), jobs("-", 2, priority=9))
    first, rest = await claim(part, 8), await claim(part, 8)
    assert Counter(tenants(first)) == {"bob": 4, "cid": 4}
    assert tenants(first[:2]) in (["bob", "cid"], ["cid", "bob"])
    assert tenants(rest) == ["ann"] * 4 + ["-"] * 2


async def test_turn_of_one_priority_costs_none_of_another(part: Partition) -> None:
    await send(part, jobs("ann", 20, priority=1))
    assert len(await claim(part, 20)) == 20
    await send(part, jobs("ann", 10, first=20), jobs("bob", 10))
    assert Counter(tenants(await claim(part, 10))) == {"ann": 5, "bob": 5}


async def test_urgent_job_of_nobody_goes_before_the_turns_of_others(part: Partition) -> None:
    await send(part, jobs("ann", 3), jobs("-", 1, priority=0), jobs("bob", 1, priority=2))
    assert tenants(await claim(part, 10)) == ["-", "bob", "ann", "ann", "ann"]


# -- jobs that come back ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "delay_ms"), [("r", 0), ("r", 1_000), ("s", 1_000), ("x", 0)])
async def test_job_that_comes_back_waits_for_its_tenants_turn(part: Partition, code: str, delay_ms: int) -> None:
    await send(part, jobs("ann", 20))
    claimed = await part.claim(10, under="t1")
    words = ("", "") if code == "x" else ("p3", "r7")
    await part.settle(*(verdict(each, code, b"{}", delay_ms=delay_ms, words=words) for each in ids(claimed)))
    await send(part, jobs("bob", 20))
    part.now_ms += 1_000
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}
    assert Counter(tenants(await claim(part, 100))) == {"ann": 10, "bob": 10}


async def test_only_job_that_comes_back_is_found(part: Partition) -> None:
    await send(part, jobs("ann", 1))
    await part.claim(under="t1")
    assert (await part.state()).queues["q"].turns == {}
    await part.settle(verdict("ann.0", "r", b"{}", delay_ms=500))
    part.now_ms += 500
    assert ids(await part.claim(under="t2")) == ["ann.0"]


async def test_lost_jobs_come_back_to_their_tenants_turn(part: Partition) -> None:
    await send(part, jobs("ann", 20))
    await part.claim(10)
    await part.store.expire_worker("w1", ["q"], died=False)
    await send(part, jobs("bob", 20))
    assert Counter(tenants(await claim(part, 10))) == {"ann": 5, "bob": 5}
    part.now_ms += LEASE_MS
    await part.register("w1", "a")
    assert Counter(tenants(await claim(part, 40))) == {"ann": 20, "bob": 20}


async def test_delayed_jobs_take_turns_when_they_are_due(part: Partition) -> None:
    await send(part, jobs("ann", 20, when="+1000"), jobs("bob", 5, when="+1500"))
    part.now_ms += 2_000
    assert Counter(tenants(await claim(part, 10))) == {"ann": 5, "bob": 5}


async def test_retried_job_does_not_wait_for_all_those_without_a_tenant(part: Partition) -> None:
    await send(part, jobs("ann", 1))
    await part.claim(under="t1")
    await send(part, jobs("-", 50))
    await part.settle(verdict("ann.0", "r", b"{}", delay_ms=500))
    part.now_ms += 500
    assert "ann.0" in await claim(part, 3)


async def test_answer_that_is_lost_charges_nobody_twice(part: Partition) -> None:
    await send(part, jobs("ann", 20), jobs("bob", 20))
    claimed = ids(await part.claim_twice(10, under="t1"))
    assert Counter(tenants(claimed)) == {"ann": 5, "bob": 5}
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}


async def test_jobs_of_nobody_in_several_priorities_come_before_tenants_of_lower_ones(part: Partition) -> None:
    await send(part, jobs("ann", 4, priority=5), jobs("-", 1, first=0, priority=1), jobs("-", 2, first=1, priority=3))
    assert ids(await part.claim(4))[:3] == ["-.0", "-.1", "-.2"]


# -- gates, pauses, missing actors -----------------------------------------------------------------------------------------------------


async def test_tenant_behind_a_closed_gate_holds_nobody_up(part: Partition) -> None:
    await declare(part, spec=1)
    await send(part, jobs("ann", 20, gates=held()), jobs("bob", 5), jobs("cid", 5))
    claimed = await claim(part, 20)
    assert Counter(tenants(claimed)) == {"ann": 1, "bob": 5, "cid": 5}
    (running,) = [each for each in claimed if each.startswith("ann")]
    token = (await part.state()).run(running).token
    await part.settle(verdict(running, "c", b"1", under=token))
    assert tenants(await claim(part, 20)) == ["ann"]


async def test_jobs_that_wait_at_an_open_gate_take_their_tenants_turn(part: Partition) -> None:
    await declare(part, spec=10)
    await pause(part, f"g{gate()}")
    await send(part, jobs("ann", 10, gates=held()), jobs("ann", 50, first=10), jobs("bob", 50))
    assert Counter(tenants(await claim(part, 20))) == {"ann": 10, "bob": 10}
    await resume(part, f"g{gate()}")
    claimed = await claim(part, 10)
    assert Counter(tenants(claimed)) == {"ann": 5, "bob": 5}
    assert {name for name in claimed if name.startswith("ann")} == {f"ann.{n}" for n in range(5)}, "they have been in line"
    assert Counter(tenants(await claim(part, 10))) == {"ann": 5, "bob": 5}


async def test_tenant_whose_actor_nobody_knows_holds_nobody_up(part: Partition) -> None:
    await send(part, jobs("ann", 30, actor="rare"), jobs("bob", 5))
    assert tenants(await claim(part, 10)) == ["bob"] * 5
    await part.register("w2", "a", "rare")
    assert len(await claim(part, 100, worker="w2", actors=("a", "rare"))) == 30


@pytest.mark.parametrize("abort_at", range(1, 40))
async def test_claim_that_broke_off_and_then_gives_another_its_turn_holds_nothing_of_the_first(part: Partition, abort_at: int) -> None:
    await part.send(*jobs("ann", 1), *jobs("bob", 1), *jobs("eve", 1))
    part.link.fail(scripts.CLAIM, abort_at)
    claimed = await part.claim(1)
    state = await part.state()
    assert problems(state) == []
    assert state.held == {("w1", job_id) for job_id in ids(claimed)}


async def test_tenants_of_a_paused_queue_wait(part: Partition) -> None:
    await pause(part, "qq")
    await send(part, jobs("ann", 2), jobs("bob", 2))
    assert await claim(part, 10) == []
    await resume(part, "qq")
    assert Counter(tenants(await claim(part, 10))) == {"ann": 2, "bob": 2}


# -- cost ------------------------------------------------------------------------------------------------------------------------------


async def commands_run(part: Partition) -> int:
    """Return how many commands the server has run, those of scripts among them."""
    lines = (await part.store.command("INFO", "commandstats")).decode().splitlines()
    calls = [line.partition("calls=")[2].partition(",")[0] for line in lines if line.startswith("cmdstat_")]
    return sum(map(int, calls))


async def commands_per_claim(part: Partition, capacity: int) -> float:
    """Return the commands of one claim that is full, over a few of them."""
    before = await commands_run(part)
    for _ in range(5):
        assert len(ids(await part.claim(capacity, under=secrets.token_hex(4)))) == capacity
    return (await commands_run(part) - before) / 5


async def test_cost_of_a_claim_does_not_grow_with_the_jobs_of_its_tenants(part: Partition) -> None:
    names = [f"t{n}" for n in range(10)]
    await send(part, *(jobs(name, 20) for name in names))
    few = await commands_per_claim(part, 20)
    await send(part, *(jobs(name, 2_000, first=20) for name in names))
    many = await commands_per_claim(part, 20)
    assert abs(many - few) <= 0.05 * few, f"{few} commands with 200 jobs, {many} with 20,000"


async def test_cost_of_a_claim_is_bounded_in_the_number_of_tenants(part: Partition) -> None:
    await send(part, *(jobs(f"few{n}", 6) for n in range(40)))
    few = await commands_per_claim(part, 20)
    for n in range(1_500):
        await part.send(*jobs(f"many{n}", 1))
    many = await commands_per_claim(part, 20)
    assert many <= 1.5 * few, f"{few} commands with 40 tenants, {many} with 1,540"


# -- the error of a share ---------------------------------------------------------------------------------------------------------------

WEIGHTS: Final = (1.0, 0.5, 2.0, 4.0, 8.0, 1.0)
NAMES: Final = ("ann", "bob", "cid", "dan", "eve", "-")
EVERYBODY: Final = st.integers(0, len(NAMES) - 1)
TENANT: Final = st.integers(0, len(NAMES) - 2)
ARRIVE: Final = st.tuples(st.just("arrive"), TENANT, st.integers(1, 12))
ARRIVE_ALL: Final = st.tuples(st.just("arrive"), EVERYBODY, st.integers(1, 12))
CLAIM: Final = st.tuples(st.just("claim"), st.just(0), st.integers(1, 15))
CANCEL: Final = st.tuples(st.just("cancel"), TENANT, st.just(0))
COME_BACK: Final = st.tuples(st.sampled_from(["retry", "lose"]), TENANT, st.integers(1, 5))


class Shares:
    """Tenants on one partition; `since` is what each of a pair was served, by weight, since both began to wait."""

    def __init__(self, part: Partition) -> None:
        self.part = part
        self.sent = 0
        self.leased: dict[str, str] = {}
        self.waiting: dict[int, set[str]] = {n: set() for n in range(len(NAMES))}
        self.since: dict[tuple[int, int], list[float]] = {}
        self.come_back = False

    async def do(self, steps: Sequence[tuple[str, int, int]]) -> None:
        """Do the steps; the error of each share is looked at after each job that begins."""
        for name, weight in zip(NAMES, WEIGHTS, strict=True):
            if name != "-":
                await weigh(self.part, name, weight)
        for name, tenant, number in steps:
            self.part.now_ms += 1
            await getattr(self, f"do_{name}")(tenant, number)
            self._note_who_waits()
            self._compare()
        assert problems(await self.part.state()) == []

    async def do_arrive(self, tenant: int, number: int) -> None:
        some = jobs(NAMES[tenant], number, first=self.sent)
        self.sent += number
        await self.part.send(*some)
        self.waiting[tenant] |= {each.id for each in some}

    async def do_cancel(self, tenant: int, _: int) -> None:
        """Cancel all that a tenant has waiting."""
        if self.waiting[tenant]:
            await self.part.store.cancel(sorted(self.waiting[tenant]), "tester")
            self.waiting[tenant].clear()

    async def do_retry(self, tenant: int, number: int) -> None:
        """Let a few runs of a tenant come back."""
        some = [each for each in sorted(self.leased) if _of(each) == tenant][:number]
        for each in some:
            await self.part.settle(verdict(each, "r", b"{}", under=self.leased.pop(each)))
            self.waiting[tenant].add(each)

    async def do_lose(self, _: int, __: int) -> None:
        """Lose the worker: all that runs comes back."""
        await self.part.store.expire_worker("w1", ["q"], died=False)
        for each in self.leased:
            self.waiting[_of(each)].add(each)
        self.leased.clear()

    async def do_claim(self, _: int, capacity: int) -> None:
        """Claim what there is; jobs that came back are brought to their tenants' lanes by the claim that meets them, so not job by job."""
        token = secrets.token_hex(4)
        claimed = ids(await self.part.claim(capacity, under=token))
        assert len(claimed) == min(capacity, sum(map(len, self.waiting.values())))
        for each in claimed:
            self.leased[each] = token
            self._serve(_of(each), each)
            if not self.come_back:
                self._compare()

    def _serve(self, tenant: int, job_id: str) -> None:
        self.waiting[tenant].remove(job_id)
        for pair, served in self.since.items():
            if tenant in pair:
                served[pair.index(tenant)] += 1 / WEIGHTS[tenant]
        self._note_who_waits()

    def _compare(self) -> None:
        for (one, other), served in self.since.items():
            bound = 1 / WEIGHTS[one] + 1 / WEIGHTS[other]
            assert abs(served[0] - served[1]) <= bound + 1e-9, f"{NAMES[one]} and {NAMES[other]} were served {served}"

    def _note_who_waits(self) -> None:
        both = {pair for pair in combinations(range(len(NAMES)), 2) if self.waiting[pair[0]] and self.waiting[pair[1]]}
        self.since = {pair: self.since.get(pair, [0.0, 0.0]) for pair in sorted(both)}


def _of(job_id: str) -> int:
    return NAMES.index(job_id.partition(".")[0])


@example(steps=[("arrive", 0, 12), ("arrive", 1, 1), ("claim", 0, 1), ("arrive", 1, 1), ("claim", 0, 1), ("claim", 0, 1)])
@given(steps=st.lists(st.one_of(ARRIVE_ALL, ARRIVE_ALL, CLAIM, CLAIM, CANCEL), min_size=20, max_size=45))
def test_share_of_two_who_both_wait_never_differs_by_more_than_a_job_of_each(server_url: str, steps: list[tuple[str, int, int]]) -> None:
    """Served jobs by weight since both wait: they differ by at most 1/w of the one and 1/w of the other, at any time."""
    on_a_partition(server_url, lambda part: Shares(part).do(steps))


@given(steps=st.lists(st.one_of(ARRIVE, ARRIVE, CLAIM, CLAIM, CLAIM, CANCEL, COME_BACK), min_size=20, max_size=45))
def test_shares_are_as_exact_after_each_claim_where_jobs_come_back(server_url: str, steps: list[tuple[str, int, int]]) -> None:
    """Jobs that are retried or handed back take their tenant's turn; the bound holds whenever a claim has ended."""

    async def work(part: Partition) -> None:
        shares = Shares(part)
        shares.come_back = True
        await shares.do(steps)

    on_a_partition(server_url, work)
