"""When a schedule's times come: cron expressions in a time zone, or an interval. Pure: what time it is, the caller says.

cronsim parses and computes, after Debian's cron. A time of day that the start of summer time skips comes at the end of the gap; one that
its end repeats comes once, the first time. Expressions whose minute or hour begins with a star go by elapsed time, through both.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from .errors import InvalidOptions
from .retry import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

UTC_NAME: Final = "UTC"
CRON_MAX_CHARS: Final = 200
EVERY_MIN_S: Final = 1.0
MISFIRES: Final = ("skip", "once", "all")
CATCH_UP_MAX: Final = 100
"""So many missed occurrences are caught up in one call; the next call goes on."""
FIELDS: Final = "minute hour day-of-month month day-of-week (with seconds: one more in front), as '0 3 * * *' for 3:00 every day"


class Steps(NamedTuple):
    """What a schedule does when the time of its occurrence has come.

    Occurrences at `times_ms` are inserted; `last_ms` is then the latest that has come due, `next_ms` the one to wait for, 0 for none ever.
    With `missed_ms`, the first of `times_ms` makes up for all that were missed since then, unless an earlier one does so already.
    """

    times_ms: list[int]
    last_ms: int
    next_ms: int
    missed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The times of a schedule: `cron` in `zone`, or every `every_ms` from `anchor_ms` on. Times are milliseconds since 1970."""

    cron: str | None = None
    every_ms: int | None = None
    zone: str = UTC_NAME
    anchor_ms: int = 0

    def after(self, ms: float) -> int | None:
        """Return the first time after `ms`, or None when none comes within fifty years."""
        if self.cron is None:
            every_ms = self.every_ms or 1
            return self.anchor_ms + int((ms - self.anchor_ms) // every_ms + 1) * every_ms
        zone = ZoneInfo(self.zone)
        for time in CronSim(self.cron, datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)):
            # In the hour that the end of summer time repeats, cronsim answers with the first of two equal times, which has passed.
            time_ms = round(time.timestamp() * 1000)
            if time_ms > ms:
                return time_ms
        return None

    def latest(self, after_ms: int, until_ms: float) -> int | None:
        """Return the last time after one and up to another, or None; in few steps, however many lie between."""
        window_ms = 60_000
        while True:
            start_ms = max(after_ms, until_ms - window_ms)
            found = None
            for time_ms in self._between(start_ms, until_ms):
                found = time_ms
            if found is not None or start_ms == after_ms:
                return found
            window_ms *= 8

    def steps(self, misfire: str, due_ms: int, now_ms: float, most: int = CATCH_UP_MAX) -> Steps:
        """Return what follows the occurrence at `due_ms`, whose time has come; what came due since then was missed.

        Of many that are to be caught up, the first `most`.
        """
        following = self.after(due_ms)
        if following is None:
            return Steps([], due_ms, 0)
        if following > now_ms:
            return Steps([following], due_ms, following)
        if misfire == "all":
            return self._all_missed(due_ms, now_ms, most)
        upcoming = self.after(now_ms)
        coming = [] if upcoming is None else [upcoming]
        if misfire == "skip":
            return Steps(coming, due_ms, upcoming or 0)
        newest = self.latest(due_ms, now_ms) or following
        return Steps([newest, *coming], newest, upcoming or 0, following)

    def _all_missed(self, due_ms: int, now_ms: float, most: int) -> Steps:
        times_ms: list[int] = []
        last_ms, next_ms = due_ms, self.after(due_ms)
        while next_ms is not None and len(times_ms) < most:
            times_ms.append(next_ms)
            if next_ms > now_ms or len(times_ms) == most:
                return Steps(times_ms, last_ms, next_ms)
            last_ms, next_ms = next_ms, self.after(next_ms)
        return Steps(times_ms, last_ms, 0)

    def _between(self, after_ms: float, until_ms: float) -> Iterator[int]:
        time_ms = self.after(after_ms)
        while time_ms is not None and time_ms <= until_ms:
            yield time_ms
            time_ms = self.after(time_ms)


def timetable(*, cron: str | None, every: float | timedelta | None, zone: str = UTC_NAME) -> Timetable:
    """Return the checked times of a declaration; an interval has no anchor yet. Raises InvalidOptions with the remedy."""
    if (cron is None) == (every is None):
        message = "a schedule has either cron='0 3 * * *' or every=600 (seconds or a timedelta): give one of them"
        raise InvalidOptions(message)
    if every is not None:
        if zone != UTC_NAME:
            message = f"zone={zone!r}: an interval is the same in every zone; leave zone= out, or use cron="
            raise InvalidOptions(message)
        every_s = seconds(every, "every")
        if every_s < EVERY_MIN_S:
            message = f"every={every!r}: the shortest interval of a schedule is {EVERY_MIN_S:g} s"
            raise InvalidOptions(message)
        return Timetable(every_ms=round(every_s * 1000))
    return Timetable(cron=_check_cron(cron, _check_zone(zone)), zone=zone)


def check_misfire(misfire: str) -> str:
    """Return a misfire policy. Raises InvalidOptions for any other word."""
    if misfire not in MISFIRES:
        message = f"misfire={misfire!r}: after an outage, use 'skip' (none), 'once' (one for all) or 'all' of the missed occurrences"
        raise InvalidOptions(message)
    return misfire


def _check_zone(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError, TypeError) as error:
        near = difflib.get_close_matches(str(zone), sorted(available_timezones()), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        message = f"zone={str(zone)[:60]!r}: no such time zone; use a name of the IANA database, as 'Europe/Berlin' or 'UTC'{hint}"
        raise InvalidOptions(message) from error


def _check_cron(cron: str | None, zone: ZoneInfo) -> str:
    if not isinstance(cron, str) or len(cron) > CRON_MAX_CHARS:
        message = f"cron={str(cron)[:60]!r}: an expression is a text of at most {CRON_MAX_CHARS} characters: {FIELDS}"
        raise InvalidOptions(message)
    try:
        next(CronSim(cron, datetime.now(zone)))
    except CronSimError as error:
        message = f"cron={cron!r}: {error}; the fields are {FIELDS}"
        raise InvalidOptions(message) from error
    except StopIteration:
        message = f"cron={cron!r}: no such time comes in the next fifty years; check day, month and weekday"
        raise InvalidOptions(message) from None
    return cron
