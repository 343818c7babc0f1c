"""Actors with limits that run in a process, which must find them by import."""

from __future__ import annotations

from angelrt import Actors, Context, RateLimit

group = Actors()


@group.process_actor(limits=[RateLimit("10/hour", cost=10)])
def reserve(used: int) -> int:
    """Reserve everything, and say what was used."""
    Context.current().used(used)
    return used
