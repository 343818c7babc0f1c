"""Commands that tell a fleet otherwise, and the one that tells why a job waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import tables
from .cli_options import Json, Namespace, Url, out, print_json, run
from .config import NAMESPACE_DEFAULT
from .errors import InvalidOptions
from .runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from .control import Control
    from .job import View

app = typer.Typer()

JobId = Annotated[str, typer.Argument(metavar="ID")]
Queue = Annotated[str | None, typer.Option(help="a queue")]
Actor = Annotated[str | None, typer.Option(help="an actor")]
Key = Annotated[str | None, typer.Option(help="a key of limits, as customer_id=7")]
By = Annotated[str, typer.Option(help="who does it; default: the user and the host")]
Reason = Annotated[str, typer.Option(help="why, for those who wonder later")]


@app.command()
def explain(job_id: JobId, *, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Tell why a job waits, and when that is expected to pass."""

    async def show() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            found = await rt.explain(job_id)
        if as_json:
            print_json(found.model_dump(mode="json", by_alias=True))
        else:
            tables.explanation(out, found)

    run(show())


@app.command()
def cancel(job_id: JobId, *, by: By = "", url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT) -> None:
    """Cancel a job: one that waits ends now, one that runs is asked to stop. Exit code 1 when it had ended before."""

    async def ask() -> bool:
        async with Runtime(url, namespace=namespace) as rt:
            return await rt.job(job_id).cancel(by)

    if not run(ask()):
        out.print(f"job {job_id} had ended before")
        raise typer.Exit(1)
    out.print(f"job {job_id} is cancelled, or told to stop if it runs")


@app.command()
def pause(*, queue: Queue = None, actor: Actor = None, key: Key = None, by: By = "", reason: Reason = "", url: Url = None,
          namespace: Namespace = NAMESPACE_DEFAULT) -> None:  # fmt: skip
    """Let no job of a queue, an actor or a key begin until `resume`; what runs goes on."""
    _check_named(queue, actor, key)
    _tell("paused", url, namespace, lambda control: control.pause(queue=queue, actor=actor, key=key, by=by, reason=reason))


@app.command()
def resume(*, queue: Queue = None, actor: Actor = None, key: Key = None, url: Url = None,
           namespace: Namespace = NAMESPACE_DEFAULT) -> None:  # fmt: skip
    """Take a pause or a drain back."""
    _check_named(queue, actor, key)
    _tell("resumed", url, namespace, lambda control: control.resume(queue=queue, actor=actor, key=key))


@app.command()
def drain(*, queue: Queue = None, actor: Actor = None, key: Key = None, by: By = "", reason: Reason = "", url: Url = None,
          namespace: Namespace = NAMESPACE_DEFAULT) -> None:  # fmt: skip
    """Refuse new jobs of a queue, an actor or a key until `resume`; what is there runs out."""
    _check_named(queue, actor, key)
    _tell("draining", url, namespace, lambda control: control.drain(queue=queue, actor=actor, key=key, by=by, reason=reason))


@app.command()
def limits(*, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Show the limits that workers declared, those that were changed, and what is paused or drained."""

    async def show() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            rules, pauses = await rt.control.limits(), await rt.control.pauses()
        if as_json:
            shown: dict[str, Sequence[View]] = {"limits": rules, "pauses": pauses}
            print_json({name: [one.model_dump(mode="json", by_alias=True) for one in found] for name, found in shown.items()})
        else:
            tables.limits(out, rules, pauses)

    run(show())


@app.command("set-limit")
def set_limit(
    rule: Annotated[str, typer.Argument(help="the name of a limit, as `limits` shows it")],
    limit: Annotated[str, typer.Argument(help="a number at a time, a rate as 500/day, or `declared` for what the code says")],
    *, burst: Annotated[int | None, typer.Option(min=1, help="how many at once, for a rate")] = None, url: Url = None,
    namespace: Namespace = NAMESPACE_DEFAULT,
) -> None:  # fmt: skip
    """Change a limit for the whole fleet, now and until it is changed again."""
    wanted: int | str | None = None if limit == "declared" else int(limit) if limit.isdigit() else limit

    async def ask() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            await rt.control.set_limit(rule, wanted, burst=burst)

    run(ask())
    out.print(f"{rule} is now {limit}", highlight=False)


def _check_named(*named: str | None) -> None:
    if sum(name is not None for name in named) != 1:
        message = "name one of --queue, --actor and --key"
        raise InvalidOptions(message)


def _tell(word: str, url: str | None, namespace: str, change: Callable[[Control], Coroutine[Any, Any, list[str]]]) -> None:
    """Change something in the fleet, and name what is changed now."""

    async def ask() -> list[str]:
        async with Runtime(url, namespace=namespace) as rt:
            return await change(rt.control)

    changed = run(ask())
    out.print(f"{word}: {', '.join(changed)}" if changed else "nothing of it was paused or drained", highlight=False)
