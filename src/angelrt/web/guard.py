"""What every request passes first, and what every answer carries: the Host check, bounds, and headers that keep a browser from harm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders

from .errors import answer
from .hosts import host_name, is_address, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUERY_MAX_BYTES: Final = 4096
PROBES: Final = ("/healthz", "/readyz")
"""What load balancers ask by address; they tell nothing but whether the process lives."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
KEPT_ESCAPED: Final = re.compile(r"%(25|2F)", re.IGNORECASE)


class Guard:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], at_first: Callable[[], None]) -> None:
        """Wrap the app; `at_first` is called with each request, for what a host app's lifespan does not start."""
        self._app = app
        self._hosts = frozenset(hosts)
        self._at_first = at_first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        inner = _with_exact_path(scope)
        refusal = self._refusal(inner)
        if refusal is not None:
            await refusal(inner, receive, with_headers)
            return
        self._at_first()
        await self._app(inner, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        if len(scope.get("query_string", b"")) > QUERY_MAX_BYTES:
            return answer(414, "QueryTooLong", f"the query is over {QUERY_MAX_BYTES:,} bytes: send less")
        if self._is_for_here(scope) or _route_path(scope) in PROBES:
            return None
        message = "the Host header names neither this machine nor one of rt.web(hosts=[...]): add the name under which the app is reached"
        return answer(421, "UnknownHost", message)

    def _is_for_here(self, scope: Scope) -> bool:
        names = Headers(scope=scope).getlist("host")
        name = host_name(names[0]) if len(names) == 1 else None
        if name is None:
            return False
        server = scope.get("server")
        return is_loopback(name) or name in self._hosts or (server is not None and is_address(name) and name == server[0])


def _route_path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _with_exact_path(scope: Scope) -> Scope:
    """Return the scope with a path in which a slash within a name is still escaped: an id such as `a/result` is not the result of `a`."""
    raw = scope.get("raw_path")
    path: str = scope["path"]
    text = raw.decode("latin-1").partition("?")[0] if raw else ""
    exact = unquote(KEPT_ESCAPED.sub(r"%25\1", text))
    if unquote(text) != path or not exact.startswith(scope.get("root_path", "")):
        exact = path.replace("%", "%25")
    return {**scope, "path": exact}
