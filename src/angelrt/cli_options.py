"""What the commands share: options, and how a command runs and prints."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console

from . import logs
from .config import NAMESPACE_VARIABLE, URL_VARIABLE
from .errors import InvalidOptions

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

out = Console()

Url = Annotated[str | None, typer.Option(envvar=URL_VARIABLE, help="address of the server")]
Namespace = Annotated[str, typer.Option(envvar=NAMESPACE_VARIABLE, help="namespace of the application on the server")]
LogLevel = Annotated[str, typer.Option(envvar="ANGELRT_LOG_LEVEL", help="debug, info, warning or error")]
LogFormat = Annotated[str, typer.Option(envvar="ANGELRT_LOG_FORMAT", help="text or json")]
Json = Annotated[bool, typer.Option("--json", help="write JSON for programs")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415 - not on Windows

    return uvloop.run(work)


def set_up_log(level: str, form: str, *, as_json: bool = False) -> None:
    """Write the log of a command that goes on to standard error. Raises InvalidOptions."""
    if level.upper() not in logging.getLevelNamesMapping() or form not in ("text", "json"):
        message = f"--log-level is debug, info, warning or error, not {level!r}; --log-format is text or json, not {form!r}"
        raise InvalidOptions(message)
    logs.configure(level, "json" if as_json else form)


def print_json(value: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
