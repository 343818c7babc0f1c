"""The Lua scripts with their bindings: which keys and fixed arguments each takes, in the order of its header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Script:
    """One verb. `keys` are the partition's own, before those of each queue; `flags` are of the server's `#!lua` line."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    flags: str = "allow-oom"
    file: str = ""

    @cached_property
    def source(self) -> str:
        """The whole text that the server gets: shebang, prelude, verb."""
        folder = resources.files("angelrt") / "lua"
        prelude = (folder / "_prelude.lua").read_text(encoding="utf-8")
        verb = (folder / f"{self.file or self.name}.lua").read_text(encoding="utf-8")
        shebang = f"#!lua flags={self.flags}" if self.flags else "#!lua"
        return f"{shebang}\n{prelude}\n{verb}"

    @cached_property
    def sha(self) -> str:
        """The name under which the server caches the script."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


_SETTLE_KEYS: Final = (
    *("jobs", "runs", "blobs", "results", "notes", "held", "watch", "completed", "failed", "cancelled", "queues", "stats", "events"),
)
_SETTLE_ARGUMENTS: Final = (
    *("now_ms", "events_max", "worker", "inbox", "completed_age_ms", "completed_max", "failed_age_ms", "failed_max"),
    *("cancelled_age_ms", "cancelled_max", "runs"),
)

ENQUEUE: Final = Script("enqueue", ("jobs", "runs", "blobs", "queues", "stats", "events"), ("now_ms", "events_max"), flags="")
CLAIM: Final = Script(
    "claim",
    ("jobs", "runs", "held", "beats", "stats", "events"),
    ("now_ms", "events_max", "worker", "token", "lease_ms", "capacity", "resend", "actors"),
)
SETTLE: Final = Script("settle", _SETTLE_KEYS, _SETTLE_ARGUMENTS)
SETTLE_WITH_CHILDREN: Final = Script("settle_with_children", _SETTLE_KEYS, _SETTLE_ARGUMENTS, flags="", file="settle")
RENEW: Final = Script("renew", ("runs",), ("now_ms", "lease_ms"))
TICK: Final = Script("tick", ("runs", "held", "stats"), ("now_ms",))
BEAT: Final = Script("beat", ("beats", "workers"), ("now_ms", "worker", "info"))
EXPIRE_WORKER: Final = Script(
    "expire_worker", ("runs", "held", "beats", "workers", "stats", "events"), ("now_ms", "events_max", "worker", "how", "beat_ms")
)
WATCH: Final = Script("watch", ("jobs", "results", "watch", "completed", "failed", "cancelled"), ("client",))
INSPECT: Final = Script("inspect", ("jobs", "runs", "results", "notes", "completed", "failed", "cancelled"), (), flags="no-writes")

SCRIPTS: Final = {
    script.name: script for script in (ENQUEUE, CLAIM, SETTLE, SETTLE_WITH_CHILDREN, RENEW, TICK, BEAT, EXPIRE_WORKER, WATCH, INSPECT)
}


def as_eval(script: Script, command: Sequence[Any]) -> list[Any]:
    """Return the command that carries the script's text, for a server that does not know it yet."""
    return ["EVAL", script.source, *command[2:]]
