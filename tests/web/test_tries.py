"""Wrong tokens: how many may come, what is answered then, and that nobody is locked out by somebody else's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx

from angelrt.web import new_app
from angelrt.web.errors import Refused
from angelrt.web.tries import ADDRESS_MAX_CHARS, IN_ALL, PER_ADDRESS, WINDOW_S, Tries
from tests.web.conftest import OPERATOR, READER
from tests.web.test_auth import by_header, session

if TYPE_CHECKING:
    from typing import Any

    import pytest

    from angelrt import Runtime
    from tests.web.conftest import Live, Serve

WRONG = {"token": "a-token-of-nobody-here"}


class Clock:
    """Seconds that are set by hand."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def wait_of(tries: Tries, address: str) -> str | None:
    """Count a wrong token; return how long its sender is told to wait, None where it is not refused."""
    try:
        tries.count(address)
    except Refused as refused:
        return (refused.headers or {})["Retry-After"]
    return None


def test_an_address_has_its_bound_and_gets_tries_anew_after_a_minute() -> None:
    clock = Clock()
    tries = Tries(clock)
    assert [wait_of(tries, "10.0.0.1") for _ in range(PER_ADDRESS)] == [None] * PER_ADDRESS
    clock.now_s += 18.5
    assert wait_of(tries, "10.0.0.1") == "42"
    assert wait_of(tries, "10.0.0.2") is None
    clock.now_s += WINDOW_S - 18.6
    assert wait_of(tries, "10.0.0.1") == "1"
    clock.now_s += 0.2
    assert wait_of(tries, "10.0.0.1") is None


def test_what_is_refused_to_one_address_is_not_counted_against_all() -> None:
    tries = Tries(Clock())
    for _ in range(10 * IN_ALL):
        wait_of(tries, "10.0.0.1")
    assert wait_of(tries, "10.0.0.2") is None


def test_many_addresses_meet_the_bound_of_all_and_fill_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    tries = Tries(Clock())
    waits = [wait_of(tries, f"{n} " + "x" * 1000) for n in range(10 * IN_ALL)]
    assert waits == [None] * IN_ALL + ["60"] * (9 * IN_ALL)
    assert len(tries.of_address) == IN_ALL
    assert max(map(len, tries.of_address)) == ADDRESS_MAX_CHARS
    assert [record.getMessage() for record in caplog.records] == [
        "100 wrong tokens within a minute from all addresses: further ones are answered 429"
    ]


async def test_many_wrong_logins_are_told_to_wait_and_are_seen_in_the_log(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    live.app.state.site.access.tries = Tries(Clock())
    client = await live.client()
    told = [(await client.post("/login", json=WRONG)).status_code for _ in range(PER_ADDRESS)]
    assert told == [401] * PER_ADDRESS
    for _ in range(3):
        answer = await client.post("/login", json=WRONG)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert answer.json() == {
        "error": {
            "type": "TooManyTries",
            "message": "this token is not known here, and too many such have come within a minute: try again in 60 s",
            "fields": [],
        }
    }
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == ["10 wrong tokens within a minute from '127.0.0.1': further ones are answered 429"]
    assert WRONG["token"] not in caplog.text


async def test_bearer_tokens_and_logins_are_counted_together(live: Live) -> None:
    live.app.state.site.access.tries = Tries(Clock())
    stranger = await live.client(WRONG["token"])
    for path in ["/api/v1/overview", "/api/v1/me"] * (PER_ADDRESS // 2):
        assert (await stranger.get(path)).status_code in (401, 200), path
    for path in ("/api/v1/overview", "/api/v1/me", "/metrics"):
        assert (await stranger.get(path)).status_code == 429, path
    assert (await (await live.client()).post("/login", json=WRONG)).status_code == 429


async def test_nobody_with_a_right_token_or_a_session_is_locked_out(live: Live) -> None:
    live.app.state.site.access.tries = Tries(Clock())
    before, stranger = await session(live), await live.client()
    for _ in range(PER_ADDRESS + 1):
        last = await stranger.post("/login", json=WRONG)
    assert last.status_code == 429
    assert (await before.get("/api/v1/overview")).status_code == 200
    assert (await (await live.client(READER)).get("/api/v1/overview")).status_code == 200
    assert (await (await session(live)).get("/api/v1/me")).json()["role"] == "operator"
    assert (await (await live.client()).get("/api/v1/overview")).status_code == 401, "no token is no wrong one"


async def test_an_old_session_is_no_try(live: Live) -> None:
    live.app.state.site.access.tries = Tries(Clock())
    late = await live.client(Cookie=f"{live.app.state.site.access.cookie('')}=1.{'0' * 32}.{'0' * 64}")
    told = {(await late.get("/api/v1/overview")).status_code for _ in range(PER_ADDRESS + 5)}
    assert told == {401}


async def test_each_address_counts_for_itself(rt: Runtime[Any]) -> None:
    app = new_app(rt, operators=[OPERATOR])

    async def status(address: str) -> int:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return (await http.post("/login", json=WRONG)).status_code

    assert [await status("10.0.0.1") for _ in range(PER_ADDRESS + 1)] == [401] * PER_ADDRESS + [429]
    assert await status("10.0.0.2") == 401


async def test_a_bearer_token_of_the_host_app_is_no_wrong_one(serve: Serve) -> None:
    both, own = await serve(auth=by_header, operators=[OPERATOR]), await serve(auth=by_header)
    known = await both.client("a-token-of-the-host-app", **{"X-Role": "reader"})
    assert {(await known.get("/api/v1/overview")).status_code for _ in range(PER_ADDRESS + 1)} == {200}
    stranger = await own.client("a-token-of-the-host-app")
    assert {(await stranger.get("/api/v1/overview")).status_code for _ in range(PER_ADDRESS + 1)} == {401}
