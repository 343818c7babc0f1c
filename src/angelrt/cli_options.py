"""What the commands share: options, and how a command runs and prints."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console

from .config import NAMESPACE_VARIABLE, URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

out = Console()

Url = Annotated[str | None, typer.Option(envvar=URL_VARIABLE, help="address of the server")]
Namespace = Annotated[str, typer.Option(envvar=NAMESPACE_VARIABLE, help="namespace of the application on the server")]
Json = Annotated[bool, typer.Option("--json", help="write JSON for programs")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415 - not on Windows

    return uvloop.run(work)


def print_json(value: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
