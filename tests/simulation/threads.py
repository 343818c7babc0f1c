"""Threads of the simulated world: real ones, of which only one runs at a time, and only when the loop says so."""

from __future__ import annotations

import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import PROCESS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.simulation.loop import Loop


class Ended(BaseException):
    """Raised in a thread whose process is no more, when the history is over."""


class Baton:
    """The threads of one simulation, and what stands in for `threading` in the package."""

    def __init__(self) -> None:
        self.loop: Loop | None = None
        self._here = threading.local()
        self._all: list[Thread] = []

    def __getattr__(self, name: str) -> Any:
        """Give what is not simulated, as `current_thread`."""
        return getattr(threading, name)

    def Thread(self, target: Callable[[], Any], name: str = "", daemon: bool = True) -> Thread:  # noqa: ARG002, FBT001, FBT002, N802
        thread = Thread(self, target)
        self._all.append(thread)
        return thread

    def Event(self) -> Event:  # noqa: N802 - as in threading
        return Event(self)

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Call in a thread of its own; the future is of the loop."""
        assert self.loop is not None
        future: asyncio.Future[Any] = self.loop.create_future()
        loop = self.loop

        def run() -> None:
            try:
                settle, value = future.set_result, function(*args)
            except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
                settle, value = future.set_exception, error
            loop.call_soon(lambda: None if future.done() else settle(value))

        self.Thread(run).start()
        return future

    def current(self) -> Thread:
        """Return the thread that asks."""
        found: Thread = self._here.thread
        return found

    def enter(self, thread: Thread) -> None:
        """Note in a new thread which it is."""
        self._here.thread = thread

    def end(self) -> None:
        """End every thread that still waits for its turn."""
        for thread in self._all:
            thread.end()
        self._all.clear()


class Thread:
    """A thread that runs only while the loop waits for it."""

    def __init__(self, baton: Baton, target: Callable[[], Any]) -> None:
        self._baton = baton
        self._context = Context()
        self._context.run(PROCESS.set, PROCESS.get())
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._parked = 0
        self._is_parked = True
        self._is_ending = False
        self._woken = False
        self._is_done = False
        self._joining: list[Thread] = []
        self._target = target
        self._real = threading.Thread(target=self._context.run, args=(self._main,), daemon=True)

    @property
    def loop(self) -> Loop:
        assert self._baton.loop is not None
        return self._baton.loop

    def start(self) -> None:
        self._real.start()
        self.unpark()

    def join(self, timeout: float | None = None) -> None:
        if not self._is_done:
            self._joining.append(self._baton.current())
            self._baton.current().park(timeout)

    def is_alive(self) -> bool:
        return not self._is_done

    def park(self, timeout_s: float | None) -> bool:
        """Wait, in the thread itself, until `unpark`; False after the timeout."""
        self._parked += 1
        self._is_parked = True
        timer = None if timeout_s is None else self.loop.call_later(timeout_s, self._wake, self._parked, False)  # noqa: FBT003
        self._back.release()
        self._go.acquire()
        if timer is not None:
            timer.cancel()
        if self._is_ending:
            raise Ended
        return self._woken

    def unpark(self) -> None:
        """Let it go on, in a step of its own."""
        self.loop.call_soon(self._wake, self._parked, True, context=self._context.copy())  # noqa: FBT003

    def end(self) -> None:
        if not self._is_done:
            self._is_ending = True
            self._switch()
            self._real.join()

    def _wake(self, number: int, woken: bool) -> None:  # noqa: FBT001
        if self._is_parked and number == self._parked and not self._is_done:
            self._is_parked, self._woken = False, woken
            self._switch()

    def _switch(self) -> None:
        self._go.release()
        self._back.acquire()

    def _main(self) -> None:
        self._baton.enter(self)
        self._go.acquire()
        try:
            if not self._is_ending:
                self._target()
        except Ended:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody waits for it
            self.loop.call_exception_handler({"message": "a thread broke", "exception": error})
        finally:
            self._is_done = True
            if not self._is_ending:
                for thread in self._joining:
                    thread.unpark()
            self._back.release()


class Event:
    """An event between the loop and its threads."""

    def __init__(self, baton: Baton) -> None:
        self._baton = baton
        self._is_set = False
        self._waiting: list[Thread] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for thread in self._waiting:
            thread.unpark()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            thread = self._baton.current()
            self._waiting.append(thread)
            thread.park(timeout)
            self._waiting.remove(thread)
        return self._is_set
