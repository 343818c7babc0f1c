"""One job at a time for the same work: the key by which a send finds the one that is there already."""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from .errors import InvalidOptions
from .limits import quoted
from .retry import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

KEY_MAX_CHARS: Final = 100
UNTIL: Final = {"finished": "f", "started": "s"}
ON_CONFLICT: Final = {"existing": "e", "replace": "r", "reject": "j"}


class Unique:
    """A send of the same arguments finds the job that is there: `Unique("path")`, or `Unique()` for all arguments.

    `until` says how long the job stands in the way: until it is "finished" (retries included), until it is "started", or so many seconds
    after its send, whatever became of it. `on_conflict`: "existing" returns the job that is there (`created` is false), "replace" cancels
    it if it still waits and puts the new one in its place, "reject" raises DuplicateJob. `debounce=5` is for bursts: each send replaces the
    one that waits and begins five seconds of quiet anew; the last one runs. Raises InvalidOptions.
    """

    def __init__(
        self,
        *arguments: str,
        until: Literal["finished", "started"] | float | timedelta = "finished",
        on_conflict: Literal["existing", "replace", "reject"] = "existing",
        debounce: float | timedelta | None = None,
    ) -> None:
        """Check the words."""
        self.arguments = arguments
        self.debounce_s = None if debounce is None else seconds(debounce, "Unique(debounce=)")
        if debounce is not None:
            if until != "finished" or on_conflict != "existing":
                message = "Unique(debounce=) replaces what waits until it starts: leave until= and on_conflict= out"
                raise InvalidOptions(message)
            until, on_conflict = "started", "replace"
        if on_conflict not in ON_CONFLICT:
            message = f"Unique(on_conflict={on_conflict!r}): use one of {', '.join(ON_CONFLICT)}"
            raise InvalidOptions(message)
        self._conflict = ON_CONFLICT[on_conflict]
        self._until = self._read_until(until)

    @staticmethod
    def _read_until(until: str | float | timedelta) -> str:
        if isinstance(until, str):
            if until not in UNTIL:
                message = f"Unique(until={until!r}): use 'finished', 'started', or seconds"
                raise InvalidOptions(message)
            return UNTIL[until]
        window_ms = round(seconds(until, "Unique(until=)") * 1000)
        if window_ms < 1:
            message = f"Unique(until={until!r}): a time of uniqueness is at least a millisecond"
            raise InvalidOptions(message)
        return str(window_ms)

    def check(self, function: Callable[..., Any], actor: str) -> None:
        """Raise InvalidOptions for a name that is no argument of the actor."""
        names = inspect.signature(function).parameters
        for argument in self.arguments:
            if argument not in names:
                message = f"actor {actor}: Unique({argument!r}) names no argument: its arguments are {', '.join(names) or 'none'}"
                raise InvalidOptions(message)

    def item(self, actor: str, arguments: bytes, defaults: Mapping[str, Any]) -> str:
        """Return the key as an item of a job's flow; a long one is stored as its digest."""
        named = {**defaults, **orjson.loads(arguments or b"{}")}
        values = {name: named.get(name) for name in self.arguments} if self.arguments else named
        text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
        key = quoted(text.decode())
        if len(key) > KEY_MAX_CHARS:
            key = hashlib.sha256(text).hexdigest()[:32]
        return f"u{quoted(actor)}:{key}*{self._until}*{self._conflict}"
