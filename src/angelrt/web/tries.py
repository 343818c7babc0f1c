"""How many wrong tokens may come within a minute: from one address, and in all."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

from .errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("angelrt.web")

WINDOW_S: Final = 60.0
PER_ADDRESS: Final = 10
IN_ALL: Final = 100
ADDRESS_MAX_CHARS: Final = 100


class Tries:
    """The wrong tokens of the running minute, of this process.

    A right token is never asked about here: behind a proxy all come from one address, and whoever sends wrong ones would lock out everybody
    else. Refused tries are not counted, so no more addresses are kept than tries are allowed in all.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin without any; `clock_s` gives seconds that never go back."""
        self._clock_s = clock_s
        self._began_s = -math.inf
        self.of_address: dict[str, int] = {}

    def count(self, address: str) -> None:
        """Count a wrong token. Raises Refused (429) where too many have come, which is logged once for each bound that is reached."""
        now_s, address = self._clock_s(), address[:ADDRESS_MAX_CHARS]
        if now_s - self._began_s >= WINDOW_S:
            self._began_s = now_s
            self.of_address.clear()
        before, in_all = self.of_address.get(address, 0), sum(self.of_address.values())
        if before >= PER_ADDRESS or in_all >= IN_ALL:
            raise _too_many(math.ceil(self._began_s + WINDOW_S - now_s))
        self.of_address[address] = before + 1
        if before + 1 == PER_ADDRESS:
            log.warning("%d wrong tokens within a minute from %r: further ones are answered 429", PER_ADDRESS, address)
        if in_all + 1 == IN_ALL:
            log.warning("%d wrong tokens within a minute from all addresses: further ones are answered 429", IN_ALL)


def _too_many(rest_s: int) -> Refused:
    message = f"this token is not known here, and too many such have come within a minute: try again in {rest_s} s"
    return Refused(429, "TooManyTries", message, headers={"Retry-After": str(rest_s)})
