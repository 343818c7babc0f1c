"""What people read in a terminal: every fact is there, and text of users is shown as it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from angelrt import JobInfo, Runtime, Stats, Status, WorkerInfo, tables
from angelrt.control import Pause, Rule
from angelrt.doctor import Finding
from angelrt.job import Attempt, ErrorInfo, Progress
from angelrt.stats import Figures, QueueDepth

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
LOCAL_NOON = NOON.astimezone().strftime("%Y-%m-%d %H:%M:%S.250")


def shown(show: Any, *parts: Any, width: int = 200) -> str:
    """Render without colours and return the text."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        show(console, *parts)
    return capture.get()


def cells_of(text: str, first: str) -> list[str]:
    """Return the cells of the row that begins with a word, whatever lines are drawn between them."""
    (row,) = (line for line in text.splitlines() if line.strip(" │┃").startswith(first))
    return [cell for cell in re.split(r"\s{2,}|\s*[│┃]\s*", row.strip(" │┃")) if cell]


def job(**changes: Any) -> JobInfo:
    """Make a pending job."""
    parts: dict[str, Any] = {
        "id": "x",
        "type": "thumbnail",
        "payload": {"path": "a.jpg"},
        "priority": 5,
        "attempts": 0,
        "status": Status.PENDING,
        "created_at": NOON,
        "state": "ready",
        "queue": "photos",
    }
    return JobInfo(**(parts | changes))


def worker(**changes: Any) -> WorkerInfo:
    """Make an idle worker."""
    parts: dict[str, Any] = {
        "id": "w1",
        "type": "worker",
        "status": "idle",
        "last_heartbeat": NOON,
        "jobs_processed": 1_234,
        "average_processing_time": 12.34,
        "queues": ["photos", "mail"],
        "actors": ["thumbnail"],
        "concurrency": 10,
        "running": 3,
        "host": "h",
        "pid": 7,
    }
    return WorkerInfo(**(parts | changes))


def stats(**changes: Any) -> Stats:
    """Make the figures of one actor in one queue."""
    counted: dict[str, Any] = {"sent": 2_000, "completed": 1_500, "failed": 500, "retried": 7, "lost": 1}
    times: dict[str, Any] = {"pickup_p50_ms": 0.75, "pickup_p99_ms": 123.4, "run_p50_ms": 9_999.0, "run_p99_ms": 125_000.0}
    parts: dict[str, Any] = {
        "hours": 25,
        "total": Figures(queue="*", actor="*", **counted, **times),
        "actors": [Figures(queue="photos", actor="thumbnail", **counted, **times)],
        "queues": [QueueDepth(queue="photos", ready=1_000, delayed=2, leased=3, lanes=4, oldest_ready_ms=1_500.0)],
    }
    return Stats(**(parts | changes))


async def test_the_banner_lists_queues_and_actors(server_url: str, namespace: str) -> None:
    runtime = Runtime(server_url, namespace=namespace)
    for queue, name in (("photos", "thumbnail"), ("photos", "shop.digest"), ("slow", "archive")):
        runtime.thread_actor(queue=queue, name=name)(lambda: None)
    async with runtime:
        worker = runtime.new_worker(queues=["photos", "mail"], concurrency=7)
        assert tables.banner(runtime, worker).splitlines() == [
            f"angelrt worker {worker.id} on {server_url}, namespace {namespace}, 7 jobs at a time",
            "  queue photos: thumbnail (thread), shop.digest (thread)",
            "  queue mail: no actors declared",
            "  queue slow (not served here): archive (thread)",
        ]


def test_the_figures_begin_with_one_sentence() -> None:
    first = shown(tables.stats, stats(), []).splitlines()[0]
    assert first == "Last 25 hours: 1,500 completed, 500 failed (completion rate 75.00%); pickup p50 0.8 ms, p99 123 ms"


def test_every_actor_and_every_queue_has_its_row() -> None:
    text = shown(tables.stats, stats(), [])
    actors, depths = text.split("Waiting now")
    assert cells_of(actors, "photos") == ["photos", "thumbnail", "2,000", "1,500", "500", "7", "1", "0.8 / 123.4", "9,999.0 / 125,000.0"]
    assert cells_of(depths, "photos") == ["photos", "1,000", "2", "3", "4", "1500 ms"]


def test_an_empty_namespace_is_said_in_words() -> None:
    text = shown(tables.stats, stats(total=Figures(queue="*", actor="*"), actors=[], queues=[]), [])
    assert text.splitlines() == [
        "Last 25 hours: 0 completed, 0 failed (completion rate -); pickup p50 -, p99 -",
        "No job has been sent to this namespace yet.",
        "No worker is running.",
    ]


