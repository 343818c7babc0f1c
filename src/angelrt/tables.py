"""What people read in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from .config import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .control import Pause, Rule
    from .dead_letters import DeadLetterPage
    from .doctor import Finding
    from .job import Explanation, JobInfo, WorkerInfo
    from .runtime import Runtime
    from .stats import Figures, Stats
    from .worker import Worker

LEVEL_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def error(reason: Exception) -> None:
    """Show an error as its text."""
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), plain(str(reason))), soft_wrap=True)


def explanation(console: Console, found: Explanation) -> None:
    """Show why a job waits."""
    where = f" in queue {found.queue}" if found.queue else ""
    console.print(f"Job {found.id} of actor {found.actor}{where} is {found.status}:", highlight=False)
    for reason in found.reasons:
        console.print(plain(f"  - {reason.text}"), soft_wrap=True)
    if found.expected_at:
        console.print(f"Expected to begin: {found.expected_at:%Y-%m-%d %H:%M:%S} UTC", highlight=False)


def limits(console: Console, rules: Iterable[Rule], pauses: Iterable[Pause]) -> None:
    """Show limits and pauses."""
    table = Table("limit", "holds", "declared", box=box.SIMPLE)
    for rule in rules:
        table.add_row(plain(rule.name), rule.limit, rule.declared or "the same")
    console.print(table if table.rows else "No worker has declared a limit.")
    for pause in pauses:
        why = f": {pause.reason}" if pause.reason else ""
        console.print(plain(f"{pause.kind} {pause.name} is {pause.how} since {pause.at:%Y-%m-%d %H:%M:%S} UTC by {pause.by}{why}"))


def banner(rt: Runtime[Any], worker: Worker) -> str:
    """Return what a worker says of itself when it starts."""
    by_queue: dict[str, list[str]] = {queue: [] for queue in worker.queues}
    for actor in worker.actors.values():
        by_queue.setdefault(actor.definition.queue, []).append(f"{actor.name} ({actor.definition.kind})")
    lines = [f"angelrt worker {worker.id} on {rt.address()}, namespace {rt.keys.namespace}, {worker.concurrency} jobs at a time"]
    for queue, actors in by_queue.items():
        served = "" if queue in worker.queues else " (not served here)"
        lines.append(f"  queue {queue}{served}: {', '.join(actors) or 'no actors declared'}")
    return "\n".join(lines)


def stats(console: Console, found: Stats, workers: Iterable[WorkerInfo]) -> None:
    """Show the figures of the fleet."""
    rate = in_percent(found.completion_rate)
    ended = f"{found.total.completed:,} completed, {found.total.failed:,} failed (completion rate {rate})"
    console.print(f"Last {found.hours} hours: {ended}; pickup p50 {in_ms(found.pickup_p50_ms)}, p99 {in_ms(found.pickup_p99_ms)}")
    if not found.actors:
        console.print("No job has been sent to this namespace yet.")
    else:
        _actors(console, found.actors)
    depths = new_table("Waiting now", "queue", *right_aligned("ready", "delayed", "running", "in lanes", "oldest ready"))
    for one in found.queues:
        depths.add_row(
            one.queue, *(f"{number:,}" for number in (one.ready, one.delayed, one.leased, one.lanes)), in_ms(one.oldest_ready_ms)
        )
    if found.queues:
        console.print(depths)
    _workers(console, list(workers))


def _actors(console: Console, actors: Iterable[Figures]) -> None:
    columns = right_aligned("sent", "completed", "failed", "retried", "lost", "pickup ms", "run ms")
    table = new_table("Actors (times as p50 / p99)", "queue", "actor", *columns)
    for one in actors:
        numbers = (one.sent, one.completed, one.failed, one.retried, one.lost)
        pickup, run = in_pair(one.pickup_p50_ms, one.pickup_p99_ms), in_pair(one.run_p50_ms, one.run_p99_ms)
        table.add_row(one.queue, one.actor, *(f"{number:,}" for number in numbers), pickup, run)
    console.print(table)


def _status(worker: WorkerInfo) -> str:
    if worker.blocked_by:
        return f"{worker.status}: blocked for {worker.blocked_s or 0:.1f} s by {worker.blocked_by}"
    if worker.longest_block_by:
        return f"{worker.status}; was blocked for {worker.longest_block_s or 0:.1f} s by {worker.longest_block_by}"
    return worker.status


def _workers(console: Console, workers: list[WorkerInfo]) -> None:
    if not workers:
        console.print("No worker is running.")
        return
    table = Table(
        "worker",
        "status",
        "queues",
        *right_aligned("running", "done", "average"),
        "host",
        "last beat",
        title="Workers",
        title_justify="left",
    )
    for one in workers:
        status = Text(_status(one), style=LEVEL_STYLES["error"] if one.status == "error" else "")
        average = in_ms(one.average_processing_time if one.jobs_processed else None)
        running = f"{one.running}/{one.concurrency}"
        table.add_row(
            one.id,
            status,
            ", ".join(one.queues),
            running,
            f"{one.jobs_processed:,}",
            average,
            f"{one.host}:{one.pid}",
            local_time(one.last_heartbeat),
        )
    console.print(table)


def job(console: Console, info: JobInfo) -> None:
    """Show one job."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows: list[tuple[str, str | None]] = [
        ("job", info.id),
        ("actor", info.type),
        ("status", f"{info.status} ({info.state})" if info.status != info.state else info.status),
        ("queue", info.queue),
        ("priority", str(info.priority)),
        ("attempts", f"{info.attempts} (delivered {info.deliveries} time{'s' if info.deliveries != 1 else ''})"),
        ("created", local_time(info.created_at)),
        ("due", local_time(info.due_at)),
        ("started", local_time(info.processed_at)),
        ("ended", local_time(info.completed_at)),
        ("worker", info.worker),
        ("payload", str(info.payload)),
    ]
    if info.progress:
        rows.append(("progress", f"{'' if info.progress.done is None else f'{info.progress.done:.0%} '}{info.progress.message}"))
        rows += [("log", line) for line in info.progress.log]
    rows += [
        ("earlier run", f"{local_time(run.started_at)} to {local_time(run.ended_at)} on {run.worker}: {run.ended_as}")
        for run in info.timeline
    ]
    if info.error:
        rows += [("error", f"{info.error.type}: {info.error.message}"), ("traceback", info.error.traceback)]
    for name, value in rows:
        if value:
            table.add_row(name, plain(value))
    console.print(table)


