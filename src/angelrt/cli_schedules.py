"""Commands for schedules: what is sent by cron or at intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from .cli_options import Json, Namespace, Url, out, print_json, run
from .config import NAMESPACE_DEFAULT
from .runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime
    from typing import Any

    from .schedules import ScheduleInfo, Schedules

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, pause, resume and remove schedules.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a schedule, as `list` shows it")]
By = Annotated[str, typer.Option(help="who does it; default: the user and the host")]


@app.command("list")
def show(*, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Show all schedules, when each was due last, and when it comes next."""
    found = _ask(url, namespace, lambda schedules: schedules.list())
    if as_json:
        print_json([one.model_dump(mode="json", by_alias=True) for one in found])
    else:
        _table(found)


@app.command()
def pause(name: Name, *, by: By = "", url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Send nothing until `resume`; an occurrence that waits is cancelled."""
    _tell(_ask(url, namespace, lambda schedules: schedules.pause(name, by=by)), as_json=as_json)


@app.command()
def resume(name: Name, *, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Go on from now; what the pause left out is not made up for."""
    _tell(_ask(url, namespace, lambda schedules: schedules.resume(name)), as_json=as_json)


@app.command()
def remove(name: Name, *, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Forget a schedule; one that the code declares comes back with the next worker that starts."""
    _ask(url, namespace, lambda schedules: schedules.remove(name))
    if as_json:
        print_json({"removed": name})
    else:
        out.print(f"{name} is removed", highlight=False, markup=False)


def _ask(url: str | None, namespace: str, question: Callable[[Schedules], Coroutine[Any, Any, T]]) -> T:
    async def ask() -> T:
        async with Runtime(url, namespace=namespace) as rt:
            return await question(rt.schedules)

    return run(ask())


def _tell(info: ScheduleInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(info.model_dump(mode="json", by_alias=True))
    else:
        state = f"paused by {info.paused_by}" if info.paused_by else f"next at {_time(info.next_at)} UTC"
        out.print(f"{info.name}: {state}", highlight=False, markup=False)


def _table(found: Sequence[ScheduleInfo]) -> None:
    table = Table("schedule", "sends", "when", "misfire", "last (UTC)", "next (UTC)", box=box.SIMPLE)
    for one in found:
        when = f"{one.cron} {one.zone}" if one.cron else f"every {one.every:g} s"
        upcoming = f"paused by {one.paused_by}" if one.paused_by else _time(one.next_at)
        table.add_row(*map(Text, (one.name, f"{one.actor} on {one.queue}", when, one.misfire, _time(one.last_at), upcoming)))
    out.print(table if table.rows else "There is no schedule.")


def _time(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if value else "never"
