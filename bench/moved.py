"""Which figures moved since the recorded run, each set against the floor of its own run: the machine is not the same twice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RECORDED: Final = Path(__file__).parent / "recorded.json"
FLOOR: Final = "floor_zadd_per_s"
NOISE: Final = 1.25
"""By so much figures of one version differ from run to run on a quiet machine."""
RATES: Final = ("_per_s",)
TIMES: Final = ("_ms", "_us", "_s", " us", " s")


def against_floor(name: str, figure: float, floor_per_s: float) -> float | None:
    """Return a figure in terms of its run's floor, more being better; None for one that is no rate and no time."""
    if name.endswith(RATES):
        return figure / floor_per_s
    if name.endswith(TIMES) and figure > 0:
        return 1 / (figure * floor_per_s)
    return None


def moved(last: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Name each figure that is better or worse than in the recorded run by more than the noise; of those that both runs have."""
    for name, before in last.items():
        if name == FLOOR or name not in now or not isinstance(before, float | int):
            continue
        old, new = against_floor(name, before, last[FLOOR]), against_floor(name, now[name], now[FLOOR])
        if old and new and not 1 / NOISE <= new / old <= NOISE:
            yield f"{name}: {new / old:.2f} of the recorded run, {'better' if new > old else 'worse'}"


def read() -> dict[str, Any]:
    """Return the recorded run, empty where there is none."""
    return orjson.loads(RECORDED.read_bytes()) if RECORDED.exists() else {}


def write(figures: Mapping[str, Any]) -> None:
    """Record a run in place of the last one."""
    RECORDED.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
