"""The rules of alerts: what is measured, and from when on it is too much."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from .actor import check_actor_name
from .errors import ConfigError, InvalidOptions
from .limits import quoted
from .queue import check_queue
from .series import MINUTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .alerts_look import Look
    from .alerts_sinks import Sink

NAME_MAX_CHARS: Final = 200
DAY_S: Final = 86_400.0


class Reading(NamedTuple):
    """What a rule has measured; `value` is None where there is nothing to measure, `is_known` false where nobody can tell."""

    value: float | None
    is_over: bool
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class AlertRule(ABC):
    """One rule. `name` tells it from the others, on pages and in notices; without one it is made of what the rule says.

    `sinks` are told when it fires and when it is over; without any of its own, the log is. Raises InvalidOptions.
    """

    name: str = field(default="", kw_only=True)
    sinks: Sequence[Sink] | None = field(default=None, kw_only=True)
    unit: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse what could never work, and name what has no name."""
        self.check()
        object.__setattr__(self, "name", self.name or self.derived_name())
        if not isinstance(self.name, str) or not self.name.isprintable() or len(self.name) > NAME_MAX_CHARS:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"{type(self).__name__}(name={str(self.name)[:60]!r}): use 1 to {NAME_MAX_CHARS} printable characters"
            raise InvalidOptions(message)
        if self.sinks is None:
            return
        if not isinstance(self.sinks, list | tuple) or not all(hasattr(sink, "key") and hasattr(sink, "send") for sink in self.sinks):
            message = f"{type(self).__name__}(sinks=): give a list, as [LogSink(), Webhook('https://...')]"
            raise InvalidOptions(message)
        object.__setattr__(self, "sinks", tuple(self.sinks))

    @abstractmethod
    def check(self) -> None:
        """Raise InvalidOptions for parameters that could never work."""

    @abstractmethod
    def derived_name(self) -> str:
        """Return the name of a rule that was given none."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it means when the rule fires, in a sentence."""

    @property
    @abstractmethod
    def threshold(self) -> float:
        """What the value is compared with, in `unit`."""

    @property
    def fires_after_s(self) -> float:
        """For how long it must be over before the rule fires."""
        return 0

    @abstractmethod
    async def measure(self, look: Look) -> Reading:
        """Return what is measured now."""


@dataclass(frozen=True, slots=True)
class FailureRate(AlertRule):
    """Fires while more than the share `over` of the jobs that ended in the last `minutes` failed, and `at_least` so many ended.

    Cancelled jobs do not count, nor do attempts that are followed by another. Raises InvalidOptions.
    """

    over: float = 0.05
    minutes: int = 5
    at_least: int = 20
    queue: str | None = None
    actor: str | None = None
    unit: ClassVar[str] = "share"

    def check(self) -> None:
        """Check the numbers and names."""
        _check_share(self, self.over)
        _check_whole(self, "minutes", self.minutes, MINUTES_MAX)
        _check_whole(self, "at_least", self.at_least, 1_000_000_000)
        _check_where(self.queue, self.actor)

    def derived_name(self) -> str:
        """Return threshold, window and place."""
        return f"failure rate over {_percent(self.over)} in {self.minutes} min{_where(self.queue, self.actor)}"

    @property
    def description(self) -> str:
        """Which jobs fail how often."""
        return (
            f"more than {_percent(self.over)} of the jobs that ended in the last {self.minutes} min failed{_where(self.queue, self.actor)}"
        )

    @property
    def threshold(self) -> float:
        """The share, from 0 to 1."""
        return self.over

    async def measure(self, look: Look) -> Reading:
        """Return the share of failed jobs."""
        found = await look.figures(self.minutes, self.queue, self.actor)
        ended = found.completed + found.failed
        rate = found.failed / ended if ended else None
        return Reading(rate, rate is not None and rate > self.over and ended >= self.at_least)


@dataclass(frozen=True, slots=True)
class BacklogAge(AlertRule):
    """Fires while the oldest ready job of a queue, or of any, has waited for more than `over_s` seconds. Raises InvalidOptions.

    Jobs that wait for their time or at a limit do not count; those of a paused queue do.
    """

    over_s: float = 60
    queue: str | None = None
    unit: ClassVar[str] = "s"

    def check(self) -> None:
        """Check the number and the name."""
        _check_number(self, "over_s", self.over_s, 30 * DAY_S)
        _check_where(self.queue)

    def derived_name(self) -> str:
        """Return threshold and place."""
        return f"backlog older than {self.over_s:.10g} s{_where(self.queue)}"

    @property
    def description(self) -> str:
        """How long who waits."""
        return f"the oldest ready job has waited for more than {self.over_s:.10g} s{_where(self.queue)}"

    @property
    def threshold(self) -> float:
        """Seconds."""
        return self.over_s

    async def measure(self, look: Look) -> Reading:
        """Return the age of the oldest ready job in seconds, 0 where nothing waits."""
        depths = (await look.stats()).queues
        age_s = max((depth.oldest_ready_ms or 0 for depth in depths if self.queue in (None, depth.queue)), default=0) / 1000
        return Reading(age_s, age_s > self.over_s)


