"""Commands for dead letters: `failed list`, `failed replay` and `failed purge`."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from . import tables
from .cli_options import Json, Namespace, Url, out, print_json, run
from .config import NAMESPACE_DEFAULT
from .dead_letters import PAGE_DEFAULT, DeadLetterFilter, DeadLetterPage, Replays
from .errors import InvalidOptions
from .runtime import Runtime

if TYPE_CHECKING:
    from .dead_letters import DeadLetter

app = typer.Typer(no_args_is_help=True, help="List, replay and purge jobs that ended as failed.")

JobId = Annotated[str | None, typer.Argument(metavar="ID", help="one job")]
Everything = Annotated[bool, typer.Option("--all", help="all there are")]
Actor = Annotated[str | None, typer.Option(help="only those of an actor")]
Queue = Annotated[str | None, typer.Option(help="only those of a queue")]
ErrorType = Annotated[str | None, typer.Option(help="only those of a type of error, as TimeoutError")]
TextPart = Annotated[str | None, typer.Option(help="only those with this text in the error or the arguments")]
Since = Annotated[datetime | None, typer.Option(help="only those that failed then or later (UTC)")]
Until = Annotated[datetime | None, typer.Option(help="only those that failed before (UTC)")]


@app.command("list")
def list_(
    *, limit: Annotated[int, typer.Option(min=1, max=200, help="the most that are shown")] = PAGE_DEFAULT,
    before: Annotated[str | None, typer.Option(help="where the page before ended, as it says")] = None,
    actor: Actor = None, queue: Queue = None, error: ErrorType = None, text: TextPart = None, since: Since = None, until: Until = None,
    url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False,
) -> None:  # fmt: skip
    """Show failed jobs, the newest first."""
    wanted = _filter(actor, queue, error, text, since, until)
    if wanted and before:
        message = "failed list: --before goes on in the list of all; a filter shows its newest, up to --limit"
        raise InvalidOptions(message)

    async def find() -> DeadLetterPage:
        async with Runtime(url, namespace=namespace) as rt:
            page = await rt.dead_letters.list(1 if wanted else limit, before)
            if not wanted:
                return page
            found: list[DeadLetter] = []
            async with aclosing(rt.dead_letters.search(**wanted)) as letters:
                async for letter in letters:
                    found.append(letter)
                    if len(found) == limit:
                        break
        return DeadLetterPage(letters=found, before=None, total=page.total)

    page = run(find())
    if as_json:
        print_json(page.model_dump(mode="json", by_alias=True))
    else:
        tables.dead_letters(out, page)


@app.command()
def replay(
    job_id: JobId = None, *, everything: Everything = False,
    per_second: Annotated[float | None, typer.Option(help="how many become due in each second; default: all at once")] = None,
    actor: Actor = None, queue: Queue = None, error: ErrorType = None, text: TextPart = None, since: Since = None, until: Until = None,
    url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False,
) -> None:  # fmt: skip
    """Let failed jobs run again: one, those of a filter, or all."""
    wanted = _filter(actor, queue, error, text, since, until)
    _check_named("replay", job_id, wanted, everything=everything)
    if job_id is not None and per_second is not None:
        message = "failed replay: --per-second is for many"
        raise InvalidOptions(message)

    async def ask() -> Replays:
        async with Runtime(url, namespace=namespace) as rt:
            if job_id is None:
                return await rt.dead_letters.replay_all(per_second=per_second, **wanted)
            await rt.dead_letters.replay(job_id)
        return Replays(replayed=1)

    done = run(ask())
    if as_json:
        print_json(done.model_dump(mode="json", by_alias=True))
        return
    last = f", the last of them at {done.last_due_at:%Y-%m-%d %H:%M:%S} UTC" if per_second and done.last_due_at else ""
    out.print(f"{done.replayed:,} run again{last}", highlight=False)
    if done.refused:
        out.print(f"{done.refused:,} do not: another job does the same work, or what they belong to is drained", highlight=False)


@app.command()
def purge(
    job_id: JobId = None, *, everything: Everything = False,
    actor: Actor = None, queue: Queue = None, error: ErrorType = None, text: TextPart = None, since: Since = None, until: Until = None,
    url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False,
) -> None:  # fmt: skip
    """Forget failed jobs: one, those of a filter, or all."""
    wanted = _filter(actor, queue, error, text, since, until)
    _check_named("purge", job_id, wanted, everything=everything)

    async def ask() -> int:
        async with Runtime(url, namespace=namespace) as rt:
            return await rt.dead_letters.purge(job_id, everything=everything, **wanted)

    purged = run(ask())
    if as_json:
        print_json({"purged": purged})
    else:
        out.print(f"{purged:,} forgotten", highlight=False)


def _check_named(command: str, job_id: str | None, wanted: DeadLetterFilter, *, everything: bool) -> None:
    """Raise InvalidOptions unless one thing is named."""
    if [job_id is not None, bool(wanted), everything].count(True) != 1:
        message = f"failed {command}: name one job, or a filter, or --all"
        raise InvalidOptions(message)


def _filter(
    actor: str | None, queue: str | None, error: str | None, text: str | None, since: datetime | None, until: datetime | None
) -> DeadLetterFilter:
    """Return what was given; times without a zone are UTC."""
    wanted = DeadLetterFilter()
    if actor is not None:
        wanted["actor"] = actor
    if queue is not None:
        wanted["queue"] = queue
    if error is not None:
        wanted["error"] = error
    if text is not None:
        wanted["text"] = text
    if since is not None:
        wanted["since"] = since.replace(tzinfo=UTC)
    if until is not None:
        wanted["until"] = until.replace(tzinfo=UTC)
    return wanted
