"""What a running actor may ask and say about its own run."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

from typing_extensions import TypeVar

from .errors import InvalidOptions, RuntimeNotOpen
from .job import at_ms

if TYPE_CHECKING:
    from datetime import datetime

    from .actor import Message

S = TypeVar("S", default=Any)
LOG_MAX_LINES: Final = 100
LOG_MAX_CHARS: Final = 500


@dataclass(slots=True, unsafe_hash=True)
class CurrentJob:
    """The job that runs. `id` is the same in each of its runs: use it as the idempotency key of effects outside Redis."""

    id: str
    actor: str
    queue: str


@dataclass(eq=False, slots=True)
class Context(Generic[S]):
    """One run of a job, seen from inside its actor; get it by `rt.context` or `Context.current()`.

    `job` names the job, `attempt` counts its runs from 1, `state` is what the runtime's lifespan yielded.
    """

    job: CurrentJob
    attempt: int
    state: S
    deadline_ms: float = 0.0
    done: float | None = None
    message: str = ""
    lines: tuple[str, ...] = ()
    buffered: tuple[Message[Any], ...] = ()
    why_cancelled: str = ""
    tokens_used: int | None = None
    on_note: Callable[[Context[Any]], None] | None = None
    note_scheduled: bool = False

    @staticmethod
    def current() -> Context[Any]:
        """Return the context of the run that calls. Raises RuntimeNotOpen outside an actor that a worker runs."""
        found = _current.get()
        if found is None:
            message = "there is no current job: the context exists only inside an actor that a worker runs"
            raise RuntimeNotOpen(message)
        return found

    @property
    def deadline(self) -> datetime:
        """The UTC time at which the run is cancelled."""
        return at_ms(self.deadline_ms)

    @property
    def cancelled(self) -> bool:
        """Whether the run has been asked to stop (cancelled, timeout, lost lease, shutdown); threads and processes must look themselves."""
        return bool(self.why_cancelled)

    def progress(self, done: float, message: str = "") -> None:
        """Say how far the run is, `done` from 0 to 1; shown in `Job.info()` within about a second."""
        self.done = min(max(float(done), 0.0), 1.0)
        self.message = _clean(message)
        self._note()

    def log(self, line: str) -> None:
        """Add a line to the log of the job, of which the last 100 are kept and shown in `Job.info()`."""
        with _speaking:
            self.lines = (*self.lines, _clean(line))[-LOG_MAX_LINES:]
        self._note()

    def send(self, *messages: Message[Any]) -> None:
        """Send jobs if, and only if, this run completes: they are written by the script that settles it, exactly once."""
        with _speaking:
            self.buffered += messages

    def used(self, tokens: int) -> None:
        """Say how many tokens the run really took of rate limits that have a cost; corrected when it ends. Raises InvalidOptions."""
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"context.used({tokens!r}): the tokens that were used are a whole number from 0"
            raise InvalidOptions(message)
        self.tokens_used = tokens

    def _note(self) -> None:
        if self.on_note is not None:
            self.on_note(self)


def _clean(text: str) -> str:
    """Return text of bounded length that has a JSON form: file names may hold what is no Unicode."""
    return text[:LOG_MAX_CHARS].encode("utf-8", "replace").decode()


_speaking: Final = threading.Lock()
"""Held while a run's words are added to those before: its threads may speak at once. One for all, since one for each run would cost all."""
_current: ContextVar[Context[Any] | None] = ContextVar("angelrt_context", default=None)


def running() -> Context[Any] | None:
    """Return the context of the run that calls; None outside an actor that a worker runs."""
    return _current.get()


enter: Final = _current.set
"""Makes a context current in the task or thread that calls."""


Middleware = Callable[[Context[Any], Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async def middleware(context, call_next)`: wraps a run; returns what `await call_next()` returns, or something in its place."""
