"""The context of a run by itself: what several threads of one actor say at once is all kept."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from angelrt import Runtime
from angelrt.context import LOG_MAX_LINES, Context, CurrentJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from angelrt import Message

THREADS = 8
EACH = LOG_MAX_LINES // THREADS
RUNS = 50


@pytest.fixture
def impatient() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("impatient")
def test_what_several_threads_say_at_once_is_all_kept() -> None:
    rt: Runtime[None] = Runtime("redis://localhost:1")

    @rt.actor()
    async def child(number: int) -> None: ...

    messages = [child.message(number) for number in range(THREADS)]

    def speak(context: Context[None], message: Message[None]) -> None:
        for _ in range(EACH):
            context.log(f"of {message.arguments!r}")
            context.send(message)

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(RUNS):
            context: Context[None] = Context(CurrentJob("j1", "parent", "default"), 1, None)
            list(threads.map(partial(speak, context), messages))
            assert (len(context.lines), len(context.buffered)) == (THREADS * EACH, THREADS * EACH)


def test_the_log_keeps_its_last_lines() -> None:
    context: Context[None] = Context(CurrentJob("j1", "parent", "default"), 1, None)
    for number in range(LOG_MAX_LINES + 5):
        context.log(f"line {number}")
    assert list(context.lines) == [f"line {number}" for number in range(5, LOG_MAX_LINES + 5)]
