"""Telling a fleet otherwise while it runs: pause and resume queues, actors and keys, and change limits."""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Final

import orjson
from pydantic_core import from_json

from .actor import check_actor_name
from .config import whoami
from .errors import InvalidOptions
from .job import View, at_ms
from .limits import Concurrency, RateLimit, quoted
from .queue import check_queue
from .usage import read_rules, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import Store
    from .usage import LimitUse, Specs

KINDS: Final = {"q": "queue", "a": "actor", "g": "key"}


class Pause(View):
    """One thing that is paused or drained: what (`kind` is queue, actor or key), by whom, since when (UTC), and why."""

    kind: str
    name: str
    how: str
    by: str
    at: datetime
    reason: str = ""


class Rule(View):
    """One limit: its name, the limit that holds, and the one that the code declares, where somebody has changed it."""

    name: str
    limit: str
    declared: str | None = None


class Control:
    """What `rt.control` is. Everything here acts on the whole fleet at once and stays until it is taken back."""

    def __init__(self, store: Callable[[], Store]) -> None:
        """Keep the way to the store of the open runtime."""
        self._store = store

    async def pause(
        self, *, queue: str | None = None, actor: str | None = None, key: str | None = None, by: str = "", reason: str = ""
    ) -> list[str]:
        """Let no job of a queue, an actor or a key begin; what runs goes on, what is sent waits. Returns the names that are paused.

        `key` is `rule=value`, as `explain` shows it, or `argument=value`: every gate that goes by this argument ("customer_id=7") and whose
        limit has no name of its own. Raises InvalidOptions for a key that no limit goes by.
        """
        found = await self._names(queue, actor, key)
        for what in found:
            await self._store().control("pause", what, self._told(by, reason))
        return [what[1:] for what in found]

    async def resume(self, *, queue: str | None = None, actor: str | None = None, key: str | None = None) -> list[str]:
        """Take pauses and drains back; what waited is looked at now. Returns the names that go on, without those that were not held."""
        named = await self._names(queue, actor, key)
        held = {field.decode().removeprefix("d") for field in await self._store().command("HKEYS", self._store().keys.key("control"))}
        found = [what for what in named if what in held]
        for what in found:
            await self._store().control("resume", what)
        return [what[1:] for what in found]

    async def drain(
        self, *, queue: str | None = None, actor: str | None = None, key: str | None = None, by: str = "", reason: str = ""
    ) -> list[str]:
        """Refuse new jobs of a queue, an actor or a key with `Draining`; what is there runs out. `resume` takes it back.

        Jobs that a run sends through its context are still taken: its own work would be lost otherwise. `key` is as in `pause`.
        """
        found = await self._names(queue, actor, key)
        for what in found:
            await self._store().control("pause", f"d{what}", self._told(by, reason))
        return [what[1:] for what in found]

    async def pauses(self) -> list[Pause]:
        """Return everything that is paused or drained."""
        reply = await self._store().command("HGETALL", self._store().keys.key("control"))
        found: list[Pause] = []
        for field, value in zip(reply[::2], reply[1::2], strict=True):
            told = from_json(value)
            drains, what = field.startswith(b"d"), field.decode().removeprefix("d")
            how = "drained" if drains else "paused"
            found.append(Pause(kind=KINDS[what[0]], name=what[1:], how=how, by=told["by"], at=at_ms(told["at"]), reason=told["reason"]))
        return sorted(found, key=lambda pause: (pause.kind, pause.name))

    async def limits(self) -> list[Rule]:
        """Return the limits that workers have declared, with those that were changed."""
        stored = await read_rules(self._store())
        return [Rule(name=name, limit=words(specs.holds), declared=_declared(specs)) for name, specs in stored.items()]

    async def usage(self) -> list[LimitUse]:
        """Return how much of each limit is in use now: the places that are held, or the tokens that count in its window.

        A limit that goes by an argument has a figure for each value. The call looks at a bounded number of them, and tells the fullest.
        """
        return await usage(self._store())

    async def set_limit(self, rule: str, limit: int | str | None, *, burst: int | None = None) -> None:
        """Change a limit for the whole fleet until it is changed again; None takes the declared one back.

        `rule` is a name of `limits()`; `limit` is a number for a concurrency limit, a text as "500/day" for a rate, over the same window.
        Raises InvalidOptions.
        """
        stored = await self._store().command("HGET", self._store().keys.key("rules"), rule)
        if stored is None:
            message = f"no limit is named {rule!r}: {', '.join(one.name for one in await self.limits()) or 'no worker has declared any'}"
            raise InvalidOptions(message)
        spec = "" if limit is None else _changed(rule, stored.decode().split(), limit, burst)
        await self._store().control("limit", rule, spec)

    def _told(self, by: str, reason: str) -> str:
        return orjson.dumps({"by": by or whoami(), "at": self._store().server_ms(), "reason": reason}).decode()

    async def _names(self, queue: str | None, actor: str | None, key: str | None) -> list[str]:
        if [queue, actor, key].count(None) != 2:  # noqa: PLR2004 - one of three
            message = "name one of queue=, actor= and key="
            raise InvalidOptions(message)
        if queue is not None:
            return [f"q{check_queue(queue)}"]
        if actor is not None:
            return [f"a{check_actor_name(actor)}"]
        return [f"g{gate}" for gate in await self._gates(key or "")]

    async def _gates(self, key: str) -> list[str]:
        argument, equals, value = key.partition("=")
        if equals and "@" in argument:
            return [key]
        rules = [rule.name for rule in await self.limits()]
        found = [f"{rule}={quoted(value)}" for rule in rules if _goes_by(rule, quoted(argument))]
        if not equals or not found:
            goes_by = ", ".join(rules) or "none is declared"
            message = f"key {key!r}: write argument=value, for an argument that a limit goes by, or rule=value; the limits: {goes_by}"
            raise InvalidOptions(message)
        return found


def _goes_by(rule: str, argument: str) -> bool:
    return re.sub(r"/[0-9]+s$", "", rule.rpartition("@")[0]).endswith(f".{argument}")


def words(spec: str) -> str:
    """Return a stored limit in words: "3 at a time", or "300/day", with its burst where it has one."""
    parts = spec.split()
    if len(parts) == 1:
        return f"{parts[0]} at a time"
    if not parts:
        return "none"
    most, window_ms, burst = parts
    window = {"1000": "second", "60000": "minute", "3600000": "hour", "86400000": "day"}.get(window_ms, f"{int(window_ms) // 1000}s")
    return f"{most}/{window}" + (f", {burst} at once" if burst != most else "")


def _declared(specs: Specs) -> str | None:
    return words(specs.declared) if specs.changed and specs.declared else None


def _changed(rule: str, declared: list[str], limit: int | str, burst: int | None) -> str:
    if len(declared) == 1:
        if isinstance(limit, str) or burst is not None:
            message = f"{rule} limits how many run at a time: its limit is a number, not {limit!r}"
            raise InvalidOptions(message)
        return Concurrency(limit).spec
    spec = RateLimit(str(limit), burst=burst).spec
    if spec.split()[1] != declared[1]:
        message = f"{rule} counts over {words(' '.join(declared))}: a rate is changed within its window; another window is another limit"
        raise InvalidOptions(message)
    return spec
