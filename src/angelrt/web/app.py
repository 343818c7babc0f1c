"""How the app is put together: guard, routes, the page's files, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .. import alerts as alerting
from ..errors import RuntimeNotOpen
from . import errors, status
from .api import OPERATIONS
from .auth import Access
from .call import Endpoint, Site
from .guard import Guard
from .hosts import check_hosts
from .redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from ..alerts import AlertRule
    from ..runtime import Runtime
    from .auth import Authenticate

log = logging.getLogger("angelrt.web")

STATIC: Final = Path(__file__).parent / "static"
REVALIDATED: Final = {"Cache-Control": "no-cache"}
"""A browser asks again each time, by the file's tag, so that a new version is never mixed with an old one."""


class PageFiles(StaticFiles):
    """The files of the page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file that is asked for again each time."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(REVALIDATED)
        return response


class Watch:
    """The rules of the app's alerts, looked at while the app lives."""

    def __init__(self, rt: Runtime[Any], rules: Sequence[AlertRule]) -> None:
        """Keep what is looked at."""
        self._rt, self._rules = rt, rules
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless that is done or there is nothing to look at; called with each request, since a mounted app has no lifespan."""
        if self._rules and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        try:
            await alerting.evaluate_forever(self._rt, self._rules)
        except RuntimeNotOpen:
            return
        except Exception:
            log.exception("alerts are not looked at any more until the next request")


def assemble(
    rt: Runtime[Any],
    *,
    readers: Sequence[str],
    operators: Sequence[str],
    auth: Authenticate | None,
    hosts: Sequence[str],
    alerts: Sequence[AlertRule],
    title: str,
) -> Starlette:
    """Return the app. Raises ConfigError."""
    access, rules = Access(readers, operators, auth), alerting.check_rules(alerts)
    site = Site(rt, access, Redactor(rt.registered), rules, title)
    watch = Watch(rt, rules)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if not _is_open(rt):
                await stack.enter_async_context(rt)
            watch.start()
            try:
                yield
            finally:
                await watch.stop()

    routes = [
        *(Route(one.path, Endpoint(site, one), methods=[one.method], name=one.handler.__name__) for one in OPERATIONS),
        *status.routes(rt),
        Route("/", _page, methods=["GET"], name="page"),
        Mount("/static", PageFiles(directory=STATIC, check_dir=False), name="static"),
    ]
    guard = Middleware(Guard, hosts=check_hosts(hosts, is_protected=access.is_required), at_first=watch.start)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: errors.of_http}, lifespan=lifespan)
    app.state.site = site
    return app


def _is_open(rt: Runtime[Any]) -> bool:
    try:
        rt.client()
    except RuntimeNotOpen:
        return False
    return True


async def _page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=REVALIDATED, media_type="text/html")