@dataclass(frozen=True, slots=True)
class PickupP99(AlertRule):
    """Fires while one job in a hundred that began in the last `minutes` had waited for more than `over_ms`. Raises InvalidOptions."""

    over_ms: float = 5_000
    minutes: int = 5
    queue: str | None = None
    actor: str | None = None
    unit: ClassVar[str] = "ms"

    def check(self) -> None:
        """Check the numbers and names."""
        _check_number(self, "over_ms", self.over_ms, 1000 * DAY_S)
        _check_whole(self, "minutes", self.minutes, MINUTES_MAX)
        _check_where(self.queue, self.actor)

    def derived_name(self) -> str:
        """Return threshold, window and place."""
        return f"pickup p99 over {self.over_ms:.10g} ms in {self.minutes} min{_where(self.queue, self.actor)}"

    @property
    def description(self) -> str:
        """How long who waited."""
        what = f"one job in a hundred waited for more than {self.over_ms:.10g} ms before it began"
        return f"{what}, in the last {self.minutes} min{_where(self.queue, self.actor)}"

    @property
    def threshold(self) -> float:
        """Milliseconds."""
        return self.over_ms

    async def measure(self, look: Look) -> Reading:
        """Return the 99th percentile in ms; None where nothing began."""
        p99_ms = (await look.figures(self.minutes, self.queue, self.actor)).pickup_p99_ms
        return Reading(p99_ms, p99_ms is not None and p99_ms > self.over_ms)


@dataclass(frozen=True, slots=True)
class NoWorker(AlertRule):
    """Fires when no live worker has served a queue, or there was none at all, for `for_s` seconds. Raises InvalidOptions.

    Somebody must be there to see it: the dashboard, or the workers of other queues.
    """

    for_s: float = 30
    queue: str | None = None
    unit: ClassVar[str] = "workers"

    def check(self) -> None:
        """Check the number and the name."""
        _check_number(self, "for_s", self.for_s, DAY_S)
        _check_where(self.queue)

    def derived_name(self) -> str:
        """Return time and place."""
        return f"no worker for {self.for_s:.10g} s{_where(self.queue)}"

    @property
    def description(self) -> str:
        """Where nobody works."""
        return f"{'no live worker' if self.queue is None else f'no live worker of queue {self.queue}'} for {self.for_s:.10g} s"

    @property
    def threshold(self) -> float:
        """One worker is wanted."""
        return 1

    @property
    def fires_after_s(self) -> float:
        """The time that a restart of all workers may take."""
        return self.for_s

    async def measure(self, look: Look) -> Reading:
        """Return the number of live workers."""
        live = await look.live_workers(self.queue)
        return Reading(live, live == 0)


@dataclass(frozen=True, slots=True)
class QuotaUsed(AlertRule):
    """Fires while more than the share `over` of a limit is taken: of a rate's tokens in its window, or of the places to run.

    `rule` is a name of `rt.control.limits()`. A limit that goes by an argument has as many gates as that has values: name one as `key`.
    Raises InvalidOptions.
    """

    over: float = 0.9
    rule: str = field(default="", kw_only=True)
    key: str | int = field(default="", kw_only=True)
    unit: ClassVar[str] = "share"

    def check(self) -> None:
        """Check number and names."""
        _check_share(self, self.over)
        if not isinstance(self.rule, str) or not all(self.rule.partition("@")) or " " in self.rule:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"QuotaUsed(rule={self.rule!r}): give the name of a limit, as `python -m angelrt limits` lists it: 'send/1s@mail'"
            raise InvalidOptions(message)
        if isinstance(self.key, bool) or not isinstance(self.key, str | int):  # pyright: ignore[reportUnnecessaryIsInstance] - as above
            message = f"QuotaUsed(key={self.key!r}): give the value of the argument that the limit goes by, a text or a whole number"
            raise InvalidOptions(message)

    def derived_name(self) -> str:
        """Return threshold and limit."""
        return f"quota over {_percent(self.over)}, {self._shown}"

    @property
    def description(self) -> str:
        """How much of what is taken."""
        return f"more than {_percent(self.over)} of limit {self._shown} is taken"

    @property
    def threshold(self) -> float:
        """The share, from 0 to 1."""
        return self.over

    async def measure(self, look: Look) -> Reading:
        """Return the share that is taken."""
        used = await look.quota_used(self.rule, f"{self.rule}={quoted(str(self.key))}")
        return Reading(used, used is not None and used > self.over, is_known=used is not None)

    @property
    def _shown(self) -> str:
        return f"{self.rule}{'' if self.key == '' else f' for {self.key}'}"


def check_rules(rules: Iterable[AlertRule]) -> tuple[AlertRule, ...]:
    """Return rules as a tuple. Raises ConfigError for what is no rule, and for two of one name."""
    found = tuple(rules)
    for rule in found:
        if not isinstance(rule, AlertRule):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"alerts= is a list of rules, as BacklogAge(over_s=60), not {rule!r}"
            raise ConfigError(message)
    names = [rule.name for rule in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"alerts=: two rules are named {twice[0]!r}: give one of them another name="
        raise ConfigError(message)
    return found


def _percent(share: float) -> str:
    return f"{share * 100:.10g}%"


def _where(queue: str | None, actor: str | None = None) -> str:
    return "".join(f", {word} {name}" for word, name in (("queue", queue), ("actor", actor)) if name is not None)


def _check_where(queue: str | None, actor: str | None = None) -> None:
    if queue is not None:
        check_queue(queue)
    if actor is not None:
        check_actor_name(actor)


def _check_share(rule: AlertRule, over: float) -> None:
    if isinstance(over, bool) or not isinstance(over, int | float) or not 0 <= over < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"{type(rule).__name__}(over={over!r}): use a share from 0 up to, and without, 1: 0.05 is 5%"
        raise InvalidOptions(message)


def _check_number(rule: AlertRule, what: str, number: float, most: float) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= most:  # pyright: ignore[reportUnnecessaryIsInstance] - as above
        message = f"{type(rule).__name__}({what}={number!r}): use more than 0 and at most {most:,.0f}"
        raise InvalidOptions(message)


def _check_whole(rule: AlertRule, what: str, number: int, most: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:  # pyright: ignore[reportUnnecessaryIsInstance] - as above
        message = f"{type(rule).__name__}({what}={number!r}): use a whole number from 1 to {most:,}"
        raise InvalidOptions(message)
