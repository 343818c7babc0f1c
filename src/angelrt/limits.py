"""Limits that hold for the whole fleet, and the flow of a job: what may hold it back, as the scripts read it.

A limit is a rule; for each value of the argument that it goes by it has a gate of its own. A rule belongs to one queue.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

import orjson

from .errors import InvalidArguments, InvalidOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_MAX: Final = 1_000_000_000
KEY_MAX_BYTES: Final = 128
RULE_NAME: Final = re.compile(r"[\w.:/<>-]{1,128}")
RATE: Final = re.compile(r"(?P<most>[0-9][0-9_]*) ?/ ?(?P<count>[0-9]*) ?(?P<unit>[smhdw]|(?:second|minute|hour|day|week)s?)")
UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
WINDOW_MAX_MS: Final = 366 * UNIT_MS["d"]
SAFE: Final = "._:/<>-@"
"""What stays as it is when a name or value is quoted; `=`, `,`, `*`, space and NUL part the items of a flow."""


def quoted(text: str) -> str:
    """Return text as it stands in a flow, quoted as in a URL."""
    return quote(text, safe=SAFE)


def check_most(most: int, what: str) -> int:
    """Return a limit. Raises InvalidOptions unless it is a whole number from 1 up."""
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"{what} is a whole number from 1 to {MOST_MAX:,}, not {most!r}; to let nothing through, pause"
        raise InvalidOptions(message)
    return most


def read_rate(rate: str) -> tuple[int, int]:
    """Return tokens and window in ms of a text as "300/day", "10/second" or "5/30s". Raises InvalidOptions."""
    match = RATE.fullmatch(rate.strip()) if isinstance(rate, str) else None  # pyright: ignore[reportUnnecessaryIsInstance] - as above
    if match is None:
        message = f"RateLimit({rate!r}): write a number and a window, as in '300/day', '10/second' or '5/30s'"
        raise InvalidOptions(message)
    window_ms = int(match["count"] or 1) * UNIT_MS[match["unit"][0]]
    if not 1 <= window_ms <= WINDOW_MAX_MS:
        message = f"RateLimit({rate!r}): the window is from one second to 366 days"
        raise InvalidOptions(message)
    return check_most(int(match["most"]), f"RateLimit({rate!r}): the limit"), window_ms


def check_rule_name(name: str | None) -> None:
    """Raise InvalidOptions for the name of a limit that could not stand in a rule."""
    if name is not None and (not isinstance(name, str) or not RULE_NAME.fullmatch(name)):  # pyright: ignore[reportUnnecessaryIsInstance] - as above
        message = f"the name of a limit is 1 to 128 letters, digits or any of '._:/<>-', not {name!r}"
        raise InvalidOptions(message)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `most` jobs at a time over the whole fleet, for each value of the argument `per`, or in all.

    Counted by leases: a crash frees its place when the lease of the lost worker ends. A thread that goes on after
    its run was cancelled is not counted. Actors of one queue that give the same `name` share the limit. Raises InvalidOptions.
    """

    most: int
    per: str | None = None
    name: str | None = None
    letter: ClassVar[str] = "c"

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        check_most(self.most, "Concurrency(most)")
        check_rule_name(self.name)

    @property
    def suffix(self) -> str:
        """What tells this limit from others of the same actor, beside `per`."""
        return ""

    @property
    def spec(self) -> str:
        """The limit as the scripts read it."""
        return str(self.most)

    def item(self, gate: str, arguments: Mapping[str, Any], cost: int | None) -> str:  # noqa: ARG002 - a rate's counterpart uses them
        """Return the gate as an item of a flow."""
        return f"{self.letter}{gate}"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many tokens in any window of that length: `RateLimit("300/day", per="account")`. A job takes one, or its `cost`.

    `cost` is a number or the name of the argument that holds it; `context.used(n)` corrects it when the run ends. `burst` (default: the
    whole limit) is how many may be taken at once, the rest at an even pace. What was taken counts by slices of 1/64 of the window, and up
    to two slices longer than the window, so that a start that follows its claim late breaks no limit; a rate that is used up thus brings
    about 97% of its number. Raises InvalidOptions.
    """

    rate: str
    per: str | None = None
    burst: int | None = None
    cost: int | str | None = None
    name: str | None = None
    letter: ClassVar[str] = "r"

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        most, _ = read_rate(self.rate)
        if self.burst is not None and check_most(self.burst, f"RateLimit({self.rate!r}, burst)") > most:
            message = f"RateLimit({self.rate!r}, burst={self.burst}): a burst is at most the limit itself"
            raise InvalidOptions(message)
        if self.cost is not None and not isinstance(self.cost, str):
            self.check_cost(self.cost)
        check_rule_name(self.name)

    def check_cost(self, cost: object) -> int:
        """Return a cost. Raises InvalidOptions unless it is a whole number from 1 to the limit."""
        most, _ = read_rate(self.rate)
        if isinstance(cost, bool) or not isinstance(cost, int) or not 1 <= cost <= most:
            message = (
                f"the cost under RateLimit({self.rate!r}): use a whole number from 1 to {most:,}; a job over the limit could never run"
            )
            raise InvalidOptions(message)
        return cost

    @property
    def suffix(self) -> str:
        """What tells this limit from others of the same actor, beside `per`."""
        return f"/{read_rate(self.rate)[1] // 1000}s"

    @property
    def spec(self) -> str:
        """The limit as the scripts read it."""
        most, window_ms = read_rate(self.rate)
        return f"{most} {window_ms} {self.burst or most}"

    def item(self, gate: str, arguments: Mapping[str, Any], cost: int | None) -> str:
        """Return the gate as an item of a flow. Raises InvalidOptions for a cost over the limit."""
        if self.cost is None:
            return f"{self.letter}{gate}"
        own = arguments.get(self.cost) if isinstance(self.cost, str) else self.cost
        return f"{self.letter}{gate}*{self.check_cost(own if cost is None else cost)}"


Limit = Concurrency | RateLimit


def check_limits(limits: Sequence[Limit], function: Callable[..., Any] | None, what: str) -> tuple[Limit, ...]:
    """Return the limits of an actor or (without a function) of a queue. Raises InvalidOptions for a `per` that names no argument."""
    if isinstance(limits, Limit | str):
        message = f"{what}: limits are a list: limits=[{limits!r}]"
        raise InvalidOptions(message)
    names = list(inspect.signature(function).parameters) if function else []
    for limit in limits:
        if not isinstance(limit, Limit):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"{what}: limits are a list of Concurrency(...) and RateLimit(...), not {limit!r}"
            raise InvalidOptions(message)
        cost = limit.cost if isinstance(limit, RateLimit) else None
        for word, argument in (("per", limit.per), ("cost", cost)):
            if isinstance(argument, str) and argument not in names:
                where = (
                    f"its arguments are {', '.join(names) or 'none'}"
                    if function
                    else "a queue's limit counts all its jobs; declare it on the actor"
                )
                message = f"{what}: {word}={argument!r} names no argument: {where}"
                raise InvalidOptions(message)
    _check_rules(limits, what)
    return tuple(limits)


def _check_rules(limits: Sequence[Limit], what: str) -> None:
    """Raise InvalidOptions for two limits that are one rule and differ."""
    specs: dict[tuple[str | None, ...], str] = {}
    for limit in limits:
        rule = (limit.name,) if limit.name else (limit.per, limit.suffix)
        if specs.setdefault(rule, limit.spec) != limit.spec:
            message = f"{what}: two of its limits are one rule and differ ({limit!r}): give one of them a name="
            raise InvalidOptions(message)


def rule_of(limit: Limit, actor: str, queue: str) -> str:
    """Return the name of a limit's rule: `actor.argument@queue`, or `name@queue` for one that has a name; '' is the whole queue's actor."""
    own = limit.name or f"{actor}{f'.{limit.per}' if limit.per else ''}{limit.suffix}"
    return f"{quoted(own)}@{quoted(queue)}"


def gates_of(
    limits: Sequence[Limit], actor: str, queue: str, arguments: bytes, defaults: Mapping[str, Any], cost: int | None = None
) -> list[str]:
    """Return the gates of a job as items of its flow. Raises InvalidArguments for a key, InvalidOptions for a cost that cannot be."""
    if not limits:
        return []
    named = {**defaults, **orjson.loads(arguments or b"{}")} if any(limit.per or isinstance(limit, RateLimit) for limit in limits) else {}
    return [limit.item(f"{rule_of(limit, actor, queue)}={_key(limit, named, actor)}", named, cost) for limit in limits]


def _key(limit: Limit, arguments: Mapping[str, Any], actor: str) -> str:
    if limit.per is None:
        return ""
    value = arguments.get(limit.per)
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    if not isinstance(value, str | int | None) or not text.isprintable() or not 0 < len(text.encode("utf-8", "replace")) <= KEY_MAX_BYTES:
        message = (
            f"arguments of actor {actor}: {limit.per} is the key of a limit: use a whole number, or 1 to {KEY_MAX_BYTES} bytes of "
            f"printable text, not {len(text)} characters of {type(value).__name__}"
        )
        raise InvalidArguments(message)
    return quoted(text)
