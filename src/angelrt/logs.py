"""Which job a line of the log is about, and how the command line writes its log; the library itself never sets logging up."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from .context import running

JOB_FIELDS: Final = ("job_id", "actor", "queue", "attempt")
TEXT_FORMAT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


class JobFields(logging.Filter):
    """Gives each record of a run the fields `job_id`, `actor`, `queue` and `attempt`; it lets every record pass.

    Add it to a handler: `handler.addFilter(JobFields())`. It asks when a line is logged, so that a run that logs nothing pays nothing. A
    field that a record brings by `extra=` stays as it is.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, if a run is what logs."""
        context = running()
        if context is not None:
            job = context.job
            for name, value in zip(JOB_FIELDS, (job.id, job.actor, job.queue, context.attempt), strict=True):
                record.__dict__.setdefault(name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the job's fields (see `JobFields`), and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in JOB_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps({name: _plain(value) for name, value in line.items()}).decode()


def _plain(value: object) -> object:
    """Return what has a JSON form, whatever an actor's error text holds."""
    return value if isinstance(value, int) else str(value).encode("utf-8", "backslashreplace").decode()


def configure(level: str, form: str) -> None:
    """Write the log to standard error as `text` or `json`, unless the application has handlers of its own."""
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(TEXT_FORMAT))
    handler.addFilter(JobFields())
    root.addHandler(handler)
