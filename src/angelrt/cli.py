"""The command line: `python -m angelrt --help`. Exit codes: 0 done, 1 something failed, 2 the call or a setting is wrong."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from . import cli_control, cli_failed, cli_schedules, cli_watch, cli_web, logs, tables
from .cli_options import Json, LogFormat, LogLevel, Namespace, Url, out, print_json, run, set_up_log
from .config import NAMESPACE_DEFAULT, URL_VARIABLE
from .errors import AngelError, ConfigError, InvalidOptions
from .runtime import Runtime

if TYPE_CHECKING:
    from .worker import Worker

log = logging.getLogger("angelrt.cli")

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="angelrt: actors and jobs on Redis.")
app.add_typer(cli_control.app)
app.add_typer(cli_watch.app)
app.add_typer(cli_failed.app, name="failed")
app.add_typer(cli_schedules.app, name="schedules")

CONCURRENCY: Final = 100
GRACE_S: Final = 25.0
DEV_DIRECTORY: Final = ".angelrt"

Target = Annotated[str, typer.Argument(help="the runtime, as MODULE:NAME", metavar="APP:RT")]
WorkerUrl = Annotated[str | None, typer.Option(help=f"server, instead of the runtime's own or {URL_VARIABLE}")]
Queues = Annotated[str | None, typer.Option(envvar="ANGELRT_QUEUES", help="queues to serve, as a,b; default: those of the actors")]
Concurrency = Annotated[int, typer.Option(envvar="ANGELRT_CONCURRENCY", min=1, help="jobs at a time")]
Import = Annotated[list[str] | None, typer.Option("--import", envvar="ANGELRT_IMPORT", help="further module that declares actors")]
Grace = Annotated[float, typer.Option(envvar="ANGELRT_GRACE", min=0, help="seconds that running jobs get to end in at a stop")]
Burst = Annotated[bool, typer.Option("--burst", envvar="ANGELRT_BURST", help="stop when no job is ready and none runs")]


def main() -> None:
    """Run a command; an error of angelrt is shown as its text, without a traceback."""
    try:
        app()
    except (ConfigError, InvalidOptions) as error:
        tables.error(error)
        sys.exit(2)
    except AngelError as error:
        tables.error(error)
        sys.exit(1)


@app.command()
def worker(
    target: Target,
    *,
    queues: Queues = None,
    concurrency: Concurrency = CONCURRENCY,
    url: WorkerUrl = None,
    modules: Import = None,
    grace: Grace = GRACE_S,
    burst: Burst = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
    as_json: Json = False,
) -> None:
    """Run jobs until SIGTERM or SIGINT; a second signal cuts the grace short."""
    set_up_log(log_level, log_format, as_json=as_json)
    rt = load(target, modules or [])
    rt.url = url or rt.url
    served = [name.strip() for name in queues.split(",") if name.strip()] if queues else None
    hanging = run(_work(rt, served, concurrency=concurrency, grace_s=grace, burst=burst))
    if hanging:
        # A thread cannot be killed, and the interpreter would wait for it for ever.
        log.warning("%d threads of actors still run and are left behind", hanging)
        logging.shutdown()
        os._exit(0)


async def _work(rt: Runtime[Any], queues: list[str] | None, *, concurrency: int, grace_s: float, burst: bool) -> int:
    """Work until stopped; return how many runs could not be ended."""
    async with rt, rt.worker(concurrency=concurrency, queues=queues, grace=grace_s, kind="worker") as running:
        _stop_on_signals(running)
        log.info("\n%s", tables.banner(rt, running))
        stopped = asyncio.create_task(running.wait_stopped())
        waits = [stopped, asyncio.create_task(running.wait_empty())] if burst else [stopped]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping: %d jobs run; they have %g s", len(running.running.slots), grace_s)
    for wait in waits:
        wait.cancel()
    if running.failure is not None:
        raise running.failure
    return len(running.running.slots)


def _stop_on_signals(running: Worker) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, running.stop)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt instead
            return


@app.command()
def dev(target: Target, *, directory: Annotated[Path, typer.Option(help="where the server keeps its data")] = Path(DEV_DIRECTORY),
        concurrency: Concurrency = CONCURRENCY, as_json: Json = False) -> None:  # fmt: skip
    """Run a private server and a worker, started again whenever a Python file below the current directory changes."""
    from . import embedded  # noqa: PLC0415 - needs an extra

    try:
        import watchfiles  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        message = "dev needs watchfiles: pip install 'angelrt[dev]'"
        raise ConfigError(message) from error
    logs.configure("info", "json" if as_json else "text")
    os.environ[URL_VARIABLE] = f"embedded://{directory.resolve()}"
    # Compiled files are trusted by second and size: after two quick edits of one size, the worker would run the first.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with embedded.EmbeddedServer.join(directory):
        flags = ["--json"] if as_json else []
        command = [sys.executable, "-m", "angelrt", "worker", target, "--concurrency", str(concurrency), "--grace", "5", *flags]
        log.info("server in %s; send to it with %s=%s", directory, URL_VARIABLE, os.environ[URL_VARIABLE])
        watchfiles.run_process(
            Path.cwd(),
            target=" ".join(map(_quoted, command)),
            target_type="command",
            watch_filter=watchfiles.PythonFilter(),
            callback=lambda changes: log.info("%d files changed: the worker starts again", len(changes)),
            sigint_timeout=10,
        )


@app.command()
def demo(*, photos: Annotated[Path | None, typer.Option(help="folder of photographs; default: some that a package brings")] = None,
         output: Annotated[Path, typer.Option(help="where thumbnails and the report go")] = Path("angelrt-demo"),
         url: Url = None, as_json: Json = False) -> None:  # fmt: skip
    """Send a folder of photographs through the queue: thumbnails and an inventory come out."""
    from . import demo as demonstration  # noqa: PLC0415 - needs an extra

    raise typer.Exit(demonstration.main(photos, output, url, as_json=as_json))


@app.command()
def stats(*, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Show pickup latency, completion rate and waiting jobs of the whole fleet over the last day."""

    async def show() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            found, workers = await rt.stats(), await rt.workers()
        if as_json:
            print_json({**found.summary(), "workers": [one.model_dump(mode="json", by_alias=True) for one in workers]})
        else:
            tables.stats(out, found, workers)

    run(show())


