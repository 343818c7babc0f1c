"""The public status page: how the system does, for people who have no login.

It tells aggregates alone: never a payload, an id, nor the name of a queue, an actor, a worker or a host. Redis is asked once in five
seconds at the most, however many people look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..alerts_look import Look
from ..errors import AngelError
from ..job import View, at_ms
from ..series import summed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ..runtime import Runtime

log = logging.getLogger("angelrt.web")

KEPT_S: Final = 5.0
PATIENCE_S: Final = 3.0
"""So long the page waits for Redis before it says that it cannot be reached."""
SLOW_MS: Final = 60_000.0
HOUR: Final = 60
LATELY: Final = 5
"""Minutes over which it is judged whether jobs begin in time."""

State = Literal["working", "slow", "nobody works", "unreachable"]
WORDS: Final[dict[State, str]] = {
    "working": "Everything works.",
    "slow": "It works, but slower than usual: jobs wait for more than a minute.",
    "nobody works": "Nobody works at the moment. New jobs wait, none is lost.",
    "unreachable": "The system cannot be reached at the moment.",
}


class StatusMinute(View):
    """How many jobs were completed in the minute that begins `at` (UTC)."""

    at: datetime
    completed: int


class SystemStatus(View):
    """How the system does, as a whole. Times are milliseconds, rates from 0 to 1; None where nothing is known.

    Completion rate and waiting times are those of the last hour, the minutes its sixty minutes. `backlog` is how many jobs could begin now
    or wait at a limit, `backlog_age_ms` how long the oldest of those that could begin has waited.
    """

    state: State
    text: str
    at: datetime
    completed_last_hour: int | None = None
    completed_last_day: int | None = None
    completion_rate: float | None = None
    pickup_p50_ms: float | None = None
    pickup_p99_ms: float | None = None
    backlog: int | None = None
    backlog_age_ms: float | None = None
    minutes: list[StatusMinute] = Field(default_factory=list[StatusMinute])


class _Kept:
    """The status as JSON, made anew when it is older than five seconds; who comes meanwhile waits for the one that is being made."""

    def __init__(self, rt: Runtime[Any]) -> None:
        self._rt = rt
        self._lock = asyncio.Lock()
        self._json = b""
        self._until_s = 0.0

    async def read(self) -> bytes:
        async with self._lock:
            if time.monotonic() >= self._until_s:
                self._json = (await find_status(self._rt)).to_json()
                self._until_s = time.monotonic() + KEPT_S
            return self._json


def routes(rt: Runtime[Any]) -> list[BaseRoute]:
    """Return the routes of the page and of its data; they need no login. The page takes its style and script from `static/` beside it."""
    page = (resources.files("angelrt") / "web" / "static" / "status.html").read_text(encoding="utf-8")
    kept = _Kept(rt)

    async def show(_request: Request) -> Response:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    async def tell(_request: Request) -> Response:
        return Response(await kept.read(), media_type="application/json", headers={"Cache-Control": f"public, max-age={KEPT_S:.0f}"})

    return [Route("/status", show), Route("/status.json", tell)]


async def find_status(rt: Runtime[Any]) -> SystemStatus:
    """Return how the system does; it does not raise when Redis is away, but says so."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _look(rt)
    except (AngelError, TimeoutError) as error:
        log.warning("the status page cannot reach Redis: %s", error or type(error).__name__)
        return SystemStatus(state="unreachable", text=WORDS["unreachable"], at=datetime.now(UTC))


async def _look(rt: Runtime[Any]) -> SystemStatus:
    look = Look(rt)
    stats, minutes = await look.stats(), await look.minutes(HOUR)
    hour, lately = await look.figures(HOUR), await look.figures(LATELY)
    age_ms = max((depth.oldest_ready_ms for depth in stats.queues if depth.oldest_ready_ms is not None), default=None)
    state: State = "working"
    if not await look.live_workers(None):
        state = "nobody works"
    elif (age_ms or 0) > SLOW_MS or (lately.pickup_p99_ms or 0) > SLOW_MS:
        state = "slow"
    return SystemStatus(
        state=state,
        text=WORDS[state],
        at=datetime.now(UTC),
        completed_last_hour=hour.completed,
        completed_last_day=stats.total.completed,
        completion_rate=hour.completion_rate,
        pickup_p50_ms=hour.pickup_p50_ms,
        pickup_p99_ms=hour.pickup_p99_ms,
        backlog=sum(depth.ready + depth.lanes for depth in stats.queues),
        backlog_age_ms=age_ms,
        minutes=[StatusMinute(at=at_ms(ms), completed=summed([sums]).completed) for ms, sums in minutes],
    )
