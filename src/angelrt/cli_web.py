"""`python -m angelrt dashboard APP:RT`: the page, the HTTP API and the public status page, in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .cli_options import LogFormat, LogLevel, out, run, set_up_log
from .errors import ConfigError
from .web.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from starlette.applications import Starlette
    from starlette.types import ASGIApp
    from uvicorn import Server

    from .runtime import Runtime

HOST: Final = "127.0.0.1"
PORT: Final = 8383
STOP_S: Final = 3
"""What requests that run get to end in at a stop."""
TICK_S: Final = 0.1
CONNECTIONS_MAX: Final = 1000
BACKLOG: Final = 128

Target = Annotated[str, typer.Argument(help="the runtime, as MODULE:NAME", metavar="APP:RT")]
Host = Annotated[str, typer.Option(help="address to listen on; any but loopback needs a token")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")]
ReaderToken = Annotated[str | None, typer.Option(envvar="ANGELRT_READER_TOKEN", help="token of those who may look")]
OperatorToken = Annotated[str | None, typer.Option(envvar="ANGELRT_OPERATOR_TOKEN", help="token of those who may change things, too")]
AllowHost = Annotated[list[str] | None, typer.Option(help="further name under which browsers reach it, as queues.example.org")]
DashboardUrl = Annotated[str | None, typer.Option(help="server, instead of the runtime's own or ANGELRT_URL")]
Title = Annotated[str, typer.Option(help="name that the page shows")]


def register(app: typer.Typer, load: Callable[[str, list[str]], Runtime[Any]]) -> None:
    """Add the command to the others; `load` finds the runtime by its name."""

    @app.command()
    def dashboard(
        target: Target,
        *,
        host: Host = HOST,
        port: Port = PORT,
        reader_token: ReaderToken = None,
        operator_token: OperatorToken = None,
        allow_host: AllowHost = None,
        url: DashboardUrl = None,
        title: Title = "Queues",
        log_level: LogLevel = "info",
        log_format: LogFormat = "text",
    ) -> None:
        """Serve the page, the HTTP API and the public status page until SIGTERM or SIGINT; see docs/web.md."""
        set_up_log(log_level, log_format)
        rt = load(target, [])
        rt.url = url or rt.url
        serve(rt, host, port, reader_token=reader_token, operator_token=operator_token, hosts=allow_host or [], title=title)


def serve(
    rt: Runtime[Any], host: str, port: int, *, reader_token: str | None, operator_token: str | None, hosts: list[str], title: str
) -> None:
    """Serve until a signal comes. Raises ConfigError, and what opening the runtime raises."""
    readers, operators = [reader_token] if reader_token else [], [operator_token] if operator_token else []
    if not is_loopback(host) and not (readers or operators):
        message = (
            f"--host {host} lets other machines in, and there is no token: set ANGELRT_OPERATOR_TOKEN (and ANGELRT_READER_TOKEN), or leave "
            f"--host at {HOST}"
        )
        raise ConfigError(message)
    app = rt.web(readers=readers, operators=operators, hosts=[*hosts, *_named(host)], title=title)
    with _listening(host, port) as listening:
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        who = "for those with a token" if readers or operators else "for this machine alone, without a login"
        out.print(f"http://{shown}:{address[1]}/ {who}", highlight=False, markup=False, soft_wrap=True)
        server = new_server(app)
        with _stopping_on_signals(server):
            run(_serve(rt, server, app, listening))


async def _serve(rt: Runtime[Any], server: Server, app: Starlette, listening: socket.socket) -> None:
    async with rt:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.should_exit and not serving.done():  # noqa: ASYNC110 - it is set by a signal, and nobody is told
            await asyncio.sleep(TICK_S)
        app.state.site.stop()
        await serving


@contextlib.contextmanager
def _stopping_on_signals(server: Server) -> Generator[None]:
    """Let a signal stop the server and nothing more, also before it has begun.

    While it serves, uvicorn has handlers of its own; when it has stopped, it raises the signal again, and the process would end by it.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def new_server(app: ASGIApp) -> Server:
    """Return the server of an app, not started. It logs no requests: their queries may hold what somebody searches for.

    Raises ConfigError where uvicorn is not installed.
    """
    try:
        import uvicorn  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        message = "dashboard needs uvicorn: pip install 'angelrt[web]'"
        raise ConfigError(message) from error
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_S,
    )
    return uvicorn.Server(config)


def _named(host: str) -> list[str]:
    """Return a name that is listened on, under which it is reached then; an address is known by itself."""
    return [host] if any(character.isalpha() for character in host) and ":" not in host else []


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"--host {host} --port {port} cannot be listened on: {error.strerror or error}; choose another --port"
        raise ConfigError(message) from error
