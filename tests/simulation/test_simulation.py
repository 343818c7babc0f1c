"""Histories of the whole runtime in virtual time: a short form of `tox -e simulation`, and what makes its word worth something."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation import mutants
from tests.simulation.fleet import real_server, told
from tests.simulation.loop import Hang, Loop, Process
from tests.simulation.server import Server
from tests.simulation.threads import Baton
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.simulation.server import Real

pytestmark = pytest.mark.timeout(170)  # ten times what each takes where nothing else runs; after 180 s the whole run is given up

SEEDS = 30
AT_A_TIME = 5


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    """A server for the simulation alone: it is emptied for each history."""
    with real_server() as real:
        yield real


@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_nothing_is_lost_repeated_or_left_waiting(real: Real, first: int) -> None:
    outcomes = [World(seed, real).play() for seed in range(first, first + AT_A_TIME)]
    assert "".join(told(outcome) for outcome in outcomes if outcome.problems) == ""
    assert sum(outcome.counts["jobs"] for outcome in outcomes) > 5 * AT_A_TIME


def test_a_seed_is_the_same_history_in_every_process(real: Real) -> None:
    here = {seed: World(seed, real).play().digest for seed in range(2)}
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "2", "--digest"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=mutants.ROOT).stdout
        assert printed.splitlines() == [f"{seed} {digest}" for seed, digest in here.items()]


def test_other_seeds_are_other_histories(real: Real) -> None:
    assert len({World(seed, real).play().digest for seed in range(2)}) == 2


def test_a_problem_is_told_with_the_command_that_replays_it(real: Real) -> None:
    world = World(1, real)
    world.history.problem("made up")
    text = told(world.play())
    assert "seed 1 at 0.000 s: made up" in text
    assert "python -m tests.simulation 1\n" in text


@pytest.mark.parametrize("name", ["a send wakes nobody", "suspects run beside others"])
def test_a_broken_package_is_noticed(name: str) -> None:
    """Two of the mutants; `python -m tests.simulation.mutants` plays them all."""
    mutant = next(mutant for mutant in mutants.MUTANTS if mutant.name == name)
    assert mutants.play(mutant).startswith("seed ")


def test_every_mutant_can_be_made() -> None:
    assert all(mutants.broken(mutant) for mutant in mutants.MUTANTS)
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)


def test_the_server_knows_its_connections_and_numbers_them_anew_after_a_restart(real: Real, loop: Loop) -> None:
    server = Server(real, loop, random.Random(1), loop.call_later)  # noqa: S311 - a seed
    heard: list[Any] = []
    first, second, _ = (server.accept(heard.append) for _ in range(3))
    second.close()
    first.receive([[b"CLIENT", b"ID"], [b"CLIENT", b"LIST", b"ID", b"1", b"2", b"3"], [b"INFO", b"server"]])
    assert (heard[0], [line.split()[0] for line in heard[1].splitlines()]) == (1, [b"id=1", b"id=3"])
    server.stop()
    server.start()
    server.accept(heard.append).receive([[b"CLIENT", b"ID"], [b"INFO", b"server"]])
    assert heard[3] == 1
    assert heard[4] != heard[2]


# -- the loop ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def uncaught() -> list[str]:
    """What no code of the simulated processes caught."""
    return []


@pytest.fixture
def loop(uncaught: list[str]) -> Iterator[Loop]:
    baton = Baton()
    baton.loop = Loop(random.Random(1), uncaught.append, baton.call)  # noqa: S311 - a seed
    yield baton.loop
    baton.loop.close()


def test_time_jumps_to_the_next_timer(loop: Loop) -> None:
    async def sleeps() -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert loop.run_until_complete(sleeps()) == 3600


def _in_turn(seen: list[str], name: str) -> Coroutine[Any, Any, None]:
    async def says() -> None:
        for number in range(20):
            seen.append(f"{name}{number}")
            await asyncio.sleep(0)

    return says()


def test_processes_take_turns_by_chance_and_each_keeps_its_order(loop: Loop) -> None:
    seen: list[str] = []
    tasks = [loop.spawn(Process(name), _in_turn(seen, name)) for name in "ab"]
    loop.run_until_complete(asyncio.wait(tasks))
    for name in "ab":
        assert [said for said in seen if said[0] == name] == [f"{name}{number}" for number in range(20)]
    assert seen != sorted(seen, key=lambda said: (int(said[1:]), said[0]))


def test_a_process_that_is_killed_runs_nothing_more(loop: Loop) -> None:
    seen: list[str] = []
    process = Process("dies")

    async def dies() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            seen.append("cleaned up")

    task = loop.spawn(process, dies())
    loop.run_until_complete(asyncio.sleep(0.5))
    loop.kill(process)
    loop.run_until_complete(asyncio.sleep(5))
    assert (seen, task.done()) == ([], False)
    loop.revive(process)
    loop.run_until_complete(task)


def test_a_process_that_is_stalled_goes_on_later(loop: Loop) -> None:
    process = Process("stalls")

    async def sleeps() -> float:
        await asyncio.sleep(1)
        return loop.time()

    task = loop.spawn(process, sleeps())
    loop.run_until_complete(asyncio.sleep(0.5))
    process.stalled_until_s = 7
    assert loop.run_until_complete(task) == 7


def test_who_waits_for_ever_and_who_spins_is_found(loop: Loop) -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    async def spins() -> None:
        while True:  # noqa: ASYNC110 - to be found out
            await asyncio.sleep(0)

    for main, words in ((waits, "everybody waits for ever"), (spins, "steps at one time")):
        task = loop.spawn(Process("hangs"), main())
        with pytest.raises(Hang, match=words):
            loop.run_until_complete(task)
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))


def test_a_thread_waits_in_virtual_time(loop: Loop) -> None:
    baton = Baton()
    baton.loop = loop
    seen: list[tuple[float, bool]] = []
    stop = baton.Event()

    def waits() -> None:
        seen.append((loop.time(), stop.wait(2)))
        seen.append((loop.time(), stop.wait(100)))

    async def stops() -> None:
        baton.Thread(waits).start()
        await asyncio.sleep(10)
        stop.set()
        await asyncio.sleep(0)

    loop.run_until_complete(stops())
    assert seen == [(0, False), (2, True)]


def test_a_thread_that_breaks_is_found(loop: Loop, uncaught: list[str]) -> None:
    baton = Baton()
    baton.loop = loop

    def breaks() -> None:
        raise ValueError("broken on purpose")

    async def starts() -> None:
        baton.Thread(breaks).start()
        await asyncio.sleep(1)

    loop.run_until_complete(starts())
    assert uncaught == ["a thread broke: ValueError('broken on purpose')"]
