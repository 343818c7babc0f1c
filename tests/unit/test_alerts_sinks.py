"""What sinks say: a line in the log, a POST to a real HTTP server that answers well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from angelrt import ConfigError, InvalidOptions
from angelrt.alerts import LogSink, Notice, SinkError, Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

START = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
FIRING = Notice(
    id="n1",
    name="backlog older than 60 s",
    description="the oldest ready job has waited for more than 60 s",
    state="firing",
    since=START,
    at=START,
    value=61.5,
    threshold=60,
    unit="s",
    namespace="shop",
)
OVER = FIRING.model_copy(update={"id": "n2", "state": "resolved", "at": START + timedelta(seconds=90), "value": None})
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Requests(list[bytes]):
    """What came in, and where: `url("/path")`."""

    port = 0

    def url(self, path: str, user: str = "") -> str:
        """Return an address on this server."""
        return f"http://{user}127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def http_server(answer: bytes | None) -> AsyncGenerator[Requests]:
    """Run a server that answers every request with these bytes, or never, and notes what came."""
    seen, done = Requests(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.partition(b":")[2]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        seen.append(head + await reader.readexactly(length))
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen
        done.set()


async def test_a_webhook_posts_the_notice_as_json_with_its_headers() -> None:
    async with http_server(OK) as seen:
        await Webhook(seen.url("/hook?a=1"), headers={"X-Token": "t", "User-Agent": "shop"}).send(FIRING)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    request, *headers = head.decode().split("\r\n")
    assert request == "POST /hook?a=1 HTTP/1.1"
    told = dict(line.lower().split(": ", 1) for line in headers)
    assert (told["content-type"], told["x-token"], told["user-agent"]) == ("application/json", "t", "shop")
    assert orjson.loads(body) == {
        "id": "n1",
        "name": "backlog older than 60 s",
        "description": "the oldest ready job has waited for more than 60 s",
        "state": "firing",
        "since": "2026-07-01T12:30:00Z",
        "at": "2026-07-01T12:30:00Z",
        "value": 61.5,
        "threshold": 60.0,
        "unit": "s",
        "namespace": "shop",
    }


async def test_user_and_password_of_an_address_go_into_a_header() -> None:
    async with http_server(OK) as seen:
        await Webhook(seen.url("/", user="ann:pa%3Ass@")).send(FIRING)
    assert b"authorization: basic yw5uonbhonnz\r\n" in seen[0].lower()
    assert b"ann" not in seen[0]


ANSWERS: dict[str, tuple[bytes, str]] = {
    "error": (b"HTTP/1.1 500 Oops\r\n\r\nsecret", "answered 500"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "answered 302; redirects are not followed"),
    "no-http": (b"what?\r\n\r\n", "cannot be reached .RemoteProtocolError"),
    "nothing": (b"", "cannot be reached .RemoteProtocolError"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_no_success_fails_and_names_the_host_alone(name: str) -> None:
    answer, told = ANSWERS[name]
    async with http_server(answer) as seen:
        hook = Webhook(seen.url("/services/T0KEN", user="ann:pass@"))
        with pytest.raises(SinkError, match=told) as caught:
            await hook.send(FIRING)
        assert str(caught.value).startswith(f"webhook at http://127.0.0.1:{seen.port} ")
    assert len(seen) == 1, "a redirect is not followed"


async def test_an_answer_without_an_end_is_not_read() -> None:
    async with http_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 100_000) as seen:
        await Webhook(seen.url("/")).send(FIRING)
    assert len(seen) == 1


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async with http_server(None) as seen:
        with pytest.raises(SinkError, match=r"did not answer within 0\.1 s"):
            await Webhook(seen.url("/"), timeout_s=0.1).send(FIRING)


async def test_a_server_that_is_not_there_fails() -> None:
    async with http_server(OK) as seen:
        url = seen.url("/T0KEN")
    with pytest.raises(SinkError, match=r"cannot be reached \(ConnectError\)"):
        await Webhook(url).send(FIRING)


async def test_no_log_holds_the_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http_server(OK) as seen:
        await Webhook(seen.url("/services/T0KEN", user="ann:pass@")).send(FIRING)
    assert "T0KEN" not in caplog.text
    assert "pass" not in caplog.text


def test_what_shows_a_webhook_shows_no_secret() -> None:
    hook = Webhook("https://ann:pass@hooks.example.com/services/T0KEN", headers={"X-Token": "abc"})
    assert str(hook) == "webhook at https://hooks.example.com"
    for shown in (repr(hook), str(hook), hook.key):
        assert not any(secret in shown for secret in ("pass", "T0KEN", "abc")), shown


def test_the_key_of_a_webhook_is_of_its_address() -> None:
    assert Webhook("https://a.example/1").key == Webhook("https://a.example/1", headers={"a": "b"}).key
    assert Webhook("https://a.example/1").key != Webhook("https://a.example/2").key


WRONG: dict[str, Callable[[], Webhook]] = {
    "file": lambda: Webhook("file:///etc/passwd"),
    "no-scheme": lambda: Webhook("hooks.example.com/s3cret"),
    "no-host": lambda: Webhook("https:///s3cret"),
    "port": lambda: Webhook("https://host:s3cret/"),
    "line-break": lambda: Webhook("https://host/s3cret\r\nHost: other"),
    "space": lambda: Webhook("https://host/s3cret key"),
    "number": lambda: Webhook(5),  # type: ignore[arg-type]
    "header-of-two-lines": lambda: Webhook("https://host/", headers={"A": "s3cret\r\nB: c"}),
    "header-name": lambda: Webhook("https://host/", headers={"A\n": "s3cret"}),
    "header-number": lambda: Webhook("https://host/", headers={"A": 1}),  # type: ignore[dict-item]
    "no-time": lambda: Webhook("https://host/", timeout_s=0),
    "long-time": lambda: Webhook("https://host/", timeout_s=31),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_webhook_that_could_never_work_is_refused_without_its_secrets(name: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        WRONG[name]()
    assert "s3cret" not in str(caught.value)


def test_a_webhook_without_httpx_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        return None if name == "httpx" else name

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ConfigError, match=r"pip install 'angelrt\[alerts\]'"):
        Webhook("https://host/")


async def test_the_log_tells_that_an_alert_fires_and_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "angelrt.alerts")
    await LogSink().send(FIRING)
    await LogSink().send(OVER)
    assert [(record.levelname, record.name, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "angelrt.alerts",
            "alert backlog older than 60 s: the oldest ready job has waited for more than 60 s (61.5, the threshold is 60)",
        ),
        ("INFO", "angelrt.alerts", "alert backlog older than 60 s is over after 90 s (none, the threshold is 60)"),
    ]