def dead_letters(console: Console, page: DeadLetterPage) -> None:
    """Show a page of jobs that failed."""
    table = new_table(
        f"Failed jobs: {len(page.letters):,} of {page.total:,}", "failed", "job", "queue", "actor", *right_aligned("attempts"), "error"
    )
    for one in page.letters:
        lines = one.error.message.splitlines() or [""]
        table.add_row(
            local_time(one.failed_at), Text(one.id), one.queue, one.actor, str(one.attempts), plain(f"{one.error.type}: {lines[0]}")
        )  # fmt: skip
    console.print(table)
    if page.before:
        console.print(f"More: --before {page.before}", highlight=False, markup=False, soft_wrap=True)


def findings(console: Console, found: Iterable[Finding]) -> None:
    """Show the findings of `doctor`."""
    for one in found:
        console.print(Text.assemble((f"{one.level:8}", LEVEL_STYLES[one.level]), (f"{one.check:12}", "bold"), one.found), soft_wrap=True)
        if one.remedy:
            console.print(Text(f"{'':20}remedy: {one.remedy}"), soft_wrap=True)


def plain(text: str) -> Text:
    """Return text of a stranger as it is; what would steer the terminal is written out."""
    return Text(escaped(text, keep="\n\t"))


def new_table(title: str, *columns: str | Column) -> Table:
    """Return a table without rows."""
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def right_aligned(*names: str) -> tuple[Column, ...]:
    """Return columns of numbers."""
    return tuple(Column(name, justify="right") for name in names)


def in_pair(p50: float | None, p99: float | None) -> str:
    """Return two times in milliseconds."""
    return "-" if p50 is None or p99 is None else f"{p50:,.1f} / {p99:,.1f}"


def in_percent(share: float | None) -> str:
    """Return a share rounded down, so that 100% means all."""
    return "-" if share is None else f"{math.floor(share * 10_000) / 100:.2f}%"


def in_ms(value: float | None) -> str:
    """Return milliseconds with their unit, long times in seconds."""
    if value is None:
        return "-"
    if value < 100:  # noqa: PLR2004 - three digits
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:,.0f} s"  # noqa: PLR2004 - three digits


def local_time(value: datetime | None) -> str:
    """Return a time in the terminal's zone."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if value else ""
