"""The Lua scripts with their bindings: which keys and fixed arguments each takes, in the order of its header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .keys import Keys


CORE: Final = "_core.lua"
PRELUDE: Final = "_prelude.lua"
HOLDS: Final = "_holds.lua"
LIBRARY: Final = ("_gates.lua", "_turns.lua", "_suspects.lua", "_moves.lua")
SHORT_WAYS: Final = {"enqueue": "_enqueue_plain.lua", "claim": "_claim_plain.lua", "settle": "_settle_plain.lua"}
"""What stands before the prelude: a call of plain jobs ends there, and makes none of the functions that come after."""


def text_of(file: str) -> str:
    """Return the text of a file in `lua`."""
    return (resources.files("angelrt") / "lua" / file).read_text(encoding="utf-8")


def short_way(verb: str) -> str:
    """Return the short way of a verb; empty for a verb that has none."""
    return text_of(SHORT_WAYS[verb]) if verb in SHORT_WAYS else ""


@dataclass(frozen=True)
class Script:
    """One verb. It gets every key of the partition, then those of each queue; `flags` are of the server's `#!lua` line.

    Without the library where the verb needs none of it: what a server keeps compiled is marked each time it collects Lua's garbage, within
    its clients' calls.
    """

    name: str
    arguments: tuple[str, ...]
    flags: str = "allow-oom"
    file: str = ""
    has_library: bool = True

    @property
    def shared(self) -> str:
        """What its long way shares with those of other verbs, the library in the function that makes it.

        The library and the verb are functions of their own, so that those within take over what they share from them: for each local of the
        chunk itself that a function uses, Lua searches a list of all of them when the function is made.
        """
        library = [text_of(HOLDS), "make_library = function()", *map(text_of, LIBRARY), "end"] if self.has_library else []
        return "\n".join([text_of(PRELUDE), *library])

    @cached_property
    def source(self) -> str:
        """The whole text that the server gets: shebang, core, short way, what long ways share, verb."""
        verb = self.file or self.name
        shebang = f"#!lua flags={self.flags}" if self.flags else "#!lua"
        ahead = [shebang, text_of(CORE), short_way(verb), self.shared]
        return "\n".join([*ahead, "local function verb()", text_of(f"{verb}.lua"), "end", "return verb()"])

    @cached_property
    def sha(self) -> str:
        """The name under which the server caches the script."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


_SETTLE_ARGUMENTS: Final = (
    *("now_ms", "events_max", "worker", "completed_age_ms", "completed_max", "failed_age_ms", "failed_max"),
    *("cancelled_age_ms", "cancelled_max", "runs"),
)

ENQUEUE: Final = Script("enqueue", ("now_ms", "events_max", "jobs"), flags="")
_CLAIM_ARGUMENTS: Final = ("now_ms", "events_max", "worker", "token", "lease_ms", "capacity", "free", "resend", "actors", "looked_ms")
CLAIM: Final = Script("claim", _CLAIM_ARGUMENTS)
SETTLE: Final = Script("settle", _SETTLE_ARGUMENTS)
SETTLE_WITH_CHILDREN: Final = Script("settle_with_children", _SETTLE_ARGUMENTS, flags="", file="settle")
RENEW: Final = Script("renew", ("now_ms", "lease_ms"), has_library=False)
TICK: Final = Script("tick", ("now_ms",))
BEAT: Final = Script("beat", ("now_ms", "worker", "info"), has_library=False)
EXPIRE_WORKER: Final = Script("expire_worker", ("now_ms", "events_max", "worker", "how", "beat_ms"))
CANCEL: Final = Script("cancel", ("now_ms", "events_max", "who"))
REPLAY: Final = Script("replay", ("now_ms", "events_max"))
PURGE: Final = Script("purge", ("now_ms", "events_max"), has_library=False)
CONTROL: Final = Script("control", ("now_ms", "verb", "what", "value"))
_SCHEDULE_ARGUMENTS: Final = ("now_ms", "events_max", "name", "expected", "new", "previous", "how", "jobs")
SCHEDULE: Final = Script("schedule", _SCHEDULE_ARGUMENTS, flags="")
UNSCHEDULE: Final = Script("unschedule", _SCHEDULE_ARGUMENTS, file="schedule")
WATCH: Final = Script("watch", ("client",), has_library=False)
INSPECT: Final = Script("inspect", (), flags="no-writes")
EXPLAIN: Final = Script("explain", ("now_ms", "id", "actors"), flags="no-writes")

SCRIPTS: Final = {
    script.name: script
    for script in (
        *(ENQUEUE, CLAIM, SETTLE, SETTLE_WITH_CHILDREN, RENEW, TICK, BEAT, EXPIRE_WORKER, CANCEL),
        *(REPLAY, PURGE, CONTROL, SCHEDULE, UNSCHEDULE, WATCH, INSPECT, EXPLAIN),
    )
}


class QueueIndex(dict[str, str]):
    """Numbers the queues that one call touches, from 1 and as the argument that a number becomes, and collects their keys."""

    def __init__(self, keys: Keys, queues: Iterable[str] = ()) -> None:
        """Begin with some queues, or with none."""
        super().__init__()
        self._keys = keys
        self.queue_keys: list[str] = []
        for queue in queues:
            self[queue]

    def __missing__(self, queue: str) -> str:
        """Give the next number to a queue that is touched for the first time."""
        self.queue_keys.extend(self._keys.queue(queue))
        self[queue] = number = str(len(self) + 1)
        return number


def as_eval(script: Script, command: Sequence[Any]) -> list[Any]:
    """Return the command that carries the script's text, for a server that does not know it yet."""
    return ["EVAL", script.source, *command[2:]]
