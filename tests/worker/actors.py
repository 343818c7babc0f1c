"""One behaviour in three kinds of actor: in the loop, in a thread, in a process (which must find its actors by import)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from angelrt import Actors, Context, Fail, Retry, RetryPolicy, Snooze

ATTEMPTS: Final = 3
AT_ONCE: Final = RetryPolicy(attempts=ATTEMPTS, base=0)
AFTER_S: Final = 0.1
KINDS: Final = ("async", "thread", "process")

group = Actors()
"""Its actors are named as the kinds. Include it and send by name: a group that several runtimes include sends with the first."""


class Unlisted(BaseException):
    """No Exception, as some libraries raise to pass by every `except Exception`."""


class UnprintableError(Exception):
    """An exception that breaks whoever prints it."""

    def __str__(self) -> NoReturn:
        """Fail."""
        raise ValueError(self.args)


def is_first(path: str) -> bool:
    """Tell whether nobody asked with this path before, in whatever process."""
    try:
        Path(path).mkdir()
    except FileExistsError:
        return False
    return True


def behave(what: str, path: str) -> str:  # noqa: C901, PLR0912 - one branch for each behaviour
    """Do what the test asks for; `path` is where runs leave traces for each other."""
    context = Context.current()
    match what:
        case "raise":
            message = "broken on purpose"
            raise ValueError(message)
        case "raise twice":
            if context.attempt < ATTEMPTS:
                raise LookupError(context.attempt)
        case "retry":
            message = "come again"
            raise Retry(message)
        case "retry after":
            if is_first(path):
                raise Retry(after=AFTER_S)
        case "snooze":
            if is_first(path):
                raise Snooze(AFTER_S)
        case "fail":
            message = "it will never work"
            raise Fail(message)
        case "SystemExit":
            raise SystemExit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
        case "Unlisted":
            raise Unlisted
        case "StopIteration":
            return next(iter(()))
        case "Unprintable":
            raise UnprintableError
        case "surrogates":
            raise ValueError("\ud800")
        case "child":
            context.send(child.message())
        case "child, then raise":
            context.send(child.message())
            if is_first(path):
                raise LookupError
        case "child, then snooze":
            context.send(child.message())
            if is_first(path):
                raise Snooze(0)
        case "log":
            context.log("a line")
        case _:
            assert what == "return"
    return f"run {context.attempt}"


@group.actor(name="async", retry=AT_ONCE)
async def in_loop(what: str, path: str = "") -> str:
    """Behave in the worker's loop."""
    return behave(what, path)


@group.thread_actor(name="thread", retry=AT_ONCE)
def in_thread(what: str, path: str = "") -> str:
    """Behave in a thread."""
    return behave(what, path)


@group.process_actor(name="process", retry=AT_ONCE)
def in_process(what: str, path: str = "") -> str:
    """Behave in a process."""
    return behave(what, path)


@group.actor()
async def child() -> str:
    """Be sent by a run."""
    return "a child"


@group.process_actor()
def pid() -> int:
    """Tell in which process actors run."""
    return os.getpid()


@group.process_actor()
def loaded(names: list[str]) -> list[str]:
    """Tell which of these modules are loaded in a process."""
    return [name for name in names if name in sys.modules]


@group.process_actor(retry=RetryPolicy(attempts=1))
def hang(path: str) -> None:
    """Leave the process's id behind and go on for longer than any test."""
    Path(path).write_text(str(os.getpid()), encoding="ascii")
    time.sleep(3600)


@group.process_actor(retry=RetryPolicy(attempts=2, base=0))
def leave_at_once(path: str) -> None:
    """End the process from inside, without a word, and count how often."""
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    os._exit(7)


@group.process_actor(retry=RetryPolicy(base=0))
def die_of_a_signal() -> None:
    """End as the kernel ends what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@group.process_actor()
def state_and_deadline() -> tuple[bool, float]:
    """Tell what the context holds in a process."""
    context = Context.current()
    return context.state is None, context.deadline_ms
