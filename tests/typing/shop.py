"""The actors that the other files of this folder use, declared as an application declares them.

These files are read by pyright and mypy, never run. Each seeded error carries the code under which each checker must report it; an
ignore that is not needed is itself an error (see `[tool.pyright]` and `[tool.mypy]`), so an error that goes unseen fails the run.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from angelrt import Actors, Keep, Retention, RetryPolicy, Runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@dataclass
class Thumb:
    """What a run returns."""

    path: str
    width: int


@dataclass
class Receipt:
    """What another service returns."""

    number: int


@dataclass
class State:
    """What the lifespan yields."""

    connections: int


@asynccontextmanager
async def lifespan() -> AsyncGenerator[State]:
    """Open what all runs of a worker share."""
    yield State(connections=3)


rt = Runtime(
    "redis://localhost",
    namespace="shop",
    lifespan=lifespan,
    imports=["shop.photos"],
    lease=timedelta(seconds=30),
    retention=Retention(completed=Keep(age=timedelta(hours=2), number=1_000)),
)
stateless = Runtime()
group = Actors(queue="photos")
rt.include(group)


@rt.actor(queue="photos", name="shop.thumbnail", priority=3, timeout=30, retry=RetryPolicy(attempts=8, base=2, cap=timedelta(minutes=10)))
async def thumbnail(path: str, size: int = 256) -> Thumb:
    """Make a small picture."""
    return Thumb(path, size)


@group.actor()
async def notify(address: str, *, urgent: bool = False) -> None:
    """Tell somebody."""


@rt.thread_actor(timeout=timedelta(minutes=1))
def download(url: str) -> bytes:
    """Block on I/O."""
    return url.encode()


@group.process_actor()
def digest(numbers: list[int]) -> dict[str, float]:
    """Compute."""
    return {"mean": sum(numbers) / len(numbers)}


@rt.remote(name="billing.charge", queue="billing", priority=0)
def charge(customer: str, cents: int) -> Receipt:
    """Have another service do it."""
    raise NotImplementedError


def use(*values: object) -> None:
    """Take values that are here only for their types."""
