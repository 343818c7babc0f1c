"""What the server tells of its time is a little over when it is read; a late answer must not make the clock late."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import server_clock
from angelrt.server_clock import ServerClock

SERVER_AHEAD_S = 1_000.0
NEAR_MS = 0.001
ways_s = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
"""How long a call and its answer are on their way."""


@dataclass
class World:
    """A machine's clocks, and a server whose clock is ahead."""

    now_s: float = 5.0
    ahead_s: float = SERVER_AHEAD_S

    def time(self) -> float:
        return self.now_s

    monotonic = time

    def call(self, clock: ServerClock, out_s: float, back_s: float) -> None:
        sent_s = self.now_s
        told_ms = (sent_s + out_s + self.ahead_s) * 1000
        self.now_s += out_s + back_s
        clock.hear(told_ms, sent_s)

    def error_ms(self, clock: ServerClock) -> float:
        return clock.now_ms() - (self.now_s + self.ahead_s) * 1000


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(server_clock, "time", world)
    return world


def test_an_answer_that_is_read_late_does_not_set_the_clock_back(world: World) -> None:
    clock = ServerClock()
    world.call(clock, 0.0002, 0.0002)
    world.call(clock, 0.0002, 0.4)
    assert world.error_ms(clock) == pytest.approx(-0.2, abs=NEAR_MS)


@pytest.mark.parametrize("by_s", [3600, -3600], ids=["forward", "back"])
def test_a_clock_that_was_set_anew_is_believed_at_once(world: World, by_s: float) -> None:
    clock = ServerClock()
    world.call(clock, 0.001, 0.001)
    world.ahead_s += by_s
    world.call(clock, 0.001, 0.002)
    assert -2 - NEAR_MS <= world.error_ms(clock) <= 1 + NEAR_MS


@given(ways=st.lists(ways_s, min_size=1))
def test_the_clock_is_as_near_as_the_quickest_ways_of_all_calls(ways: list[tuple[float, float]]) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_clock, "time", world)
        clock = ServerClock()
        for out_s, back_s in ways:
            world.call(clock, out_s, back_s)
            world.now_s += 1
        early_ms, late_ms = (1000 * min(way_s) for way_s in zip(*ways, strict=True))
        assert -late_ms - NEAR_MS <= world.error_ms(clock) <= early_ms + NEAR_MS
