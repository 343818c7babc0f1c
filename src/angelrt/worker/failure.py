"""How a run fails, and how that is written down: type, text and traceback, bounded."""

from __future__ import annotations

import concurrent.futures.thread
import traceback
from pathlib import Path
from typing import Final

import orjson

from ..config import TEXT_MAX_CHARS, escaped
from ..errors import InvalidArguments, PayloadTooLarge
from ..retry import Fail

OWN_FRAMES: Final = (str(Path(__file__).parent.parent), concurrent.futures.thread.__file__)


class Timeout(Exception):  # noqa: N818 - stands in the record of a failed job under this name
    """The run lasted longer than the actor's timeout."""


class WorkerLost(Exception):  # noqa: N818 - stands in the record of a failed job under this name
    """The job's worker died or hung in its last permitted run, so that nobody could write how it ended."""


class Poison(Exception):  # noqa: N818 - stands in the record of a failed job under this name
    """The job killed the process in which it ran, again and again."""


class RemoteFailure(Exception):  # noqa: N818 - stands for an error that was raised elsewhere
    """An exception of the process, as text."""

    def __init__(self, type_: str, message: str, trace: str, *, hopeless: bool = False) -> None:
        """Keep its parts."""
        super().__init__(message)
        self.type = type_
        self.message = message
        self.traceback = trace
        self.hopeless = hopeless

    def describe(self) -> str:
        """Return the remote exception in one line."""
        return f"{self.type}: {self.message}"


class ProcessDied(RemoteFailure):
    """The process of a process actor ended by itself while it ran the job."""

    def __init__(self, message: str) -> None:
        """Say how it ended."""
        super().__init__("ProcessDied", message, "")


def failure_json(actor: str, error: BaseException) -> bytes:
    """Return an error as it is stored: actor, qualified type, text and traceback, bounded."""
    if isinstance(error, RemoteFailure):
        parts = (error.type, error.message, error.traceback)
    else:
        parts = (type_name(error), text_of(error), traceback_of(error))
    kind, message, trace = (
        text if len(text) <= TEXT_MAX_CHARS else f"{text[: TEXT_MAX_CHARS // 2]}\n[...]\n{text[-TEXT_MAX_CHARS // 2 :]}" for text in parts
    )
    failure = {"actor": actor, "type": kind, "message": message, "traceback": trace}
    return orjson.dumps({name: text.encode("utf-8", "replace").decode() for name, text in failure.items()})


def hopeless(error: BaseException) -> bool:
    """Whether a further attempt would end the same way."""
    return error.hopeless if isinstance(error, RemoteFailure) else isinstance(error, Fail | InvalidArguments | PayloadTooLarge)


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's type, without `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """Return an exception's text, also of one that cannot tell it."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the actor's code; its failure must be settled all the same
        return "(its text cannot be shown: __str__ raised)"


def describe(error: BaseException) -> str:
    """Return an exception in one line, whatever its text holds."""
    return escaped(error.describe() if isinstance(error, RemoteFailure) else f"{type_name(error)}: {text_of(error)}")


def traceback_of(error: BaseException) -> str:
    """Return the traceback from the first frame that is not of this package (nor of the executor), so that people see their own code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(OWN_FRAMES) and frame.tb_next is not None:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))
