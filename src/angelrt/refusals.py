"""What an answer of the server that is an error means: the server may take the call later, or it will not."""

from __future__ import annotations

from typing import Final

from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from .config import redact
from .errors import RedisFull, RedisRefused

DEMOTED: Final = (ReadOnlyError, MasterDownError)
"""Answers of a server that is no primary, or not any more: its connection is given up, so that the next one may find the primary."""
LATER: Final = (ClusterDownError, TryAgainError)
LATER_WORDS: Final = ("BUSY ", "NOREPLICAS ", "UNBLOCKED ")
"""A script of somebody else runs for long; too few replicas are connected (min-replicas-to-write); the server has just been demoted."""


def passes(error: ResponseError) -> bool:
    """Whether the same call may be taken a moment later."""
    return isinstance(error, (*DEMOTED, *LATER)) or str(error).startswith(LATER_WORDS)


def refusal(error: ResponseError, url: str) -> Exception:
    """Return the typed error for an answer of the server that is an error."""
    if isinstance(error, OutOfMemoryError):
        return RedisFull(
            f"Redis at {redact(url)} is at maxmemory and takes no new work: raise maxmemory or shorten the retention ({error})"
        )
    if isinstance(error, NoPermissionError | AuthenticationError):
        return RedisRefused(f"Redis at {redact(url)} does not permit this; `python -m angelrt doctor` names what is missing: {error}")
    return RedisRefused(f"Redis at {redact(url)} refused: {error}")
