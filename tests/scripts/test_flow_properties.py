"""Whatever happens in whatever order: no gate is ever overfull, no window sees more than its limit, and in the end everything has run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tests.scripts.gated import KEYED, OTHER, RATED, WINDOW_MS, declare, gate_problems, held, holders, pause, rate, rated, resume, set_limit
from tests.scripts.partition import LEASE_MS, job, on_a_partition, verdict
from tests.state import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.store import Claimed
    from tests.scripts.partition import Partition

MOST: Final = 10
ROUNDS_MAX: Final = 400
ENDS: Final = st.sampled_from(["c", "f", "k", "r", "s", "x"])
FEW: Final = st.integers(0, 3)


class Begun(NamedTuple):
    """A run that began: when, on which key, with how many tokens, and whether it gave all of them back."""

    ms: float
    key: str
    cost: int


def names(*steps: st.SearchStrategy[tuple[object, ...]]) -> st.SearchStrategy[list[tuple[object, ...]]]:
    """Return lists of steps."""
    return st.lists(st.one_of(*steps), min_size=5, max_size=40)


def step(name: str, *parts: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Return a step of a name with arguments."""
    return st.tuples(st.just(name), *parts)


class Fleet:
    """Two workers on one partition, of which each call is checked."""

    def __init__(self, part: Partition, most: int) -> None:
        self.part = part
        self.sent = 0
        self.calls = 0
        self.most = most
        self.leases: dict[str, tuple[str, str]] = {}

    async def do(self, steps: Sequence[tuple[object, ...]]) -> None:
        """Do the steps, and look after each one whether all is in order."""
        for name, *parts in steps:
            await getattr(self, f"do_{name}")(*parts)
            await self.check()

    async def check(self) -> None:
        """Look at everything that is stored."""
        assert problems(await self.part.state()) == []
        assert await gate_problems(self.part) == []

    async def claim(self, capacity: int, free: int, worker: int) -> Claimed:
        """Claim for a worker, perhaps ahead; of every third call the answer is lost, and it is sent again."""
        self.calls += 1
        under = f"t{self.calls}"
        claim = self.part.claim if self.calls % 3 else self.part.claim_twice
        claimed = await claim(capacity, free=free, worker=f"w{worker}", under=under)
        for delivery in claimed.deliveries:
            self.leases[delivery.id.decode()] = (f"w{worker}", under)
        return claimed

    def expiry(self, lives_ms: int) -> list[str]:
        """Return the item of a job that lives only so long; of none for 0."""
        return [f"x{self.part.now_ms + lives_ms:.0f}"] if lives_ms else []

    async def do_wait(self, ms: int) -> None:
        self.part.now_ms += ms

    async def do_settle(self, pick: int, code: str, delay_ms: int, gates: str) -> None:
        """Settle one run; handed back means that it had not begun."""
        if not self.leases:
            return
        job_id = sorted(self.leases)[pick % len(self.leases)]
        worker, under = self.leases.pop(job_id)
        words = ("", "") if code == "x" else ("p3", "r7")
        await self.part.settle(verdict(job_id, code, b"{}", under=under, delay_ms=delay_ms, gates=gates, words=words), worker=worker)

    async def do_die(self, worker: int) -> None:
        """Let a worker die; its leases are taken back."""
        await self.part.store.expire_worker(f"w{worker}", self.part.queues, died=True)
        self.leases = {job_id: lease for job_id, lease in self.leases.items() if lease[0] != f"w{worker}"}

    async def do_cancel(self, pick: int) -> None:
        if self.sent:
            await self.part.store.cancel([f"j{pick % self.sent:03}"], "tester")

    async def do_pause(self, what: str) -> None:
        await pause(self.part, what)

    async def do_resume(self, what: str) -> None:
        await resume(self.part, what)

    async def finish(self) -> None:
        """Work alone until nothing is left, woken by markers and times alone, as a worker is."""
        for _ in range(ROUNDS_MAX):
            claimed = await self.claim(50, 50, 0)
            while self.leases:
                await self.do_settle(0, "c", 0, "")
            if claimed.deliveries or claimed.again:
                continue
            _, due_ms = await self.part.store.tick(self.part.queues)
            if await self.part.take_marker():
                continue
            if due_ms < 0:
                break
            self.part.now_ms = max(self.part.now_ms, due_ms)
        state = await self.part.state()
        left = [job_id for job_id in state.jobs if state.place(job_id) not in ("completed", "failed", "cancelled")]
        assert left == [], f"nobody will ever look at {left}"
        assert await holders(self.part) == set()


class Concurrent(Fleet):
    """Jobs with one or two concurrency gates."""

    async def do_send(self, key: int, host: int, priority: int, when: str, lives_ms: int) -> None:
        items = [held(key)] * (key < 3) + [held(host, OTHER)] * (host < 2) + self.expiry(lives_ms)
        await self.part.send(job(f"j{self.sent:03}", flow=",".join(items), priority=priority, when=when))
        self.sent += 1

    async def do_claim(self, capacity: int, free: int, worker: int) -> None:
        """Claim; nobody may have entered a gate that was or is full by it."""
        before = Counter(lane for lane, _ in await holders(self.part))
        await self.claim(capacity, min(free, capacity), worker)
        after = Counter(lane for lane, _ in await holders(self.part))
        assert all(number <= max(self.most, before[lane]) for lane, number in after.items())

    async def do_limit(self, most: int) -> None:
        self.most = most
        for rule in (KEYED, OTHER):
            await set_limit(self.part, rule, most)


