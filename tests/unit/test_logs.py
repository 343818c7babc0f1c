"""The log of the command line: JSON lines for programs, and hands off where somebody has set logging up."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Context, CurrentJob, RetryPolicy, Runtime, logs
from angelrt.context import enter
from angelrt.worker.failure import describe

if TYPE_CHECKING:
    from collections.abc import Generator

LIBRARY = "import logging, angelrt, angelrt.runtime, angelrt.worker, angelrt.testing; print(logging.root.handlers, logging.root.level)"


def line_of(message: object, *args: object, **record: Any) -> dict[str, Any]:
    """Format one record and parse the line."""
    made = logging.LogRecord("angelrt.worker", logging.WARNING, __file__, 1, message, args, record.pop("exc_info", None))
    made.__dict__.update(record)
    text = logs.JsonFormatter().format(made)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_line_has_time_level_logger_and_message() -> None:
    line = line_of("%d jobs", 3, created=1_767_355_200.25)
    assert line == {"time": "2026-01-02T12:00:00.250+00:00", "level": "WARNING", "logger": "angelrt.worker", "message": "3 jobs"}


def test_the_time_is_now_in_utc() -> None:
    before = datetime.now(UTC)
    assert before.timestamp() - 0.001 <= datetime.fromisoformat(line_of("x")["time"]).timestamp() <= datetime.now(UTC).timestamp()


def test_the_fields_of_a_job_are_added_and_no_others() -> None:
    line = line_of("failed", job_id="x", actor="thumbnail", attempt=2, elsewhere="no")
    assert (line["job_id"], line["actor"], line["attempt"]) == ("x", "thumbnail", 2)
    assert "elsewhere" not in line


def test_a_traceback_is_one_field_of_the_same_line() -> None:
    try:
        raise ValueError("no\npicture")  # noqa: TRY301 - the error is the subject
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["traceback"].endswith("ValueError: no\npicture")


@pytest.mark.parametrize("message", ["a\nb", "größe\0", 'with "quotes"', "\ud800 lone", 2**70, object()])
def test_any_message_makes_a_line(message: object) -> None:
    assert line_of(message)["message"]


@contextmanager
def bare_root() -> Generator[logging.Logger]:
    """The root logger as an application finds it, without the handlers of pytest; afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.parametrize(("form", "shown"), [("text", " WARNING  shop: 1 job\n"), ("json", '"message":"1 job"}\n')])
def test_where_nobody_set_logging_up_lines_go_to_standard_error(monkeypatch: pytest.MonkeyPatch, form: str, shown: str) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with bare_root() as root:
        logs.configure("warning", form)
        logging.getLogger("shop").warning("%d job", 1)
        logging.getLogger("shop").info("not shown")
        assert root.level == logging.WARNING
    assert stream.getvalue().endswith(shown)
    assert stream.getvalue().count("\n") == 1


def test_an_error_that_is_quoted_makes_no_line_of_its_own() -> None:
    forged = "no\n2026-11-26 12:00:00 ERROR forged\x1b[31m größe"
    assert describe(ValueError(forged)) == "ValueError: no\\n2026-11-26 12:00:00 ERROR forged\\x1b[31m größe"


def test_configuring_twice_adds_one_handler() -> None:
    with bare_root() as root:
        logs.configure("info", "text")
        logs.configure("debug", "json")
        assert len(root.handlers) == 1


def test_what_the_application_set_up_stays_as_it_is() -> None:
    own = logging.NullHandler()
    with bare_root() as root:
        root.addHandler(own)
        root.setLevel(logging.ERROR)
        logs.configure("debug", "json")
        assert root.handlers == [own]
        assert root.level == logging.ERROR


def test_the_library_never_configures_logging() -> None:
    answer = subprocess.run([sys.executable, "-c", LIBRARY], check=True, capture_output=True, text=True)
    assert answer.stdout == f"[] {logging.WARNING}\n"
    assert answer.stderr == ""


# -- what a run logs ---------------------------------------------------------------------------------------------------------------


class Kept(logging.Handler):
    """Keeps the lines of loggers below `app`, as the JSON format writes them."""

    def __init__(self) -> None:
        """Take the fields of jobs."""
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.addFilter(logs.JobFields())
        self.setFormatter(logs.JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def kept() -> Generator[Kept]:
    """What the application logs, with its fields."""
    handler, logger = Kept(), logging.getLogger("app")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def fields_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a job."""
    return tuple(line.get(name) for name in logs.JOB_FIELDS)


async def test_what_a_run_logs_names_its_job(server_url: str, namespace: str, kept: Kept) -> None:
    log = logging.getLogger("app.shop")
    rt = Runtime(server_url, namespace=namespace)

    @rt.actor(queue="loop", name="in_loop", retry=RetryPolicy(attempts=2, base=0))
    async def in_loop() -> None:
        log.warning("by the actor")
        await asyncio.create_task(deeper())
        if Context.current().attempt == 1:
            raise LookupError("again")

    async def deeper() -> None:
        log.warning("by a task of its own")

    @rt.thread_actor(queue="threads", name="in_thread")
    def in_thread() -> None:
        log.warning("in a thread")

    log.warning("before")
    async with rt, rt.worker():
        first, second = await in_loop.send(), await in_thread.send()
        await first.result(20)
        await second.result(20)
        log.warning("after")
        store = rt.client().store
    assert [fields_of(line) for line in kept.lines if line["message"] in ("before", "after")] == [(None,) * 4] * 2
    by_actor = [fields_of(line) for line in kept.lines if line["message"] == "by the actor"]
    assert by_actor == [(first.id, "in_loop", "loop", attempt) for attempt in (1, 2)]
    assert [fields_of(line) for line in kept.lines if line["message"] == "by a task of its own"] == by_actor
    assert [fields_of(line) for line in kept.lines if line["message"] == "in a thread"] == [(second.id, "in_thread", "threads", 1)]
    async with rt:
        await rt.client().store.command("UNLINK", *store.keys.every(["loop", "threads"]))


def test_fields_that_a_line_brings_stay_as_they_are() -> None:
    def logs_itself() -> None:
        enter(Context(CurrentJob("its-job", "its-actor", "its-queue"), 3, None))
        record = logging.makeLogRecord({"msg": "x", "job_id": "another", "queue": "of the shop"})
        assert logs.JobFields().filter(record)
        assert fields_of(vars(record)) == ("another", "its-actor", "of the shop", 3)

    contextvars.copy_context().run(logs_itself)


def test_the_log_of_the_command_line_has_the_fields() -> None:
    with bare_root() as root:
        logs.configure("info", "json")
        [handler] = root.handlers
        assert [type(found) for found in handler.filters] == [logs.JobFields]
