"""Settings with their defaults and units, and where the server is to be found."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import ConfigError, InvalidOptions
from .retry import seconds

if TYPE_CHECKING:
    from datetime import timedelta

URL_VARIABLE = "ANGELRT_URL"
NAMESPACE_VARIABLE = "ANGELRT_NAMESPACE"
NAMESPACE_DEFAULT = "angelrt"
SERVER_SCHEMES = ("redis", "rediss", "unix")
EMBEDDED_SCHEME = "embedded"

PAYLOAD_MAX_BYTES = 1024 * 1024
"""The largest arguments or result of one job."""
BLOB_MIN_BYTES = 4096
"""A payload over this goes past Lua: 100 records of 1 MiB through a script stop the server for half a second."""
BATCH_MAX_JOBS = 200
"""The most jobs that one script call carries."""
BATCH_MAX_BYTES = 4 * 1024 * 1024
"""The most bytes that one script call carries."""
TEXT_MAX_CHARS = 8_000
"""The longest error text or traceback that is stored."""
EVENTS_MAX = 10_000
"""Entries kept in the event stream; an entry is under 400 bytes, so the stream stays under 4 MB."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended jobs of one outcome are remembered: by age (seconds or timedelta) and by number.

    Whatever the number says, a job is remembered for 60 s, so that a repeated `send` with its id still finds it.
    """

    age: float | timedelta
    number: int = 100_000

    def __post_init__(self) -> None:
        """Raise InvalidOptions for a negative age or number."""
        object.__setattr__(self, "age", seconds(self.age, "Keep(age=)"))
        if self.number < 0:
            message = f"Keep(number=) is at least 0, not {self.number!r}"
            raise InvalidOptions(message)

    @property
    def age_ms(self) -> int:
        """The age in whole milliseconds."""
        return round(seconds(self.age, "age") * 1000)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended jobs are remembered, by outcome."""

    completed: Keep = field(default_factory=lambda: Keep(3_600))
    failed: Keep = field(default_factory=lambda: Keep(7 * 86_400))
    cancelled: Keep = field(default_factory=lambda: Keep(86_400))


def resolve_url(url: str | None) -> str:
    """Return the server's address: the argument, else the environment variable ANGELRT_URL.

    Raises ConfigError when neither is given or the scheme is not known.
    """
    found = url or os.environ.get(URL_VARIABLE, "")
    if not found:
        message = (
            f"no Redis address: pass Runtime(url=...) or set {URL_VARIABLE}. Two choices: 'redis://HOST:6379/0' for a server that every "
            "process reaches, or 'embedded://DIRECTORY' for a private server on this machine that starts by itself "
            "(pip install 'angelrt[embedded]')"
        )
        raise ConfigError(message)
    scheme = urlsplit(found).scheme
    if scheme not in (*SERVER_SCHEMES, EMBEDDED_SCHEME):
        message = f"address {redact(found)!r}: the scheme is one of redis://, rediss://, unix://, embedded://"
        raise ConfigError(message)
    return found


def resolve_namespace(namespace: str | None) -> str:
    """Return the namespace: the argument, else the environment variable ANGELRT_NAMESPACE, else `angelrt`."""
    return namespace or os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE_DEFAULT


def embedded_path(url: str) -> str | None:
    """Return the directory of an `embedded://DIRECTORY` address, or None for any other. Raises ConfigError without a directory."""
    parts = urlsplit(url)
    if parts.scheme != EMBEDDED_SCHEME:
        return None
    path = parts.netloc + parts.path
    if not path:
        message = "embedded:// needs a directory: embedded://./data (relative) or embedded:///var/lib/app (absolute)"
        raise ConfigError(message)
    return path


def redact(url: str) -> str:
    """Return the address without its password, for logs and errors."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username or ''}:***@"
    return parts._replace(netloc=user + host).geturl()
