"""What a crash or a failover takes of what was acknowledged, by the settings of the server: claims with figures beside them.

`pytest tests/e2e/test_durability.py -m long -s` prints the figures that docs/reliability.md quotes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import NotReplicated, RedisUnavailable, Runtime
from tests.sentinels import Watched
from tests.servers import Server
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Program

TRIALS: Final = 10
FAILOVERS: Final = 4
SENDERS: Final = 8
ACKNOWLEDGED: Final = 1_000


class Senders:
    """Tasks that send one job after the other, and note the ids of those that were acknowledged."""

    def __init__(self, rt: Runtime[Any]) -> None:
        """Start them."""
        self.acknowledged: list[str] = []
        self._rt = rt
        self._stop = False
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(SENDERS)]

    async def _send(self, sender: int) -> None:
        number = 0
        while not self._stop:
            job_id, number = f"{sender} {number}", number + 1
            try:
                await self._rt.send("note", {"text": "x" * 100}, id=job_id)
            except (NotReplicated, RedisUnavailable):
                continue
            self.acknowledged.append(job_id)

    async def stop(self) -> None:
        """Let each sender finish."""
        self._stop = True
        await asyncio.gather(*self._tasks)


async def crash(url: str, namespace: str, strike: Callable[[], None], durability: Any = "primary") -> tuple[int, int]:
    """Send through a crash from which the server comes back; return how many sends were acknowledged, and how many of these are lost."""
    async with Runtime(url, namespace=namespace, durability=durability) as rt:
        senders = Senders(rt)
        await until(lambda: len(senders.acknowledged) >= ACKNOWLEDGED, "jobs are sent")
        await asyncio.to_thread(strike)
        before = len(senders.acknowledged)
        await until(lambda: len(senders.acknowledged) > before + SENDERS, "the server is back")
        await senders.stop()
        store = rt.client().store
        found = await store.commands_list("HMGET", store.keys.key("jobs"), senders.acknowledged)
    return len(found), found.count(None)


def tell(what: str, trials: list[tuple[int, int]]) -> int:
    """Print a line of figures; return how many acknowledged sends were lost."""
    lost = sum(lost for _, lost in trials)
    print(f"\n{what}: {len(trials)} trials, {sum(sent for sent, _ in trials):,} acknowledged, {lost:,} lost")  # noqa: T201 - the figures
    return lost


FSYNC = {
    "everysec": ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    "always": ("--appendonly", "yes", "--appendfsync", "always"),
}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fsync", FSYNC)
async def test_kill_9_of_a_server_with_an_append_only_file_takes_nothing(own_server: Server, namespace: str, fsync: str) -> None:
    trials: list[tuple[int, int]] = []
    for trial in range(TRIALS):
        server = Server(own_server.program, *FSYNC[fsync])
        try:
            server.start()

            def strike(server: Server = server) -> None:
                server.kill()
                server.start()

            trials.append(await crash(server.url, f"{namespace}-{trial}", strike))
        finally:
            server.remove()
    assert tell(f"{own_server.program}, kill -9, appendfsync {fsync}", trials) == 0


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_kill_9_of_a_server_without_an_append_only_file_takes_what_no_snapshot_has(own_server: Server, namespace: str) -> None:
    trials: list[tuple[int, int]] = []
    for trial in range(TRIALS):
        server = Server(own_server.program, "--appendonly", "no", "--save", "3600 1")
        try:
            server.start()

            def strike(server: Server = server) -> None:
                server.kill()
                server.start()

            trials.append(await crash(server.url, f"{namespace}-{trial}", strike))
        finally:
            server.remove()
    assert tell(f"{own_server.program}, kill -9, no append-only file", trials) > TRIALS * ACKNOWLEDGED / 2


HOW = {
    "primary killed": lambda watched: watched.servers[0].kill(),
    "planned": lambda watched: watched.fail_over(),
    "planned, min-replicas-to-write 1": lambda watched: watched.fail_over(),
}


async def fail_over(program: Program, namespace: str, how: str, durability: str) -> tuple[int, int]:
    """Send through a failover; return how many sends were acknowledged, and how many of these are lost."""
    watched = Watched(program)
    try:
        watched.start()
        if "min-replicas-to-write" in how:
            for number in range(2):
                watched.command(number, "CONFIG", "SET", "min-replicas-to-write", "1")

        def strike() -> None:
            HOW[how](watched)
            if how == "primary killed":
                watched.until_failed_over()
                watched.servers[0].start()

        return await crash(watched.url, namespace, strike, durability)
    finally:
        watched.remove()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("durability", ["primary", "replicated"])
async def test_a_failover_takes_nothing_that_a_replica_has_confirmed(own_server: Server, namespace: str, how: str, durability: str) -> None:
    trials = [await fail_over(own_server.program, f"{namespace}-{trial}", how, durability) for trial in range(FAILOVERS)]
    lost = tell(f'{own_server.program}, failover ({how}), durability="{durability}"', trials)
    assert lost == 0 or (durability == "primary" and lost <= FAILOVERS * SENDERS)
