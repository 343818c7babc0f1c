"""What people read in a terminal while they watch a fleet: `top`, `jobs` and `events`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.segment import Segment, Segments
from rich.table import Column, Table
from rich.text import Text

from .tables import in_ms, in_pair, in_percent, plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import Console, RenderableType

    from .events import Event
    from .glance import Look
    from .job import JobInfo, WorkerInfo
    from .jobs import JobPage
    from .series import Minute

BARS: Final = "▁▂▃▄▅▆▇█"
LINES_BESIDE_ROWS: Final = 19
"""Lines of `top` that are no rows of its tables: twelve above them, and their headers, with what was left out or an empty line below."""
LOW: Final = LINES_BESIDE_ROWS + 3
"""In a terminal of fewer lines `top` shows few figures, queues and workers alone."""
LINES_BESIDE_ROWS_LOW: Final = 10
FIGURES_LOW: Final = ("completed", "completion rate", "pickup p99")
NARROW: Final = 60
"""In a terminal of fewer columns the tables of `top` have their most important ones alone, and shorter names."""
SHORTER: Final = {"completion rate": "rate"}
WIDE: Final = 110
"""From so many columns on, what there is to say of a job has a column of its own."""
ALARM: Final = "bold red"
AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
VERB_CHARS, WORKER_CHARS = 8, 8
ENDINGS: Final = ("completed", "failed", "cancelled")


# -- top ------------------------------------------------------------------------------------------------------------------------------


def top(look: Look, before: Look | None, *, title: str, lines: int | None = None, columns: int | None = None) -> RenderableType:
    """Return the screen of `top`, as wide and as high as the terminal; without `lines`, all rows of each table."""
    narrow, low = columns is not None and columns < NARROW, lines is not None and lines < LOW
    tables, wanted = [_queues, _actors, _workers], [len(look.stats.queues), len(look.stats.actors), len(look.workers)]
    if low:
        del tables[1], wanted[1]
    rows = wanted if lines is None else shares(lines - (LINES_BESIDE_ROWS_LOW if low else LINES_BESIDE_ROWS), wanted)
    found = [table(look, before, number, narrow=narrow) for table, number in zip(tables, rows, strict=True)]
    figures = _figures(look, before, narrow=narrow, low=low)
    if low:
        return Group(_line(title, "bold"), figures, *found)
    curve = _curve(look.minutes[-columns:] if columns and narrow else look.minutes, narrow=narrow)
    return Group(_line(title, "bold"), Text(), figures, *curve, Text(), *found)


def trouble(screen: RenderableType, words: str) -> RenderableType:
    """Return a screen that stands still, below the line that says why."""
    return Group(_line(words, ALARM), screen)


def shares(room: int, wanted: Sequence[int]) -> list[int]:
    """Share lines among tables: nobody gets more than it wants or less than one, and what one leaves the others get."""
    given = [0] * len(wanted)
    for number, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        fair = (room - sum(given)) // (len(wanted) - number)
        given[index] = min(wanted[index], max(fair, 1))
    return given


def _figures(look: Look, before: Look | None, *, narrow: bool, low: bool) -> Table:
    total, minute, last, rates = look.stats.total, look.minutes[-1], look.minutes[-2], look.rates(before)
    rows: list[tuple[str, Iterable[str]]] = [
        (word, (f"{now:,.1f}/s", f"{then / 60:,.1f}/s", f"{all_of_it:,}"))
        for word, now, then, all_of_it in (
            ("sent", rates.sent, last.sent, total.sent),
            ("completed", rates.completed, last.completed, total.completed),
            ("failed", rates.failed, last.failed, total.failed),
        )
    ]
    rows += [
        ("completion rate", map(in_percent, (minute.completion_rate, last.completion_rate, look.stats.completion_rate))),
        ("pickup p50", map(in_ms, (minute.pickup_p50_ms, last.pickup_p50_ms, total.pickup_p50_ms))),
        ("pickup p99", map(in_ms, (minute.pickup_p99_ms, last.pickup_p99_ms, total.pickup_p99_ms))),
    ]
    hours = f"{look.stats.hours} h"
    table = _compact(Column(no_wrap=True), *_numbers("now", *(("minute", hours) if narrow else ("last minute", f"last {hours}"))))
    for word, cells in rows:
        if not low or word in FIGURES_LOW:
            table.add_row(SHORTER.get(word, word) if narrow else word, *cells)
    return table


def _curve(minutes: Sequence[Minute], *, narrow: bool) -> list[Text]:
    """Return a bar for each minute, the highest for the most jobs; a minute without any has the lowest."""
    most = max(one.completed for one in minutes)
    bars = "".join(BARS[-(-one.completed * (len(BARS) - 1) // most) if most else 0] for one in minutes)
    words = f"last {len(minutes)} minutes" if narrow else f"completed in each of the last {len(minutes)} minutes"
    return [_line(bars, "green" if most else "dim"), _line(f"{words}, at most {most:,}", "dim")]


def _queues(look: Look, _before: Look | None, rows: int, *, narrow: bool) -> RenderableType:
    if not look.stats.queues:
        return Text("No job has been sent to this namespace yet.\n")
    columns = (*_names("queue"), *_numbers("ready", "delayed", "running", "in lanes", "oldest" if narrow else "oldest ready"))
    cells: list[list[str | Text]] = []
    for one in look.fullest()[:rows]:
        numbers = (f"{number:,}" for number in (one.ready, one.delayed, one.leased, one.lanes))
        cells.append([_held(look, "queue", one.queue), *numbers, _age_of_ready(one.oldest_ready_ms)])
    return _part(_listed(columns, cells, {"delayed", "in lanes"} if narrow else ()), len(look.stats.queues))


def _actors(look: Look, before: Look | None, rows: int, *, narrow: bool) -> RenderableType:
    if not look.stats.actors:
        return Group()
    columns = (*_names("busiest actors", "queue"), *_numbers("ended/s", "completed", "failed", "run ms p50 / p99"))
    cells: list[list[str | Text]] = []
    for one, per_s in look.busiest(before)[:rows]:
        pace = "-" if per_s is None else f"{per_s:,.1f}"
        name, run = _held(look, "actor", one.actor), in_pair(one.run_p50_ms, one.run_p99_ms)
        cells.append([name, _line(one.queue), pace, f"{one.completed:,}", f"{one.failed:,}", run])
    return _part(_listed(columns, cells, {"queue", "ended/s", "run ms p50 / p99"} if narrow else ()), len(look.stats.actors))


def _workers(look: Look, _before: Look | None, rows: int, *, narrow: bool) -> RenderableType:
    live = [one for one in look.workers if one.is_live]
    if not look.workers:
        return _line("No worker is running.", ALARM)
    busy, slots = sum(one.running for one in live), sum(one.concurrency for one in live)
    columns = (*_names("worker", "status"), *_numbers("running", "done", "average"), *_names("queues", "host"))
    cells: list[list[str | Text]] = []
    for one in sorted(look.workers, key=lambda one: (one.status != "error", -one.running))[:rows]:
        average = in_ms(one.average_processing_time if one.jobs_processed else None)
        status = _line(_status(one), ALARM if one.status == "error" else "")
        where = _line(", ".join(one.queues)), _line(f"{one.host}:{one.pid}")
        cells.append([one.id, status, f"{one.running}/{one.concurrency}", f"{one.jobs_processed:,}", average, *where])
    title = f"{len(live):,} live worker{'s' if len(live) != 1 else ''}, {busy:,} of {slots:,} slots taken"
    table = _listed(columns, cells, {"average", "queues", "host"} if narrow else ())
    return Group(_line(title, "" if live else ALARM), _part(table, len(look.workers)))


def _listed(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], left_out: Collection[str]) -> Table:
    """Return a table without the columns that there is no room for."""
    kept = [index for index, column in enumerate(columns) if str(column.header) not in left_out]
    table = _compact(*(columns[index] for index in kept))
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    return table


def _part(table: Table, of: int) -> RenderableType:
    left_out = of - table.row_count
    return Group(table, _line(f"and {left_out:,} more" if left_out else "", "dim"))


def _status(one: WorkerInfo) -> str:
    if one.blocked_by:
        return f"blocked {one.blocked_s or 0:.0f} s by {one.blocked_by}"
    return one.status if one.is_live else f"silent {age(one.last_heartbeat)}"


def _held(look: Look, kind: str, name: str) -> Text:
    how = look.held(kind, name)
    text = Text.assemble((f"{how} ", ALARM), name) if how else Text(name)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _age_of_ready(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return in_ms(milliseconds) if milliseconds < 1_000 else in_short(milliseconds / 1_000)  # noqa: PLR2004 - a second


# -- jobs -----------------------------------------------------------------------------------------------------------------------------


def jobs(console: Console, page: JobPage) -> None:
    """Show a page of jobs, and where the next page begins. In a narrow terminal, what there is to say of a job has a line of its own."""
    wide = console.width >= WIDE
    table = _compact("job", Column("state", no_wrap=True), *_numbers("runs"), "actor", "queue", *([""] if wide else []))
    notes = [_line(("" if wide else "  ") + plain(note(one)).plain, "red" if one.error else "dim") for one in page.jobs]
    for one, told in zip(page.jobs, notes, strict=True):
        state = Text(when(one), style=ALARM if one.state == "failed" else "")
        names = _line(one.type), _line(one.queue or "-")
        table.add_row(_line(plain(one.id).plain), state, str(one.attempts), *names, *([told] if wide else []))
    if not page.jobs:
        console.print("There is no such job.")
    elif wide:
        console.print(table)
    else:
        for line, told in zip(console.render_lines(table, pad=False), [Text(), *notes], strict=True):
            console.print(Segments([*line, Segment.line()]), end="")
            if told.plain.strip():
                console.print(told, no_wrap=True, overflow="ellipsis")
    if page.cursor:
        console.print(Text(f"More: --cursor {page.cursor}"), soft_wrap=True)


def when(info: JobInfo) -> str:
    """Return where a job stands, and for how long: "due in 5 min", "runs 3 s", "failed 2 h ago"."""
    if info.state in ENDINGS:
        return f"{info.state} {age(info.completed_at or info.created_at)} ago"
    if info.state == "leased":
        return f"runs {age(info.processed_at or info.created_at)}"
    if info.due_at:
        return f"due in {in_short((info.due_at - datetime.now(UTC)).total_seconds())}"
    return f"{info.state}, sent {age(info.created_at)} ago"


def note(info: JobInfo) -> str:
    """Return the first line of a job's error, or how far its run says that it is; never what it was sent with."""
    if info.error:
        return " ".join(f"{info.error.type}: {info.error.message}".splitlines()[:1])
    if info.progress and not info.completed_at:
        return f"{'' if info.progress.done is None else f'{info.progress.done:.0%} '}{info.progress.message}"
    return ""


