"""Who did what by hand: an entry for each change and for each look at what is hidden, in a capped stream and in the log."""

from __future__ import annotations

import logging
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..errors import RedisFull
from ..job import View, at_ms

if TYPE_CHECKING:
    from ..runtime import Runtime
    from .auth import Identity

log = logging.getLogger("angelrt.audit")

ENTRIES_MAX: Final = 10_000
"""Entries that are kept, about; each is under a kilobyte."""
WHAT_MAX_CHARS: Final = 300


class AuditEntry(View):
    """One thing that was asked for: when (UTC), by whom, in which role, what, and of what. It holds no arguments and no results."""

    at: datetime
    who: str
    role: str
    action: str
    what: str


async def note(rt: Runtime[Any], identity: Identity, action: str, what: str) -> None:
    """Write an entry, before the thing is done: one that is refused by then was asked for all the same.

    At the server's memory limit it is in the log alone, since what frees memory must not wait for it. Raises RedisUnavailable.
    """
    shown = what[:WHAT_MAX_CHARS]
    log.info("%s (%s): %s %r", identity.who, identity.role, action, shown)
    told = orjson.dumps({"who": identity.who, "role": identity.role, "action": action, "what": shown})
    store = rt.client().store
    try:
        await store.command("XADD", store.keys.key("audit"), "MAXLEN", "~", ENTRIES_MAX, "*", "entry", told)
    except RedisFull:
        log.warning("Redis is at its memory limit: this entry of the audit is in the log alone")


async def entries(rt: Runtime[Any], limit: int) -> list[AuditEntry]:
    """Return the last entries, the newest first."""
    store = rt.client().store
    found = await store.command("XREVRANGE", store.keys.key("audit"), "+", "-", "COUNT", limit)
    return [AuditEntry(at=at_ms(int(name.partition(b"-")[0])), **orjson.loads(fields[1])) for name, fields in found]
