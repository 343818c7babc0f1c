"""The history of a simulated world: a line for each thing that happens, and a digest by which two histories are compared."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from tests.simulation.loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable


class History(logging.Handler):
    """Keeps lines, log records of the package among them."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.problems: list[str] = []
        self._now_s = now_s
        self._digest = hashlib.sha256()

    def note(self, text: str) -> None:
        """Write a line, with the time and the process of the caller."""
        process = PROCESS.get()
        line = f"{self._now_s():12.6f} {process.name if process else '-':12} {text}"
        self._digest.update(line.encode("utf-8", "surrogateescape"))
        self.lines.append(line)

    def problem(self, text: str) -> None:
        """Write down what must not be."""
        self.note(f"PROBLEM {text}")
        self.problems.append(f"at {self._now_s():.3f} s: {text}")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line for a log record."""
        self.note(f"log {record.levelname.lower()}: {record.getMessage()}")

    def digest(self) -> str:
        return self._digest.hexdigest()
