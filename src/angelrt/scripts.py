"""The Lua scripts with their bindings: which keys and fixed arguments each takes, in the order of its header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from .keys import COUNTER_KEYS, OWN_KEYS, QUEUE_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .keys import Keys


CORE: Final = "_core.lua"
PRELUDE: Final = "_prelude.lua"
HOLDS: Final = "_holds.lua"
LIBRARY: Final = ("_gates.lua", "_turns.lua", "_suspects.lua", "_moves.lua")
EVERY_KEY: Final = (*OWN_KEYS, *COUNTER_KEYS)


def text_of(file: str) -> str:
    """Return the text of a file in `lua`."""
    return (resources.files("angelrt") / "lua" / file).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Script:
    """One verb, or the short way of one. `flags` are of the server's `#!lua` line.

    It gets every key of the partition and of its queues, but a short way those alone that it names: each key costs the server nearly a
    microsecond a call. Without the library where the verb needs none of it: what a server keeps compiled is marked each time it collects
    Lua's garbage, within its clients' calls. `beside` is a text that a verb shares with its short way alone.
    """

    name: str
    arguments: tuple[str, ...]
    flags: str = "allow-oom"
    file: str = ""
    has_library: bool = True
    is_short: bool = False
    beside: str = ""
    own_keys: tuple[str, ...] = EVERY_KEY
    queue_keys: tuple[str, ...] = QUEUE_KEYS

    @property
    def key_names(self) -> str:
        """The names of its keys: those of the partition are locals, those of a queue are places behind the keys before it."""
        return (
            f"local {', '.join(self.own_keys).upper()} = unpack(KEYS, 1, {len(self.own_keys)})\n"
            f"local OWN_KEYS, QUEUE_KEYS = {len(self.own_keys)}, {len(self.queue_keys)}\n"
            f"local {', '.join(self.queue_keys).upper()} = {', '.join(map(str, range(1, len(self.queue_keys) + 1)))}"
        )

    @property
    def shared(self) -> str:
        """What it shares with other verbs, the library in the function that makes it.

        The library and the verb are functions of their own, so that those within take over what they share from them: for each local of the
        chunk itself that a function uses, Lua searches a list of all of them when the function is made.
        """
        library = [text_of(HOLDS), "make_library = function()", *map(text_of, LIBRARY), "end"] if self.has_library else []
        prelude = [] if self.is_short else [text_of(PRELUDE), *library]
        return "\n".join([text_of(CORE), *([text_of(self.beside)] if self.beside else []), *prelude])

    @cached_property
    def source(self) -> str:
        """The whole text that the server gets: shebang, names of keys, what is shared, verb."""
        shebang = f"#!lua flags={self.flags}" if self.flags else "#!lua"
        verb = text_of(f"{self.file or self.name}.lua")
        body = [verb] if self.is_short else ["local function verb()", verb, "end", "return verb()"]
        return "\n".join([shebang, self.key_names, self.shared, *body])

    @cached_property
    def sha(self) -> str:
        """The name under which the server caches the script."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def own_of(self) -> Callable[[Sequence[str]], tuple[str, ...]]:
        """Picks its keys out of all the partition's own."""
        return _picker(EVERY_KEY, self.own_keys)

    @cached_property
    def queue_of(self) -> Callable[[Sequence[str]], tuple[str, ...]]:
        """Picks its keys out of all of a queue."""
        return _picker(QUEUE_KEYS, self.queue_keys)


_ENQUEUE_ARGUMENTS: Final = ("now_ms", "events_max", "jobs")
ENQUEUE: Final = Script("enqueue", _ENQUEUE_ARGUMENTS, flags="")
ENQUEUE_PLAIN: Final = Script(
    "enqueue_plain", _ENQUEUE_ARGUMENTS, flags="", is_short=True,
    own_keys=("jobs", "queues", "events", "rules", "control", "stats", "minute"), queue_keys=("ready", "wake"),
)  # fmt: skip
_CLAIM_ARGUMENTS: Final = ("now_ms", "events_max", "worker", "token", "lease_ms", "capacity", "actors", "how")
CLAIM: Final = Script("claim", (*_CLAIM_ARGUMENTS, "free", "looked_ms"), beside="_answer.lua")
CLAIM_PLAIN: Final = Script(
    "claim_plain", _CLAIM_ARGUMENTS, is_short=True, beside="_answer.lua",
    own_keys=("jobs", "runs", "held", "events", "beats", "control"),
    queue_keys=("ready", "delayed", "leased", "opens", "wake", "expires", "turns"),
)  # fmt: skip
_SETTLE_ARGUMENTS: Final = ("now_ms", "events_max", "worker", "retention", "runs")
SETTLE: Final = Script("settle", _SETTLE_ARGUMENTS, beside="_verdicts.lua")
SETTLE_PLAIN: Final = Script(
    "settle_plain", _SETTLE_ARGUMENTS, is_short=True, beside="_verdicts.lua",
    own_keys=("jobs", "runs", "blobs", "results", "notes", "held", "watch", "completed", "events", "stats", "minute"),
    queue_keys=("ready", "leased"),
)  # fmt: skip
SETTLE_WITH_CHILDREN: Final = Script("settle_with_children", _SETTLE_ARGUMENTS, flags="", file="settle", beside="_verdicts.lua")
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
        *(ENQUEUE, ENQUEUE_PLAIN, CLAIM, CLAIM_PLAIN, SETTLE, SETTLE_PLAIN, SETTLE_WITH_CHILDREN, RENEW, TICK, BEAT, EXPIRE_WORKER, CANCEL),
        *(REPLAY, PURGE, CONTROL, SCHEDULE, UNSCHEDULE, WATCH, INSPECT, EXPLAIN),
    )
}


def _picker(names: Sequence[str], wanted: Sequence[str]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    first, second, *others = (names.index(name) for name in wanted)
    return itemgetter(first, second, *others)


class QueueIndex(dict[str, str]):
    """Numbers the queues that one call touches, from 1 and as text, as they go into arguments; in this order the call gets their keys."""

    def __init__(self, queues: Iterable[str] = ()) -> None:
        """Begin with some queues, or with none."""
        super().__init__()
        for queue in queues:
            self[queue]

    def __missing__(self, queue: str) -> str:
        """Give the next number to a queue that is touched for the first time."""
        self[queue] = number = str(len(self) + 1)
        return number


def evalsha(keys: Keys, script: Script, queues: Iterable[str], arguments: Sequence[Any], now_ms: float) -> list[Any]:
    """Return the command that calls a script, which gets its keys of the partition, then those of each queue."""
    taken = [*script.own_of(keys.own(now_ms))]
    for queue in queues:
        taken += script.queue_of(keys.queue(queue))
    return ["EVALSHA", script.sha, len(taken), *taken, *arguments]


def as_eval(script: Script, command: Sequence[Any]) -> list[Any]:
    """Return the command that carries the script's text, for a server that does not know it yet."""
    return ["EVAL", script.source, *command[2:]]
