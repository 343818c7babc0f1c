"""An event loop in which time is a number: when nothing can run, it jumps to the next timer.

Everything that runs belongs to a simulated process, known by a context variable. Within one process callbacks run in the order in which
they were scheduled, as asyncio promises; which process runs next is drawn from the seed. A process can be killed (nothing of it ever runs
again, no `finally` either) and stalled (SIGSTOP: what is ready waits).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

STEPS_AT_ONE_TIME_MAX: Final = 20_000


class Hang(Exception):  # noqa: N818 - what is found, not what went wrong here
    """The simulated world can go no further, or does without end."""


class Process:
    """One process of the simulated world."""

    def __init__(self, name: str, skew_s: float = 0.0) -> None:
        self.name = name
        self.skew_s = skew_s
        self.is_dead = False
        self.has_left = False
        self.stalled_until_s = 0.0
        self.ready: deque[asyncio.Handle] = deque()

    def context(self) -> Context:
        """Return an empty context of this process."""
        context = Context()
        context.run(PROCESS.set, self)
        return context


PROCESS: Final[ContextVar[Process | None]] = ContextVar("simulated process", default=None)
"""The process of what runs; None outside all of them, where network, server and judge are."""


class Loop(asyncio.BaseEventLoop):
    """The loop of all simulated processes. `late` hears of exceptions that nobody caught."""

    def __init__(self, draw: Random, uncaught: Callable[[str], None], executor: Callable[..., asyncio.Future[Any]]) -> None:
        super().__init__()
        self.now_s = 0.0
        self.steps = 0
        self._outside = Process("outside")
        self._draw = draw
        self._executor = executor
        self._busy: list[Process] = []
        self._timers: list[tuple[float, float, int, Process, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._steps_now = 0
        self.set_exception_handler(lambda _, found: uncaught(f"{found['message']}: {found.get('exception')!r}"))

    # -- what asyncio asks for ---------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._is_ready(self._owner(context), handle)
        return handle

    call_soon_threadsafe = call_soon  # threads take turns with the loop

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (max(when, self.now_s), self._draw.random(), self._timers_made, self._owner(context), handle))
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # noqa: ARG002
        return self._executor(func, *args)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it: a cancelled timer is dropped when its time comes."""

    def _run_once(self) -> None:
        process = self._next_process()
        self.steps += 1
        self._steps_now += 1
        if self._steps_now > STEPS_AT_ONE_TIME_MAX:
            self._steps_now = 0
            raise Hang(f"{STEPS_AT_ONE_TIME_MAX:,} steps at one time: process {process.name} is busy with {process.ready[0]!r}")
        handle = process.ready.popleft()
        if not process.ready:
            self._busy.remove(process)
        if not handle.cancelled():
            handle._run()  # noqa: SLF001 - what every event loop does

    # -- processes -----------------------------------------------------------------------------------------------------------------

    def spawn(self, process: Process, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task in a process."""
        return self.create_task(main, name=process.name, context=process.context())

    def kill(self, process: Process) -> None:
        """End a process as kill -9 does."""
        process.is_dead = True
        if process in self._busy:
            self._busy.remove(process)

    def revive(self, process: Process) -> None:
        """Let what is left of a dead process be cleared away, after the end of the history."""
        if process.is_dead and process.ready:
            self._busy.append(process)
        process.is_dead = False
        process.stalled_until_s = 0.0

    def _owner(self, context: Context | None) -> Process:
        return (PROCESS.get() if context is None else context.get(PROCESS)) or self._outside

    def _is_ready(self, process: Process, handle: asyncio.Handle) -> None:
        if not process.ready and not process.is_dead:
            self._busy.append(process)
        process.ready.append(handle)

    def _next_process(self) -> Process:
        while True:
            able = [process for process in self._busy if process.stalled_until_s <= self.now_s]
            if able:
                return able[0] if len(able) == 1 else able[self._draw.randrange(len(able))]
            self._pass_time()

    def _pass_time(self) -> None:
        while self._timers and self._timers[0][4].cancelled():
            heapq.heappop(self._timers)
        times = [process.stalled_until_s for process in self._busy]
        times += [self._timers[0][0]] if self._timers else []
        if not times:
            raise Hang("nothing is ready and no timer runs: everybody waits for ever")
        now_s = min(times)
        if now_s > self.now_s:
            self.now_s, self._steps_now = now_s, 0
        while self._timers and self._timers[0][0] <= self.now_s:
            *_, process, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._is_ready(process, handle)
