"""What a queue may be told beside its name: limits for all its jobs, aging of priorities, weights of tenants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .errors import InvalidOptions
from .keys import QUEUE, matches
from .limits import KEY_MAX_BYTES, Limit, check_limits, quoted
from .retry import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

WEIGHT_MIN: Final = 0.01
WEIGHT_MAX: Final = 100.0
AGING_MAX_MS: Final = 366 * 86_400_000


def check_queue(queue: str) -> str:
    """Return a queue's name. Raises InvalidOptions for one that cannot be part of a key."""
    if not matches(QUEUE, queue):
        message = f"queue {queue!r}: use 1 to 64 letters, digits, '_', '.', ':', '/' or '-'"
        raise InvalidOptions(message)
    return queue


def check_tenant(tenant: str) -> str:
    """Return a tenant's name. Raises InvalidOptions unless it is 1 to 128 bytes of printable text."""
    if not isinstance(tenant, str) or not tenant.isprintable() or not 0 < len(tenant.encode("utf-8", "replace")) <= KEY_MAX_BYTES:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"tenant {str(tenant)[:60]!r}: use 1 to {KEY_MAX_BYTES} bytes of printable text"
        raise InvalidOptions(message)
    return tenant


@dataclass(frozen=True, slots=True)
class Queue:
    """The policy of one queue, as `Runtime(queues=[Queue("mail", limits=[RateLimit("10/second")])])`.

    `limits` count all jobs of the queue. `aging` (seconds or a timedelta) lets priorities age: a job is overtaken only by jobs that were
    sent less than `aging` later for each step of priority between them, so that the last priority is not starved; without it, priorities
    are strict. `weights` are shares of tenants, 1 where none is given. Aging is of the queue's jobs from their send on: declare it before
    the queue is used. Raises InvalidOptions.
    """

    name: str
    limits: Sequence[Limit] = ()
    aging: float | timedelta | None = None
    weights: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        check_queue(self.name)
        check_limits(self.limits, None, f"queue {self.name}")
        if self.aging is not None and not 0 < self.aging_ms <= AGING_MAX_MS:
            message = (
                f"Queue({self.name!r}, aging={self.aging!r}): a step of priority is worth more than 0 s and at most a year; leave it out "
                "for strict order"
            )
            raise InvalidOptions(message)
        for tenant, weight in self.weights.items():
            check_tenant(tenant)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not WEIGHT_MIN <= weight <= WEIGHT_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - as above
                message = f"Queue({self.name!r}): the weight of tenant {tenant!r} is from {WEIGHT_MIN} to {WEIGHT_MAX:g}, not {weight!r}"
                raise InvalidOptions(message)

    @property
    def aging_ms(self) -> int:
        """What one step of priority is worth, in ms; 0 for strict order."""
        return 0 if self.aging is None else round(seconds(self.aging, "Queue(aging=)") * 1000)

    def policies(self) -> dict[str, str]:
        """Return what the scripts read of this queue beside its limits, by field of `rules`; '' for what is not so."""
        found = {f"aging {self.name}": str(self.aging_ms or "")}
        return found | {f"weight {self.name} {quoted(tenant)}": f"{weight:g}" for tenant, weight in self.weights.items()}
