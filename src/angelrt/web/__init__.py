"""The page, the HTTP API and the public status page: one ASGI app, which loads Starlette when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

    from ..alerts import AlertRule
    from ..runtime import Runtime
    from .auth import Authenticate

TITLE: Final = "Queues"


def new_app(
    rt: Runtime[Any],
    *,
    readers: Sequence[str] = (),
    operators: Sequence[str] = (),
    auth: Authenticate | None = None,
    hosts: Sequence[str] = (),
    alerts: Sequence[AlertRule] = (),
    title: str = TITLE,
) -> Starlette:
    """Return the app of a runtime; see `Runtime.web`. Raises ConfigError, also where Starlette is not installed."""
    try:
        from .app import assemble  # noqa: PLC0415 - loads starlette
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "starlette":
            raise
        message = "rt.web() needs starlette: pip install 'angelrt[web]'"
        raise ConfigError(message) from error
    return assemble(rt, readers=readers, operators=operators, auth=auth, hosts=hosts, alerts=alerts, title=title)