class Rated(Fleet):
    """Jobs with a rate, each with a cost; whenever one begins, the window that ends then must bear it."""

    def __init__(self, part: Partition, most: int) -> None:
        super().__init__(part, most)
        self.costs: dict[str, tuple[str, int]] = {}
        self.begun: dict[tuple[str, str], Begun] = {}

    async def do_send(self, key: int, cost: int, priority: int, when: str, lives_ms: int) -> None:
        job_id = f"j{self.sent:03}"
        self.costs[job_id] = (str(key), cost)
        flow = ",".join([rated(key, cost=cost), *self.expiry(lives_ms)])
        await self.part.send(job(job_id, flow=flow, priority=priority, when=when))
        self.sent += 1

    async def claim(self, capacity: int, free: int, worker: int) -> Claimed:
        claimed = await super().claim(capacity, free, worker)
        for delivery in claimed.deliveries:
            job_id = delivery.id.decode()
            self.begun[job_id, self.leases[job_id][1]] = Begun(self.part.now_ms, *self.costs[job_id])
        for key in {self.costs[delivery.id.decode()][0] for delivery in claimed.deliveries}:
            taken = sum(run.cost for run in self.begun.values() if run.key == key and run.ms > self.part.now_ms - WINDOW_MS)
            assert taken <= self.most, f"{taken} tokens in the window that ends now, and the limit is {self.most}"
        return claimed

    async def do_claim(self, capacity: int, free: int, worker: int) -> None:
        await self.claim(capacity, min(free, capacity), worker)

    async def do_settle(self, pick: int, code: str, delay_ms: int, gates: str) -> None:
        if not self.leases:
            return
        job_id = sorted(self.leases)[pick % len(self.leases)]
        run = (job_id, self.leases[job_id][1])
        await super().do_settle(pick, code, delay_ms, gates if code in "cfr" else "")
        if code == "x":
            del self.begun[run]
        elif gates.startswith("u") and code in "cfr":
            self.begun[run] = self.begun[run]._replace(cost=int(gates[1:]))

    async def do_limit(self, most: int) -> None:
        self.most = most
        await set_limit(self.part, RATED, rate(most, burst=max(most // 2, 1)))


GATE_NAMES: Final = st.sampled_from(["ga.key@q=0", "ga.host@q=1", "qq", "aa"])
WHEN: Final = st.sampled_from(["", "", "", "+700"])
LIVES_MS: Final = st.sampled_from([0, 0, 0, 1_500])
COMMON: Final = (
    step("wait", st.sampled_from([1, 200, 1_000, LEASE_MS])),
    step("claim", st.integers(1, 6), st.integers(0, 6), st.integers(0, 1)),
    step("claim", st.integers(1, 6), st.just(6), st.integers(0, 1)),
    step("die", st.integers(0, 1)),
    step("cancel", st.integers(0, 30)),
)


@given(
    steps=names(
        step("send", FEW, st.integers(0, 2), st.integers(4, 6), WHEN, LIVES_MS),
        step("send", FEW, st.integers(0, 2), st.just(5), WHEN, st.just(0)),
        step("settle", FEW, ENDS, st.sampled_from([0, 500]), st.sampled_from(["", "", "h"])),
        step("limit", st.integers(1, 3)),
        step("pause", GATE_NAMES),
        step("resume", GATE_NAMES),
        *COMMON,
    )
)
def test_no_gate_is_ever_overfull_and_everything_ends(server_url: str, steps: list[tuple[object, ...]]) -> None:
    async def scenario(part: Partition) -> None:
        fleet = Concurrent(part, 2)
        for rule in (KEYED, OTHER):
            await declare(part, rule, 2)
        await fleet.do(steps)
        for what in ("ga.key@q=0", "ga.host@q=1", "qq", "aa"):
            await fleet.do_resume(what)
        await fleet.finish()

    on_a_partition(server_url, scenario)


@given(
    steps=names(
        step("send", st.integers(0, 1), st.integers(1, 6), st.integers(4, 6), WHEN, LIVES_MS),
        step("send", st.just(0), st.integers(1, 6), st.just(5), WHEN, st.just(0)),
        step("settle", FEW, ENDS, st.sampled_from([0, 500]), st.sampled_from(["", "u0", "u1", "h"])),
        step("limit", st.integers(3, 14)),
        step("wait", st.integers(1, 2 * WINDOW_MS)),
        *COMMON,
    )
)
def test_no_window_ever_sees_more_than_the_limit_and_everything_ends(server_url: str, steps: list[tuple[object, ...]]) -> None:
    async def scenario(part: Partition) -> None:
        fleet = Rated(part, MOST)
        await declare(part, RATED, rate(MOST))
        await fleet.do(steps)
        fleet.most = MOST
        await set_limit(part, RATED, "")
        await fleet.finish()

    on_a_partition(server_url, scenario)
