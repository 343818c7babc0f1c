"""What a run may say besides returning: try again, later, or never; and the policy that decides when it just raises."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from .errors import InvalidOptions

MAX_DELAY_S = 10 * 365 * 86_400
"""Ten years: a longer delay is a mistake of units."""
MAX_ATTEMPTS = 1_000_000


def seconds(value: float | timedelta, what: str) -> float:
    """Return a duration in seconds; `what` names it in the error.

    Raises InvalidOptions when it is negative, not a number, or longer than ten years.
    """
    amount = cast("object", value.total_seconds() if isinstance(value, timedelta) else value)
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount <= MAX_DELAY_S:
        message = f"{what} must be seconds or a timedelta from 0 to ten years, not {value!r}"
        raise InvalidOptions(message)
    return float(amount)


class Retry(Exception):  # noqa: N818 - a verdict of the actor, not an error
    """Raise in an actor to be run again after `after` seconds (or by the policy's backoff); charges an attempt.

    With `gate=True`, every job that has a limit in common with this one waits as long: for an API's Retry-After.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None, gate: bool = False) -> None:
        """Check `after` (seconds or timedelta) here, where the traceback points at the caller."""
        super().__init__(reason)
        self.after_s = None if after is None else seconds(after, "Retry(after=)")
        self.gate = gate
        if gate and after is None:
            message = "Retry(gate=True) holds other jobs back, so it says for how long: Retry(after=60, gate=True)"
            raise InvalidOptions(message)


class Snooze(Exception):  # noqa: N818 - a verdict of the actor, not an error
    """Raise in an actor to be run again after `delay` seconds without charging an attempt."""

    def __init__(self, delay: float | timedelta) -> None:
        """Check `delay` (seconds or timedelta) here, where the traceback points at the caller."""
        self.delay_s = seconds(delay, "Snooze(delay)")
        super().__init__(f"snoozed for {self.delay_s:g} s")


class Fail(Exception):  # noqa: N818 - a verdict of the actor, not an error
    """Raise in an actor to end the job as failed now, whatever attempts are left; the text is shown to people."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job may run and how long it waits between runs.

    `attempts` counts runs, the first included. The wait before run n + 1 is drawn evenly from 0 to
    `min(cap, base * 2 ** (n - 1))` seconds: full jitter, as in M. Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015. The defaults outlive a deploy: eight runs spread over about two minutes on average.
    """

    attempts: int = 8
    base: float | timedelta = 2.0
    cap: float | timedelta = 600.0

    def __post_init__(self) -> None:
        """Refuse what could never work. Raises InvalidOptions."""
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or not 1 <= self.attempts <= MAX_ATTEMPTS:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"RetryPolicy(attempts=) counts runs and is at least 1, not {self.attempts!r}"
            raise InvalidOptions(message)
        object.__setattr__(self, "base", seconds(self.base, "RetryPolicy(base=)"))
        object.__setattr__(self, "cap", seconds(self.cap, "RetryPolicy(cap=)"))

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest wait in seconds after run number `attempt` (from 1)."""
        base_s, cap_s = seconds(self.base, "base"), seconds(self.cap, "cap")
        return min(cap_s, base_s * 2.0 ** min(attempt - 1, 60))

    def delay_s(self, attempt: int) -> float:
        """Draw the wait in seconds after run number `attempt` (from 1)."""
        return random.uniform(0, self.ceiling_s(attempt))  # noqa: S311 - jitter, not a secret
