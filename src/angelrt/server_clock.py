"""The server's time between its replies, as near as the way of a call tells it (the interval method of Cristian's algorithm).

F. Cristian, "Probabilistic clock synchronization", Distributed Computing 3 (1989): a server that tells its time has read its clock after
the call was sent, and before the answer was read.
"""

from __future__ import annotations

import time


class ServerClock:
    """This machine's monotonic clock, set by what the server tells."""

    def __init__(self) -> None:
        """Begin with this machine's own idea of the time."""
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def now_ms(self) -> float:
        """Return the server's time in milliseconds since 1970."""
        return time.monotonic() * 1000 + self._offset_ms

    def hear(self, told_ms: float, sent_s: float) -> None:
        """Hear what a call has told that was sent at `sent_s` of the monotonic clock, and whose answer is read now.

        So much and no more is changed as the two bounds of the call ask for: an answer that comes late does not set the clock back.
        """
        least_ms, most_ms = told_ms - time.monotonic() * 1000, told_ms - sent_s * 1000
        self._offset_ms = min(max(self._offset_ms, least_ms), most_ms)
