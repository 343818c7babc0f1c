"""Where alerts are told: the log, or a web address that takes a POST."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

from .errors import AngelError, ConfigError, InvalidOptions
from .job import View

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("angelrt.alerts")

TIMEOUT_MAX_S: Final = 30.0
CONTROL: Final = frozenset(map(chr, (*range(32), 127)))


class SinkError(AngelError):
    """A sink did not take a notice; it is offered again later."""


class Notice(View):
    """What a sink is told: an alert fires, or is over. Times are UTC.

    `id` is the same however often the notice comes, so that a receiver can drop a second one. `since` is when the alert began to fire, `at`
    when this was found out. `value` (None where nothing is left to measure) and `threshold` are in `unit`: share, s, ms or workers.
    """

    id: str
    name: str
    description: str
    state: Literal["firing", "resolved"]
    since: datetime
    at: datetime
    value: float | None
    threshold: float
    unit: str
    namespace: str


class Sink(Protocol):
    """Takes notices. A sink of your own has these two."""

    @property
    def key(self) -> str:
        """What tells this sink from others, the same in every process: by it, the fleet remembers what it was told."""
        ...

    async def send(self, notice: Notice) -> None:
        """Pass a notice on; whatever is raised means that it is to be offered again."""
        ...


@dataclass(frozen=True, slots=True)
class LogSink:
    """Writes to the logger `angelrt.alerts`: a warning when an alert fires, info when it is over."""

    @property
    def key(self) -> str:
        """The one name: all log sinks are one."""
        return "log"

    async def send(self, notice: Notice) -> None:
        """Write one line."""
        value = "none" if notice.value is None else f"{notice.value:.4g}"
        if notice.state == "firing":
            log.warning("alert %s: %s (%s, the threshold is %.4g)", notice.name, notice.description, value, notice.threshold)
        else:
            lasted_s = (notice.at - notice.since).total_seconds()
            log.info("alert %s is over after %.0f s (%s, the threshold is %.4g)", notice.name, lasted_s, value, notice.threshold)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Posts each notice as JSON to an http:// or https:// address, with `headers` of your own; needs the extra `alerts`.

    An answer of 200 to 299 within `timeout_s` seconds takes the notice; any other, a redirect among them, does not, and it is sent again
    later. Nothing of the answer but its status is read. A user and password in the address are sent as basic authentication. Raises
    InvalidOptions, and ConfigError without httpx.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)
    timeout_s: float = 5

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        _check_url(self.url)
        for name, value in self.headers.items():
            if not isinstance(value, str) or not name.isascii() or not value.isascii() or CONTROL & {*name, *value} or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
                message = f"Webhook(headers=): the header {name!r} is not one line of ASCII text"
                raise InvalidOptions(message)
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, int | float) or not 0 < self.timeout_s <= TIMEOUT_MAX_S:  # pyright: ignore[reportUnnecessaryIsInstance] - as above
            message = f"Webhook(timeout_s={self.timeout_s!r}): use more than 0 and at most {TIMEOUT_MAX_S:g} seconds"
            raise InvalidOptions(message)
        if importlib.util.find_spec("httpx") is None:
            message = "Webhook needs httpx: pip install 'angelrt[alerts]'"
            raise ConfigError(message)

    @property
    def key(self) -> str:
        """A name by which nobody reads the address."""
        return f"webhook {hashlib.sha256(self.url.encode()).hexdigest()[:16]}"

    def __str__(self) -> str:
        """Name the host alone: user, password, path and query of a webhook are often secrets."""
        parts = urlsplit(self.url)
        return f"webhook at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def send(self, notice: Notice) -> None:
        """Post a notice. Raises SinkError, with a text that names the host and nothing else of the address."""
        import httpx  # noqa: PLC0415 - only the extra brings it

        headers = httpx.Headers({"user-agent": "angelrt", "content-type": "application/json", **_authorization(self.url)})
        headers.update(dict(self.headers))
        try:
            # The transport alone: a client writes whole addresses to its log, and follows what the environment says of proxies and cookies.
            async with asyncio.timeout(self.timeout_s), httpx.AsyncHTTPTransport() as transport:
                response = await transport.handle_async_request(httpx.Request("POST", self.url, headers=headers, content=notice.to_json()))
                await response.aclose()
        except TimeoutError as error:
            message = f"{self} did not answer within {self.timeout_s:g} s"
            raise SinkError(message) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{self} cannot be reached ({type(error).__name__})"
            raise SinkError(message) from error
        if not response.is_success:
            why = "; redirects are not followed, give the final address" if response.is_redirect else ""
            message = f"{self} answered {response.status_code}{why}"
            raise SinkError(message)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not CONTROL & {*url} and " " not in url
        _ = parts.port
    except (AttributeError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        message = "Webhook(url=): give an address as 'https://HOST/PATH', with http or https (it is not shown here: it may hold a password)"
        raise InvalidOptions(message)


def _authorization(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {b64encode(told.encode()).decode()}"}