def test_a_worker_has_its_row() -> None:
    text = shown(tables.stats, stats(), [worker()])
    assert cells_of(text, "w1") == ["w1", "idle", "photos, mail", "3/10", "1,234", "12.3 ms", "h:7", LOCAL_NOON]
    assert cells_of(shown(tables.stats, stats(), [worker(jobs_processed=0)]), "w1")[5] == "-"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "error", "blocked_by": "thumbnail", "blocked_s": 61.04}, ["error:", "blocked", "61.0", "thumbnail"]),
        ({"longest_block_by": "thumbnail", "longest_block_s": 3.0}, ["idle;", "was", "blocked", "3.0", "thumbnail"]),
    ],
)
def test_an_actor_that_blocks_its_worker_or_did_is_named_and_for_how_long(changes: dict[str, Any], words: list[str]) -> None:
    text = shown(tables.stats, stats(actors=[]), [worker(**changes)])
    assert [word for word in words if word not in text.split()] == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_tables_fit_the_terminal(width: int) -> None:
    text = shown(tables.stats, stats(), [worker(host="a-very-long-host-name" * 5)], width=width)
    assert max(map(len, text.splitlines())) <= width


def test_a_job_shows_what_is_known_and_nothing_else() -> None:
    rows = [line.strip().split(maxsplit=1) for line in shown(tables.job, job()).splitlines()]
    assert [row[0] for row in rows] == ["job", "actor", "status", "queue", "priority", "attempts", "created", "payload"]
    assert dict(rows) == {
        "job": "x",
        "actor": "thumbnail",
        "status": "pending (ready)",
        "queue": "photos",
        "priority": "5",
        "attempts": "0 (delivered 0 times)",
        "created": LOCAL_NOON,
        "payload": "{'path': 'a.jpg'}",
    }


def test_one_delivery_is_no_times() -> None:
    assert "0 (delivered 1 time)" in shown(tables.job, job(deliveries=1))


def test_a_job_that_failed_shows_its_error_and_its_earlier_runs() -> None:
    text = shown(
        tables.job,
        job(
            status=Status.FAILED,
            state="failed",
            attempts=2,
            deliveries=3,
            processed_at=NOON,
            completed_at=NOON,
            due_at=NOON,
            worker="w2",
            error=ErrorInfo(type="ValueError", message="no picture", traceback="Traceback\n  line\nValueError: no picture"),
            progress=Progress(done=0.5, message="half", log=["first line", "second line"]),
            timeline=[Attempt(ended_as="retried", started_at=NOON, ended_at=NOON, worker="w1")],
        ),
    )
    for line in (
        "failed",
        "2 (delivered 3 times)",
        "ValueError: no picture",
        "50% half",
        "first line",
        "second line",
        f"{LOCAL_NOON} to {LOCAL_NOON} on w1: retried",
    ):
        assert line in text
    assert "failed (failed)" not in text
    assert [line.strip() for line in text.splitlines()[-3:]] == ["traceback    Traceback", "line", "ValueError: no picture"]


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "[link=http://x]", ":smile:", "[bold", "\\[x]", "größe 日本語"])
def test_text_of_users_is_never_taken_for_markup(text: str) -> None:
    error = ErrorInfo(type="ValueError", message=text, traceback=text)
    shown_job = shown(tables.job, job(id=text, payload={"p": text}, error=error, worker=text, progress=Progress(message=text, log=[text])))
    assert shown_job.count(text) >= 6
    assert f"ValueError: {text}" in shown_job
    assert shown(tables.findings, [Finding(check="server", level="error", found=text, remedy=text)]).count(text) == 2


def test_a_reason_cannot_steer_the_terminal() -> None:
    pause = Pause(kind="queue", name="mail", how="paused", by="ann\x07", at=NOON, reason="a \x1b[31mred one")
    text = shown(tables.limits, [Rule(name="x\x1b@q", limit="3", declared=None)], [pause])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a \\x1b[31mred one" in text


def test_an_error_goes_to_standard_error_as_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    tables.error(ValueError("no [red]address[/red]: " + "x" * 200))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no [red]address[/red]: " + "x" * 200 + "\n"


def test_a_finding_has_its_level_its_words_and_its_remedy() -> None:
    found = [
        Finding(check="server", level="ok", found="Valkey 9.1"),
        Finding(check="memory", level="warning", found="evicts keys", remedy="set noeviction"),
    ]
    lines = shown(tables.findings, found).splitlines()
    assert [line.split() for line in lines] == [
        ["ok", "server", "Valkey", "9.1"],
        ["warning", "memory", "evicts", "keys"],
        ["remedy:", "set", "noeviction"],
    ]