# -- events ---------------------------------------------------------------------------------------------------------------------------


def event(console: Console, one: Event) -> None:
    """Show an event in one line; a terminal cuts it at its edge, a file gets all of it."""
    jobs_of = f"{one.jobs:,} job{'s' if one.jobs != 1 else ''}"
    ids = ", ".join(one.ids) + (", ..." if one.jobs > len(one.ids) > 0 else "")
    worker = "" if one.worker == "-" else one.worker
    text = plain(f"{_moment(one.at)}  {one.verb:{VERB_CHARS}}  {worker:{WORKER_CHARS}}  {jobs_of:>10}  {ids}".rstrip())
    if console.is_terminal:
        console.print(text, no_wrap=True, overflow="ellipsis")
    else:
        console.print(text, soft_wrap=True)


# -- words ----------------------------------------------------------------------------------------------------------------------------


def age(since: datetime) -> str:
    """Return how long ago something was."""
    return in_short((datetime.now(UTC) - since).total_seconds())


def in_short(seconds: float) -> str:
    """Return a length of time in one unit, rounded down: "12 s", "3 min", "5 h", "2 d"; clocks may differ, so it is never negative."""
    length, unit = next(((length, unit) for length, unit in AGES if seconds >= length), (1, "s"))
    return f"{max(int(seconds / length), 0):,} {unit}"


def _moment(at: datetime) -> str:
    here, today = at.astimezone(), datetime.now().astimezone().date()
    return here.strftime("%H:%M:%S.%f" if here.date() == today else "%Y-%m-%d %H:%M:%S.%f")[:-3]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _numbers(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, justify="right", no_wrap=True) for name in names)


def _names(*names: str) -> tuple[Column, ...]:
    return tuple(Column(_line(name)) for name in names)


def _compact(*columns: str | Column) -> Table:
    """Return a table whose columns of text give way to those of numbers."""
    named = (_names(one) if isinstance(one, str) else (one,) for one in columns)
    return Table(*chain.from_iterable(named), box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