@app.command()
def job(job_id: Annotated[str, typer.Argument(metavar="ID")], *, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT,
        as_json: Json = False) -> None:  # fmt: skip
    """Show all that is known of a job."""

    async def show() -> None:
        async with Runtime(url, namespace=namespace) as rt:
            info = await rt.job(job_id).info()
        if as_json:
            print_json(info.model_dump(mode="json", by_alias=True))
        else:
            tables.job(out, info)

    run(show())


@app.command()
def doctor(*, url: Url = None, namespace: Namespace = NAMESPACE_DEFAULT, as_json: Json = False) -> None:
    """Examine the server; exit code 1 when something would lose jobs or stop them."""
    from . import doctor as practice  # noqa: PLC0415 - loads redis

    async def examine() -> list[practice.Finding]:
        async with Runtime(url, namespace=namespace) as rt:
            return await practice.examine(rt.client().store)

    findings = run(examine())
    if as_json:
        print_json([finding.model_dump(by_alias=True) for finding in findings])
    else:
        tables.findings(out, findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def load(target: str, modules: list[str]) -> Runtime[Any]:
    """Return the runtime named MODULE:NAME, with the modules that it and the caller name imported. Raises ConfigError."""
    sys.path.insert(0, str(Path.cwd()))
    module_name, _, name = target.partition(":")
    if not name:
        message = f"{target!r}: name the runtime as MODULE:NAME, for example jobs:rt"
        raise ConfigError(message)
    module = _import(module_name)
    if not isinstance(getattr(module, name, None), Runtime):
        message = f"{target!r}: {module_name} has no Runtime called {name!r}"
        raise ConfigError(message)
    runtime: Runtime[Any] = getattr(module, name)
    for further in (*runtime.imports, *modules):
        _import(further)
    return runtime


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise
        message = f"there is no module {module!r} on the path (looked in {Path.cwd()} and the installed packages)"
        raise ConfigError(message) from error


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word else word


cli_web.register(app, load)
