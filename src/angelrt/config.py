"""Settings with their defaults and units, and where the server is to be found."""

from __future__ import annotations

import getpass
import os
import platform
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from .errors import ConfigError, InvalidOptions
from .retry import seconds

if TYPE_CHECKING:
    from datetime import timedelta

URL_VARIABLE = "ANGELRT_URL"
NAMESPACE_VARIABLE = "ANGELRT_NAMESPACE"
NAMESPACE_DEFAULT = "angelrt"
SERVER_SCHEMES = ("redis", "rediss", "unix")
SENTINEL_SCHEME = "redis+sentinel"
SENTINEL_PORT = 26379
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
        if isinstance(self.number, bool) or not isinstance(self.number, int) or self.number < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"Keep(number=) is a whole number from 0, not {self.number!r}"
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
    if not found.startswith(tuple(f"{scheme}://" for scheme in (*SERVER_SCHEMES, SENTINEL_SCHEME, EMBEDDED_SCHEME))):
        raise wrong_address(found, "the scheme is one of redis://, rediss://, unix://, redis+sentinel://, embedded://")
    if sentinel_address(found) is None and not found.startswith(f"{EMBEDDED_SCHEME}://"):
        _check_server(found)
    return found


class SentinelAddress(NamedTuple):
    """Where the sentinels are, and the name under which they watch the servers; user, password and database are of the servers."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None


def sentinel_address(url: str) -> SentinelAddress | None:
    """Return the parts of a `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB` address; None for any other. Raises ConfigError."""
    scheme, _, rest = url.partition("://")
    if scheme != SENTINEL_SCHEME:
        return None
    before, _, query = rest.partition("?")
    hosts, _, path = before.rpartition("@")[2].partition("/")
    user, _, password = before.rpartition("@")[0].partition(":")
    service, _, db = path.partition("/")
    try:
        parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
        sentinels = tuple((part.hostname or "", part.port or SENTINEL_PORT) for part in parts)
        known = dict[str, str | None]((name, values[0]) for name, values in parse_qs(query, strict_parsing=bool(query)).items())
        own = known.pop("sentinel_username", None), known.pop("sentinel_password", None)
        number = int(db or 0)
    except ValueError as error:
        raise wrong_address(url, str(error)) from error
    if known or not service or "/" in db or not all(host for host, _ in sentinels):
        form = "redis+sentinel://host:26379,host:26379/service/0, with ?sentinel_password= where the sentinels have one of their own"
        raise wrong_address(url, f"the form is {form}")
    return SentinelAddress(sentinels, unquote(service), number, unquote(user) or None, unquote(password) or None, *own)


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise wrong_address(url, str(error)) from error
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise wrong_address(url, "a unix:// address names the socket's path, as unix:///run/redis.sock")
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+/?", parts.path):
        raise wrong_address(url, "after the host comes the number of the database, as redis://host:6379/0")


def wrong_address(url: str, reason: str) -> ConfigError:
    """Return the error for an address that can never work."""
    return ConfigError(f"address {redact(url)!r}: {reason}")


def resolve_namespace(namespace: str | None) -> str:
    """Return the namespace: the argument, else the environment variable ANGELRT_NAMESPACE, else `angelrt`."""
    return namespace or os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE_DEFAULT


def embedded_path(url: str) -> str | None:
    """Return the directory of an `embedded://DIRECTORY` address, or None for any other. Raises ConfigError without a directory."""
    scheme, _, path = url.partition("://")
    if scheme != EMBEDDED_SCHEME:
        return None
    if not path:
        message = "embedded:// needs a directory: embedded://./data (relative) or embedded:///var/lib/app (absolute)"
        raise ConfigError(message)
    return path


_PASSWORD = re.compile(r"(^[^:@/]*:(?!//)|//[^:@/]*:).*(?=@)|((?<=[?&])(?:sentinel_)?password=)[^&#]*", re.IGNORECASE)


def escaped(text: str, keep: str = "") -> str:
    """Return text of a stranger so that it steers no terminal and looks like no other line; characters of `keep` stay."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def redact(url: str) -> str:
    """Return the address without its password, for logs and errors."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", url)


def whoami() -> str:
    """Name who acts where no name is given: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = "somebody"
    return f"{user}@{platform.node()}"
