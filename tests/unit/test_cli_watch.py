"""`top`, `jobs`, `retry` and `events`: what they print, and what they make of what they see."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from angelrt import InvalidOptions, JobInfo, JobNotFound, Stats, Status, WorkerInfo, tables, tables_watch
from angelrt.cli_watch import app
from angelrt.control import Pause
from angelrt.events import Event
from angelrt.glance import Look
from angelrt.job import ErrorInfo, Progress
from angelrt.jobs import JobPage
from angelrt.series import Minute
from angelrt.stats import Figures, QueueDepth
from tests.scripts.partition import Partition, job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
FAILURE = b'{"actor":"a","type":"ValueError","message":"[bold]broken\\u001b[31m\\nin two","traceback":""}'
STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def shown(what: Any, *, width: int = 80, terminal: bool = False) -> str:
    """Render without colours and return the text; a function gets the console as its first argument."""
    console = Console(width=width, color_system=None, force_terminal=terminal)
    with console.capture() as capture:
        if callable(what):
            what(console)
        else:
            console.print(what)
    return capture.get()


def figures(actor: str = "a", queue: str = "q", **counts: Any) -> Figures:
    return Figures(queue=queue, actor=actor, **counts)


def worker(**changes: Any) -> WorkerInfo:
    parts: dict[str, Any] = {
        "id": "w1",
        "type": "worker",
        "status": "active",
        "last_heartbeat": datetime.now(UTC),
        "jobs_processed": 1_234,
        "average_processing_time": 12.34,
        "queues": ["photos", "mail"],
        "actors": ["thumbnail"],
        "concurrency": 10,
        "running": 3,
        "host": "vm",
        "pid": 7,
    }
    return WorkerInfo(**(parts | changes))


def look(
    second: float = 30,
    *,
    minutes: tuple[int, ...] = (0, 0),
    actors: tuple[Figures, ...] = (),
    queues: tuple[QueueDepth, ...] = (),
    workers: tuple[WorkerInfo, ...] = (),
    pauses: tuple[Pause, ...] = (),
    completed: int = 0,
) -> Look:
    """Make a look so many seconds after noon; `minutes` are the jobs that completed in each minute, the one of this look at the end."""
    first = NOON + timedelta(minutes=second // 60 - len(minutes) + 1)
    lately = [Minute(at=first + timedelta(minutes=n), sent=number, completed=number) for n, number in enumerate(minutes)]
    stats = Stats(hours=25, total=figures("*", "*", completed=completed), actors=list(actors), queues=list(queues))
    return Look(NOON + timedelta(seconds=second), stats, workers, lately, pauses)


# -- what a look sees -----------------------------------------------------------------------------------------------------------------


def test_throughput_is_that_since_the_look_before() -> None:
    before, now = look(30, minutes=(7, 100)), look(32, minutes=(7, 140))
    assert now.rates(before).completed == pytest.approx(20)
    assert now.rates(before).over_s == pytest.approx(2)


def test_throughput_goes_on_over_the_end_of_a_minute() -> None:
    before, now = look(59, minutes=(7, 100)), look(61, minutes=(110, 30))
    assert now.rates(before).completed == pytest.approx((10 + 30) / 2)


def test_throughput_of_the_first_look_is_that_of_the_last_minutes() -> None:
    assert look(30, minutes=(60, 30)).rates(None).completed == pytest.approx(1)


def test_throughput_is_told_where_nothing_is_counted_by_the_minute() -> None:
    assert look(32, completed=140).rates(look(30, completed=100)).completed == pytest.approx(20)


def test_hour_that_leaves_the_sums_makes_no_throughput_negative() -> None:
    before = look(30, minutes=(0, 100), completed=9_000, actors=(figures(completed=9_000),))
    now = look(32, minutes=(0, 120), completed=500, actors=(figures(completed=500),))
    assert now.rates(before).completed == pytest.approx(10)
    assert now.busiest(before)[0][1] == 0


def test_busiest_actor_is_the_one_that_ended_most_lately() -> None:
    before = look(30, actors=(figures("old", completed=1_000), figures("now", completed=5)))
    now = look(32, actors=(figures("old", completed=1_001), figures("now", completed=25, failed=2)))
    assert [(one.actor, per_s) for one, per_s in now.busiest(before)] == [("now", 11), ("old", 0.5)]
    assert [(one.actor, per_s) for one, per_s in now.busiest(None)] == [("old", None), ("now", None)]


def test_summary_is_that_of_stats_with_what_happened_lately() -> None:
    now = look(32, minutes=(60, 30), actors=(figures(completed=4),), workers=(worker(),))
    found = now.summary(look(30, minutes=(60, 10), actors=(figures(completed=2),)))
    assert found["perS"]["completed"] == pytest.approx(10)
    assert (found["lastMinute"]["completed"], found["minute"]["completed"]) == (60, 30)
    assert [(one["actor"], one["endedPerS"]) for one in found["actors"]] == [("a", 1)]
    assert found["workers"][0]["jobsProcessed"] == 1_234
    assert {"at", "completionRate", "pickupP50Ms", "pickupP99Ms", "queues", "hours"} <= found.keys()


# -- the screen of top ----------------------------------------------------------------------------------------------------------------


def busy(number: int = 3) -> Look:
    """Make a look with so many queues, actors and workers."""
    depth = {"delayed": 2, "leased": 3, "lanes": 4, "oldest_ready_ms": 90_000}
    run = {"run_p50_ms": 30_048.4, "run_p99_ms": 60_123.4}
    return look(
        minutes=(*range(58), 600, 300),
        actors=tuple(figures(f"an_actor_with_a_long_name{n}", f"queue{n}", completed=1_000_000 + n, **run) for n in range(number)),
        queues=tuple(QueueDepth(queue=f"queue{n}", ready=100_000 + n, **depth) for n in range(number)),
        workers=tuple(worker(id=f"w{n}") for n in range(number)),
        completed=1_000_000,
    )


def test_top_shows_figures_queues_actors_and_workers() -> None:
    lines = shown(tables_watch.top(busy(), None, title="angelrt"), width=140).splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines if line.strip()}
    assert rows["completed"][1:] == ["10.0/s", "10.0/s", "1,000,000"]
    assert rows["completion rate"][2:4] == ["100.00%", "100.00%"]
    assert rows["queue2"] == ["queue2", "100,002", "2", "3", "4", "1", "min"]
    assert rows["an_actor_with_a_long_name0"][1:] == ["queue0", "-", "1,000,000", "0", "30,048.4", "/", "60,123.4"]
    assert rows["w1"] == ["w1", "active", "3/10", "1,234", "12.3", "ms", "photos,", "mail", "vm:7"]
    assert "3 live workers, 9 of 30 slots taken" in lines
    assert "completed in each of the last 60 minutes, at most 600" in lines


@pytest.mark.parametrize("width", [60, 80, 140])
def test_top_keeps_within_its_terminal_and_breaks_no_number(width: int) -> None:
    text = shown(tables_watch.top(busy(30), None, title="angelrt  " + "x" * 200, lines=24), width=width)
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= width
    assert "100,029" in text
    assert "30,048.4 / 60,123.4" in text
    assert text.count("and 2") == 3  # 28 or 29 of 30 are left out, thrice


@pytest.mark.parametrize(("width", "lines"), [(40, 24), (40, 12), (59, 24), (80, 12), (140, 21)])
def test_top_is_readable_in_a_small_terminal(width: int, lines: int) -> None:
    text = shown(tables_watch.top(busy(30), None, title="angelrt", lines=lines, columns=width), width=width)
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    firsts = [cells[0] for cells in rows]
    assert len(rows) <= lines
    assert max(map(len, text.splitlines())) <= width
    assert [word for word in ("completed", "pickup p99", "queue", "worker") if word not in firsts] == []
    assert [cells for cells in rows if cells[0] == "completed"] == [["completed", "10.0/s", "10.0/s", "1,000,000"]]
    assert "rate" in firsts or "completion rate" in firsts
    assert next(cells for cells in rows if cells[0] == "queue29")[1] == "100,029"
    assert next(cells for cells in rows if cells[0] == "w0")[1:4] == ["active", "3/10", "1,234"]
    assert all("…" not in line for line in text.splitlines() if not line.startswith("an_actor"))


def test_top_of_a_narrow_terminal_draws_the_minutes_that_there_is_room_for() -> None:
    lines = shown(tables_watch.top(busy(), None, title="angelrt", columns=40), width=40).splitlines()
    assert "last 40 minutes, at most 600" in lines
    assert "▂" * 38 + "█▅" in lines


def test_top_of_an_empty_system_says_so() -> None:
    text = shown(tables_watch.top(look(), None, title="angelrt", lines=24))
    assert "No job has been sent to this namespace yet." in text
    assert "No worker is running." in text
    assert "busiest" not in text


def test_top_names_what_is_held_and_who_is_stuck() -> None:
    pause = Pause(kind="queue", name="mail", how="paused", by="ann", at=NOON)
    workers = (
        worker(),
        worker(id="w2", status="error", blocked_by="thumbnail", blocked_s=3.2),
        worker(id="w3", status="error", last_heartbeat=datetime.now(UTC) - timedelta(minutes=5)),
    )
    depths = tuple(QueueDepth(queue=name, ready=0, delayed=0, leased=0, lanes=0) for name in ("mail", "photos"))
    text = shown(tables_watch.top(look(queues=depths, workers=workers, pauses=(pause,)), None, title="angelrt"), width=140)
    assert "paused mail" in text
    assert "paused photos" not in text
    assert "blocked 3 s by thumbnail" in text
    assert "silent 5 min" in text
    assert "2 live workers, 6 of 20 slots taken" in text


def test_screen_that_stands_still_says_why_and_keeps_what_was_seen() -> None:
    text = shown(tables_watch.trouble(tables_watch.top(busy(), None, title="angelrt"), "no answer"))
    assert text.startswith("no answer\nangelrt\n")
    assert "queue2" in text


@pytest.mark.parametrize(
    ("room", "wanted", "given"),
    [(9, [1, 9, 2], [1, 6, 2]), (9, [5, 5, 5], [3, 3, 3]), (1, [5, 0, 5], [1, 0, 1]), (99, [5, 6, 7], [5, 6, 7]), (-5, [5], [1])],
)
def test_lines_are_shared_among_tables(room: int, wanted: list[int], given: list[int]) -> None:
    assert tables_watch.shares(room, wanted) == given


# -- lists of jobs and events ---------------------------------------------------------------------------------------------------------


def info(**changes: Any) -> JobInfo:
    parts: dict[str, Any] = {
        "id": "P7Dxn_BIocScTe",
        "type": "thumbnail",
        "payload": {"path": "secret.jpg"},
        "priority": 5,
        "attempts": 2,
        "status": Status.PENDING,
        "created_at": datetime.now(UTC) - timedelta(hours=3),
        "state": "ready",
        "queue": "photos",
    }
    return JobInfo(**(parts | changes))


def test_state_of_a_job_tells_since_when() -> None:
    past, soon = datetime.now(UTC) - timedelta(seconds=125), datetime.now(UTC) + timedelta(days=2, minutes=1)
    assert tables_watch.when(info()) == "ready, sent 3 h ago"
    assert tables_watch.when(info(state="lane")) == "lane, sent 3 h ago"
    assert tables_watch.when(info(state="delayed", due_at=soon)) == "due in 2 d"
    assert tables_watch.when(info(state="leased", processed_at=past)) == "runs 2 min"
    assert tables_watch.when(info(state="cancelled", completed_at=past)) == "cancelled 2 min ago"


@pytest.mark.parametrize("width", [80, 140])
def test_job_is_listed_with_its_error_or_progress_and_without_its_arguments(width: int) -> None:
    failed = info(state="failed", error=ErrorInfo(type="ValueError", message="[bold]broken\x1b[31m\nin two"), completed_at=NOON)
    running = info(id="second", state="leased", progress=Progress(done=0.3, message="reading"))
    page = JobPage(jobs=[failed, running, info(id="third", type="a" * 120)], cursor="there")
    text = shown(lambda console: tables_watch.jobs(console, page), width=width)
    assert r"ValueError: [bold]broken\x1b[31m" in text
    assert "30% reading" in text
    assert "in two" not in text
    assert "secret" not in text
    assert "More: --cursor there" in text
    assert max(map(len, text.splitlines())) <= width
    assert STEERING.search(text) is None


def test_list_without_jobs_says_so() -> None:
    assert shown(lambda console: tables_watch.jobs(console, JobPage(jobs=[], cursor=None))) == "There is no such job.\n"


def test_event_is_a_line_that_a_terminal_cuts_and_a_file_does_not() -> None:
    event = Event(id="1-0", at=NOON, verb="settle", worker="w1", jobs=9, ids=[f"P7Dxn_BIocScT{n}" for n in range(8)])
    whole = shown(lambda console: tables_watch.event(console, event))
    assert re.fullmatch(r"2026-01-0\d \d\d:\d\d:00\.000  settle    w1            9 jobs  (P7Dxn_BIocScT\d, ){8}\.\.\.\n", whole)
    cut = shown(lambda console: tables_watch.event(console, event), terminal=True)
    assert len(cut.rstrip("\n")) == 80
    assert cut.endswith("…\n")
    by_hand = Event(id="1-0", at=datetime.now(UTC), verb="cancel", worker="-", jobs=1, ids=["x"])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  cancel +1 job  x\n", shown(lambda console: tables_watch.event(console, by_hand)))


@pytest.mark.parametrize(("seconds", "words"), [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_200, "2 h"), (8_640_000, "100 d")])
def test_length_of_time_has_one_unit(seconds: float, words: str) -> None:
    assert tables_watch.in_short(seconds) == words


def test_text_of_strangers_cannot_steer_the_terminal() -> None:
    text = shown(
        lambda console: tables.job(console, info(error=ErrorInfo(type="E", message="a\x1b]0;title\x07b\x9bc\u202ed", traceback="\tx")))
    )
    assert r"a\x1b]0;title\x07b\x9bc\u202ed" in text
    assert STEERING.search(text) is None


# -- the commands ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """Three jobs that failed, and three that wait, of two actors; removed afterwards."""
    partition = Partition(server_url, namespace)
    jobs = [job(f"{actor}{n}", actor=actor) for n in range(3) for actor in "ab"]
    await partition.send(*jobs)
    await partition.claim(actors=("a",))
    await partition.settle(*(verdict(each.id, "f", FAILURE) for each in jobs if each.id.startswith("a")))
    yield partition
    await partition.remove()


async def command(url: str, namespace: str, *words: str) -> str:
    """Run a command; return what it printed. Raises what it raises."""
    invoked = [*words, "--url", url, "--namespace", namespace]
    result = await asyncio.to_thread(CliRunner(env={"COLUMNS": "140"}).invoke, app, invoked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_jobs_are_found_by_state_queue_actor_and_text(server_url: str, namespace: str, part: Partition) -> None:
    def ids(text: str) -> list[str]:
        return [found["id"] for found in json.loads(text)["jobs"]]

    assert set(ids(await command(server_url, namespace, "jobs", "--json"))) == {"a0", "a1", "a2", "b0", "b1", "b2"}
    assert ids(await command(server_url, namespace, "jobs", "--json", "--state", "failed")) == ["a2", "a1", "a0"]
    assert set(ids(await command(server_url, namespace, "jobs", "--json", "--actor", "b"))) == {"b0", "b1", "b2"}
    assert ids(await command(server_url, namespace, "jobs", "--json", "--text", "BROKEN", "--queue", "q", "--limit", "1")) == ["a2"]
    assert ids(await command(server_url, namespace, "jobs", "--json", "--queue", "p")) == []
    assert ids(await command(server_url, namespace, "jobs", "--json", "--since", "1999-01-01")) == []
    assert len(ids(await command(server_url, namespace, "jobs", "--json", "--since", "1969-01-01", "--until", "1999-01-01"))) == 6
    assert r"ValueError: [bold]broken\x1b[31m" in await command(server_url, namespace, "jobs", "--state", "failed")
    assert part.store.keys.namespace == namespace


async def test_jobs_go_on_where_the_page_before_ended(server_url: str, namespace: str, part: Partition) -> None:
    page = await command(server_url, namespace, "jobs", "--state", "failed", "--limit", "2")
    cursor = page.partition("More: --cursor ")[2].strip()
    assert "a2" in page
    rest = json.loads(await command(server_url, namespace, "jobs", "--state", "failed", "--cursor", cursor, "--json"))
    assert ([found["id"] for found in rest["jobs"]], rest["cursor"]) == (["a0"], None)
    with pytest.raises(InvalidOptions, match="cursor"):
        await command(server_url, namespace, "jobs", "--cursor", "nonsense")
    assert len((await part.state()).failed) == 3


async def test_jobs_are_looked_for_beyond_what_one_call_looks_at(server_url: str, namespace: str, part: Partition) -> None:
    await part.store.enqueue([job(f"c{n:04}", actor="c") for n in range(1_800)])
    found = json.loads(await command(server_url, namespace, "jobs", "--json", "--state", "ready", "--text", "77"))
    assert [one["id"] for one in found["jobs"]] == [f"c{n:04}" for n in range(1_800) if "77" in str(n)]


async def test_failed_job_is_retried(server_url: str, namespace: str, part: Partition) -> None:
    assert await command(server_url, namespace, "retry", "a0") == "job a0 runs again: it is pending\n"
    assert json.loads(await command(server_url, namespace, "retry", "a1", "--json"))["state"] == "ready"
    assert len((await part.state()).failed) == 1
    with pytest.raises(JobNotFound, match="job 'b0' is no dead letter"):
        await command(server_url, namespace, "retry", "b0")
    with pytest.raises(JobNotFound, match="no job 'nobody'"):
        await command(server_url, namespace, "retry", "nobody")


async def test_last_events_are_shown(server_url: str, namespace: str, part: Partition) -> None:
    lines = (await command(server_url, namespace, "events")).splitlines()
    events = [json.loads(line) for line in (await command(server_url, namespace, "events", "--json")).splitlines()]
    assert [(event["verb"], event["worker"], event["jobs"]) for event in events] == [
        ("enqueue", "-", 6),
        ("claim", "w1", 3),
        ("settle", "w1", 3),
    ]
    assert [" settle " in line and line.endswith("a0, a1, a2") for line in lines] == [False, False, True]
    assert len((await command(server_url, namespace, "events", "--last", "1")).splitlines()) == 1
    assert await command(server_url, namespace, "events", "--last", "0") == ""
    assert part.store.keys.namespace == namespace


async def test_top_prints_once_where_there_is_no_terminal_and_lines_for_programs(server_url: str, namespace: str, part: Partition) -> None:
    text = await command(server_url, namespace, "top")
    assert text.count("busiest actors") == 1
    assert f"  {namespace}  " in text
    first, second = (await command(server_url, namespace, "top", "--json", "--count", "2", "--interval", "0.2")).splitlines()
    assert json.loads(first)["perS"]["overS"] >= 60
    assert json.loads(second)["perS"]["overS"] < 60
    assert [one["queue"] for one in json.loads(second)["queues"]] == ["q"]
    assert len((await part.state()).failed) == 3
