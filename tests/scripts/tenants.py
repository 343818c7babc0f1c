"""Tenants by hand: their jobs, named by them, and what each of them gets."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from tests.scripts.gated import declare, held
from tests.scripts.partition import ids, job, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

BATCH: Final = 500
ROUNDS_MAX: Final = 400
SMALL: Final = [f"small{n}" for n in range(9)]


def jobs(tenant: str, number: int, first: int = 0, **options: Any) -> list[NewJob]:
    """Return jobs of a tenant, named by it: `ann.0`, `ann.1`; without a tenant, they are named by `-`."""
    flow = ",".join(filter(None, (options.pop("gates", ""), "" if tenant == "-" else f"t{tenant}")))
    return [job(f"{tenant}.{first + n}", flow=flow, **options) for n in range(number)]


async def send(part: Partition, *groups: Sequence[NewJob]) -> None:
    """Send groups of jobs, one after the other."""
    for group in groups:
        for first in range(0, len(group), BATCH):
            await part.send(*group[first : first + BATCH])
            part.now_ms += 1


def tenants(names: Iterable[str]) -> list[str]:
    """Return whose the jobs are."""
    return [name.partition(".")[0] for name in names]


async def claim(part: Partition, capacity: int, **options: Any) -> list[str]:
    """Claim under a token of its own until the call is full or nothing is left."""
    found: list[str] = []
    while True:
        claimed = await part.claim(capacity - len(found), under=secrets.token_hex(4), **options)
        found += ids(claimed)
        if len(found) == capacity or not claimed.again:
            return found


async def weigh(part: Partition, tenant: str, weight: float) -> None:
    """Declare the weight of a tenant, as a worker's start does."""
    await declare(part, f"weight q {tenant}", f"{weight:g}")


async def occupied(part: Partition, most: int = 1) -> None:
    """Let others hold all the places of the gate, under the token `t0`."""
    await declare(part, spec=most)
    await part.send(*(job(f"first{n}", flow=held()) for n in range(most)))
    assert len(ids(await part.claim(most, under="t0", worker="w0"))) == most


async def leave(part: Partition, number: int, first: int = 0) -> None:
    """Let some of those go that hold the gate at first."""
    names = [f"first{n}" for n in range(first, first + number)]
    assert set(await part.settle(*(verdict(name, "c", b"1", under="t0") for name in names), worker="w0")) == {1}


async def serve(part: Partition, number: int, capacity: int = 100, **options: Any) -> list[str]:
    """Work as a worker does, each run ended before the next claim, until so many have begun; in the order in which they did."""
    begun: list[str] = []
    for _ in range(ROUNDS_MAX):
        if len(begun) >= number:
            return begun
        token = secrets.token_hex(4)
        claimed = await part.claim(min(capacity, number - len(begun)), under=token, **options)
        begun += ids(claimed)
        if claimed.deliveries:
            await part.settle(*(verdict(each, "c", b"1", under=token) for each in ids(claimed)), worker=options.get("worker", "w1"))
        elif not claimed.again:
            return begun
    message = f"{ROUNDS_MAX} claims, and only {begun} have begun"
    raise AssertionError(message)
