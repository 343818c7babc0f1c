"""Who may do what: each route without and with each role, forged requests, hosts, sessions, headers."""

from __future__ import annotations

import hmac
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route

from angelrt import ConfigError, Runtime
from angelrt.web import auth, new_app, tries
from angelrt.web.auth import Access
from angelrt.web.guard import HEADERS, QUERY_MAX_BYTES
from angelrt.web.hosts import host_name, is_loopback
from tests.web.conftest import OPERATOR, READER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from tests.web.conftest import Live, Serve

PUBLIC, LOOK, CHANGE = "anybody", "reader", "operator"
JSON = {"Content-Type": "application/json"}

# Every route of the app: who may, and the status with which somebody who may is answered where nothing is there yet.
TABLE: dict[tuple[str, str], tuple[str, int, Any]] = {
    ("GET", "/healthz"): (PUBLIC, 200, None),
    ("GET", "/readyz"): (PUBLIC, 200, None),
    ("GET", "/metrics"): (LOOK, 200, None),
    ("POST", "/login"): (PUBLIC, 204, {"token": READER}),
    ("POST", "/logout"): (PUBLIC, 204, {}),
    ("GET", "/"): (PUBLIC, 200, None),
    ("GET", "/static"): (PUBLIC, 404, None),
    ("GET", "/status"): (PUBLIC, 200, None),
    ("GET", "/status.json"): (PUBLIC, 200, None),
    ("GET", "/api/v1/me"): (PUBLIC, 200, None),
    ("GET", "/api/v1/overview"): (LOOK, 200, None),
    ("GET", "/api/v1/series"): (LOOK, 200, None),
    ("GET", "/api/v1/queues"): (LOOK, 200, None),
    ("GET", "/api/v1/actors"): (LOOK, 200, None),
    ("GET", "/api/v1/workers"): (LOOK, 200, None),
    ("GET", "/api/v1/events"): (LOOK, 422, None),
    ("GET", "/api/v1/audit"): (LOOK, 200, None),
    ("GET", "/api/v1/alerts"): (LOOK, 200, None),
    ("GET", "/api/v1/openapi.json"): (LOOK, 200, None),
    ("GET", "/api/v1/limits"): (LOOK, 200, None),
    ("PUT", "/api/v1/limits"): (CHANGE, 422, {"rule": "none", "limit": 1}),
    ("GET", "/api/v1/schedules"): (LOOK, 200, None),
    ("POST", "/api/v1/schedules/{name:path}/pause"): (CHANGE, 404, {}),
    ("POST", "/api/v1/schedules/{name:path}/resume"): (CHANGE, 404, {}),
    ("DELETE", "/api/v1/schedules/{name:path}"): (CHANGE, 404, {}),
    ("GET", "/api/v1/jobs"): (LOOK, 200, None),
    ("POST", "/api/v1/jobs"): (CHANGE, 201, {"actor": "echo"}),
    ("GET", "/api/v1/jobs/{name:path}"): (LOOK, 404, None),
    ("GET", "/api/v1/jobs/{name:path}/result"): (LOOK, 404, None),
    ("GET", "/api/v1/jobs/{name:path}/explain"): (LOOK, 404, None),
    ("POST", "/api/v1/jobs/{name:path}/cancel"): (CHANGE, 404, {}),
    ("POST", "/api/v1/jobs/{name:path}/retry"): (CHANGE, 404, {}),
    ("GET", "/api/v1/failed"): (LOOK, 200, None),
    ("POST", "/api/v1/failed/replay"): (CHANGE, 200, {}),
    ("POST", "/api/v1/failed/purge"): (CHANGE, 200, {"everything": True}),
    **{("POST", f"/api/v1/{kind}s/{{name:path}}/{verb}"): (CHANGE, 200, {}) for kind in ("queue", "actor") for verb in ("pause", "drain")},
    **{("POST", f"/api/v1/{kind}s/{{name:path}}/resume"): (CHANGE, 200, {}) for kind in ("queue", "actor")},
    **{("POST", f"/api/v1/keys/{verb}"): (CHANGE, 200, {"key": "none@a=1"}) for verb in ("pause", "drain", "resume")},
}


def routes_of(live: Live) -> Iterator[tuple[str, str]]:
    """Yield method and path of each route of an app."""
    for route in live.app.routes:
        assert isinstance(route, Route | Mount), route
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, Route) else {"GET"}
        yield from ((method, route.path) for method in methods)


def written(path: str) -> str:
    """Return a path of a route with a name in it; of the page's files, one that is not there."""
    return "/static/nothing" if path == "/static" else path.replace("{name:path}", "name")


async def ask(client: httpx.AsyncClient, method: str, path: str, body: Any) -> int:
    """Call a route; return the status. The event stream is asked for what it refuses, since it has no end."""
    where = written(path) + ("?after=nonsense" if path.endswith("/events") else "")
    answer = await client.request(method, where, json=body) if body is not None else await client.request(method, where)
    return answer.status_code


async def test_every_route_stands_in_the_table(live: Live) -> None:
    assert sorted(routes_of(live)) == sorted(TABLE)


async def test_each_route_is_tried_without_and_with_each_role(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "PER_ADDRESS", len(TABLE))
    nobody, stranger = await live.client(), await live.client("a-token-of-nobody-here")
    reader, operator = await live.client(READER), await live.client(OPERATOR)
    found: dict[Any, list[int]] = {}
    expected: dict[Any, list[int]] = {}
    for (method, path), (role, status, body) in TABLE.items():
        found[method, path] = [await ask(client, method, path, body) for client in (nobody, stranger, reader, operator)]
        below = {PUBLIC: [status] * 3, LOOK: [401, 401, status], CHANGE: [401, 401, 403]}[role]
        expected[method, path] = [*below, status]
    assert found == expected


async def test_head_shows_no_more_than_get(live: Live) -> None:
    nobody = await live.client()
    for (method, path), (role, status, _) in TABLE.items():
        if method == "GET":
            wanted = status if role == PUBLIC else 401
            assert (await nobody.head(written(path))).status_code == wanted, path


async def test_what_is_hidden_is_shown_to_operators_alone(live: Live, rt: Runtime[Any]) -> None:
    job = await rt.send("echo", {"value": 1})
    for path in (f"/api/v1/jobs/{job.id}", "/api/v1/schedules"):
        told = [(await (await live.client(token)).get(path, params={"reveal": "true"})).status_code for token in (None, READER, OPERATOR)]
        assert told == [401, 403, 200], path


async def test_a_refusal_says_what_to_do(live: Live) -> None:
    answer = await (await live.client()).get("/api/v1/overview")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json() == {
        "error": {
            "type": "NotAuthenticated",
            "message": "this needs the role reader: log in, or send `Authorization: Bearer TOKEN`",
            "fields": [],
        }
    }


# -- tokens and sessions -----------------------------------------------------------------------------------------------------------


async def session(live: Live, token: str = OPERATOR, *, path: str = "") -> httpx.AsyncClient:
    """Return a client that has logged in, as the page does."""
    client = await live.client()
    answer = await client.post(f"{path}/login", json={"token": token})
    assert answer.status_code == 204
    return client


def kept(client: httpx.AsyncClient) -> tuple[str, str]:
    """Return name and value of the cookie that a client has."""
    [cookie] = client.cookies.jar
    return cookie.name, cookie.value or ""


def same_site(live: Live) -> dict[str, str]:
    """Return what a browser sends with a request of the page itself."""
    return {"Origin": live.url, "Sec-Fetch-Site": "same-origin"}


async def test_a_session_gives_the_role_of_its_token_and_ends_with_logout(live: Live) -> None:
    client = await session(live, READER)
    assert (await client.get("/api/v1/me")).json() == {"role": "reader", "authRequired": True, "canLogIn": True, "title": "Queues"}
    assert (await client.get("/api/v1/overview")).status_code == 200
    assert (await client.post("/logout", json={}, headers=same_site(live))).status_code == 204
    assert (await client.get("/api/v1/overview")).status_code == 401


async def test_the_cookie_is_out_of_reach_and_does_not_hold_the_token(live: Live) -> None:
    answer = await (await live.client()).post("/login", json={"token": OPERATOR})
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/;" in cookie
    assert OPERATOR not in cookie


async def test_the_cookie_goes_over_tls_alone_where_that_is_spoken(rt: Runtime[Any]) -> None:
    app = new_app(rt, operators=[OPERATOR])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://localhost") as http:
        answer = await http.post("/login", json={"token": OPERATOR})
        assert "Secure" in answer.headers["Set-Cookie"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        for origin, wanted in (("https://localhost", True), ("http://localhost", False)):
            answer = await http.post("/login", json={"token": OPERATOR}, headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
            assert ("Secure" in answer.headers["Set-Cookie"]) is wanted, "behind a proxy, the browser says so"


async def test_a_session_that_is_changed_or_over_is_none(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await session(live)
    name, value = kept(client)
    until, nonce, seal = value.split(".")
    for forged in (
        f"{int(until) + 1}.{nonce}.{seal}",
        f"{until}.{'0' * 32}.{seal}",
        f"{until}.{nonce}.{'0' * 64}",
        "",
        "a.b.c",
        "9" * 5000,
    ):
        other = await live.client(Cookie=f"{name}={forged}")
        assert (await other.get("/api/v1/overview")).status_code == 401, forged
    assert (await client.get("/api/v1/overview")).status_code == 200
    late = await live.client(Cookie=f"{name}={value}")
    monkeypatch.setattr(auth, "time", SimpleNamespace(time=lambda: int(until) + 1))
    assert (await late.get("/api/v1/overview")).status_code == 401


async def test_a_session_ends_when_its_token_is_taken_away(live: Live, serve: Serve) -> None:
    _, value = kept(await session(live))
    operators = ["another-operator-token"]
    after = await serve(readers=[READER], operators=operators)
    name = Access([READER], operators, None).cookie("")
    assert (await (await after.client(Cookie=f"{name}={value}")).get("/api/v1/overview")).status_code == 401


async def test_two_apps_of_one_host_do_not_log_each_other_out(live: Live, serve: Serve) -> None:
    elsewhere = ["another-operator-token"]
    other = await serve(operators=elsewhere)
    client = await session(live)
    assert (await client.post(f"{other.url}/login", json={"token": elsewhere[0]})).status_code == 204
    assert len(client.cookies) == 2, "cookies are shared by the ports of a host"
    for url in (live.url, other.url):
        assert (await client.get(f"{url}/api/v1/me")).json()["role"] == "operator", url
    assert (await client.post(f"{other.url}/logout", json={}, headers=same_site(other))).status_code == 204
    assert (await client.get("/api/v1/me")).json()["role"] == "operator"


async def test_an_app_below_another_has_a_cookie_of_its_own(serve: Serve, rt: Runtime[Any]) -> None:
    outer = Starlette(routes=[Mount("/queues", new_app(rt, operators=[OPERATOR])), Mount("/", new_app(rt, operators=[OPERATOR]))])
    live = await serve(app=outer)
    client = await session(live, path="/queues")
    name, _ = kept(client)
    assert name == Access([], [OPERATOR], None).cookie("/queues")
    assert (await client.post("/login", json={"token": OPERATOR})).status_code == 204
    assert {cookie.path for cookie in client.cookies.jar} == {"/", "/queues"}
    assert len({cookie.name for cookie in client.cookies.jar}) == 2
    for path in ("", "/queues"):
        assert (await client.get(f"{path}/api/v1/me")).json()["role"] == "operator", path


async def test_any_of_several_cookies_of_one_name_will_do(live: Live) -> None:
    name, value = kept(await session(live))
    over = f"1.{'0' * 32}.{'0' * 64}"
    for values in ([over, value], [value, over], ["", "a=b", value]):
        client = await live.client(Cookie="; ".join(f"{name}={one}" for one in values))
        assert (await client.get("/api/v1/me")).json()["role"] == "operator", values
    assert (await (await live.client(Cookie=f"{name}={over}; x{name}={value}")).get("/api/v1/me")).json()["role"] is None


async def test_a_wrong_bearer_token_is_not_made_good_by_a_cookie(live: Live) -> None:
    client = await session(live)
    answer = await client.get("/api/v1/overview", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


@pytest.mark.parametrize("token", ["", "wrong", READER[:-1], READER + "x", "é" * 20, READER.upper()])
async def test_a_wrong_token_logs_nobody_in(live: Live, token: str) -> None:
    client = await live.client()
    assert (await client.post("/login", json={"token": token})).status_code == 401
    assert not client.cookies


async def test_tokens_and_sessions_are_compared_in_constant_time(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    class Watched:
        compare_digest = staticmethod(compare)
        new = staticmethod(hmac.new)

    monkeypatch.setattr(auth, "hmac", Watched)
    client = await session(live)
    await client.get("/api/v1/overview")
    await (await live.client(READER)).get("/api/v1/overview")
    assert len(compared) == 6, "each of the two tokens, in each of three checks, whichever is right"
    assert all(isinstance(one, bytes) for pair in compared for one in pair)


@pytest.mark.parametrize(
    "options",
    [
        {"readers": ["short"]},
        {"readers": [""]},
        {"operators": ["with a space in it..."]},
        {"operators": ["tokén-of-an-operator"]},
        {"readers": READER},
        {"readers": [READER], "operators": [READER]},
        {"hosts": "example.org"},
        {"hosts": ["https://example.org"], "readers": [READER]},
        {"hosts": ["example.org/path"], "readers": [READER]},
        {"hosts": ["*"], "readers": [READER]},
        {"hosts": ["example.org"]},
    ],
    ids=str,
)
def test_settings_that_would_let_others_in_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"rt\.web\("):
        new_app(Runtime("redis://nobody.invalid"), **options)


# -- a host app's own dependency ---------------------------------------------------------------------------------------------------


async def by_header(request: Request) -> Any:
    """Give the role that a header names; a host app would look into its own session."""
    role = request.headers.get("x-role")
    if role == "late":
        raise HTTPException(401, "your session is over")
    request.scope["user"] = SimpleUser("ann")
    return role


async def test_a_host_app_gives_roles_by_its_own_dependency(serve: Serve) -> None:
    live = await serve(auth=by_header)
    told = [(await (await live.client(**{"X-Role": role} if role else {})).get("/api/v1/overview")).status_code for role in ("", "reader")]
    assert told == [401, 200]
    operator = await live.client(**{"X-Role": "operator"})
    assert (await operator.post("/api/v1/queues/default/pause", json={})).status_code == 403, "it may go by a cookie"
    assert (await operator.post("/api/v1/queues/default/pause", json={}, headers=same_site(live))).status_code == 200
    assert (await (await live.client()).post("/login", json={"token": READER})).status_code == 404
    assert (await (await live.client(**{"X-Role": "king"})).get("/api/v1/overview")).status_code == 500
    late = await (await live.client(**{"X-Role": "late"})).get("/api/v1/overview")
    assert (late.status_code, late.json()["error"]["message"]) == (401, "your session is over")
    assert [entry["who"] for entry in (await operator.get("/api/v1/audit")).json()["entries"]] == ["ann"]


async def test_tokens_go_beside_a_dependency(serve: Serve) -> None:
    live = await serve(auth=by_header, operators=[OPERATOR])
    assert (await (await live.client(OPERATOR)).get("/api/v1/me")).json()["role"] == "operator"
    assert (await (await live.client(**{"X-Role": "reader"})).get("/api/v1/me")).json()["role"] == "reader"


# -- forged requests ---------------------------------------------------------------------------------------------------------------

FORGED = {
    "another site": {"Origin": "https://evil.example", **JSON},
    "another port": {"Origin": "http://127.0.0.1:1", **JSON},
    "no site": {"Origin": "null", **JSON},
    "a broken origin": {"Origin": "http://[::1", **JSON},
    "silence": {**JSON},
    "fetched from another site": {"Sec-Fetch-Site": "cross-site", **JSON},
    "fetched from a neighbour": {"Sec-Fetch-Site": "same-site", **JSON},
    "a word that hides another origin": {"Sec-Fetch-Site": "none", **JSON},
}
PLAIN = {"a form": "application/x-www-form-urlencoded", "plain text": "text/plain", "nothing": ""}


@pytest.mark.parametrize("name", FORGED)
async def test_a_change_by_cookie_from_elsewhere_is_refused(live: Live, name: str) -> None:
    client = await session(live)
    answer = await client.post("/api/v1/queues/default/pause", content=b"{}", headers=FORGED[name])
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "OtherOrigin")


@pytest.mark.parametrize("name", PLAIN)
async def test_a_change_by_cookie_is_json(live: Live, name: str) -> None:
    client = await session(live)
    headers = {**same_site(live), **({"Content-Type": PLAIN[name]} if PLAIN[name] else {})}
    assert (await client.post("/api/v1/queues/default/pause", content=b"{}", headers=headers)).status_code == 415


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "here"}], ids=str)
async def test_a_change_by_cookie_from_the_page_is_done(live: Live, headers: dict[str, str]) -> None:
    client = await session(live)
    sent = {name: live.url if value == "here" else value for name, value in headers.items()}
    assert (await client.post("/api/v1/queues/default/pause", json={}, headers=sent)).status_code == 200


async def test_no_other_site_can_use_an_app_without_authentication(serve: Serve) -> None:
    live = await serve()
    client = await live.client()
    assert (await client.post("/api/v1/queues/default/pause", json={})).status_code == 200, "as a program of this machine asks"
    for name, headers in FORGED.items():
        wanted = 200 if name == "silence" else 403
        assert (await client.post("/api/v1/queues/default/pause", content=b"{}", headers=headers)).status_code == wanted, name
    assert (await client.post("/api/v1/queues/default/pause", content=b"{}", headers={"Content-Type": "text/plain"})).status_code == 415


async def test_no_other_site_reads_or_preflights(live: Live) -> None:
    client = await live.client(OPERATOR, Origin="https://evil.example")
    answer = await client.get("/api/v1/overview")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert (await client.options("/api/v1/jobs", headers={"Access-Control-Request-Method": "POST"})).status_code == 405


# -- hosts -------------------------------------------------------------------------------------------------------------------------


async def status_for(live: Live, host: str, path: str = "/api/v1/me") -> int:
    """Return the status of a request with a Host header."""
    return (await (await live.client()).get(path, headers={"Host": host})).status_code


async def test_the_app_answers_under_its_own_names_alone(serve: Serve) -> None:
    live = await serve(readers=[READER], hosts=["queues.example.org", "[2001:db8::1]"])
    for host in ("localhost", "LOCALHOST:8383", "127.0.0.1", "127.8.8.8:1", "[::1]:8383", "queues.example.org", "Queues.Example.org.:443"):
        assert await status_for(live, host) == 200, host
    assert await status_for(live, "[2001:db8::1]:80") == 200
    for host in (
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "a b",
        "user@localhost",
        "localhost/path",
        "[::1",
        "localhost:x",
    ):
        assert await status_for(live, host) in (400, 421), host
    assert await status_for(live, "evil.example", "/status.json") == 421
    assert await status_for(live, "10.0.0.1:8383", "/healthz") == 200
    assert await status_for(live, "10.0.0.1:8383", "/readyz") == 200


async def test_a_request_has_one_host_and_a_name_is_not_known_by_being_listened_on(rt: Runtime[Any]) -> None:
    app = new_app(rt, readers=[READER])
    for hosts, wanted in ((["localhost"], 200), (["localhost", "evil.example"], 421), (["evil.example"], 421), ([""], 421)):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://evil.example") as http:
            answer = await http.get("/api/v1/me", headers=[("Host", host) for host in hosts])
        assert answer.status_code == wanted, hosts
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://10.1.2.3:8383") as http:
        assert (await http.get("/api/v1/me")).status_code == 200, "the address on which it was reached"


def test_the_name_is_read_out_of_a_host_header() -> None:
    assert [host_name(host) for host in ("a:1", "[::1]:1", "A.b.", "::1", "a:b", "")] == ["a", "::1", "a.b", None, None, None]


def test_this_machine_is_known_by_its_addresses() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.org", "", "localhost.example.org")))  # noqa: S104


async def test_an_app_without_authentication_serves_this_machine_alone(rt: Runtime[Any]) -> None:
    app = new_app(rt)
    for client, wanted in ((("127.0.0.1", 1), 200), (("::1", 1), 200), (("10.0.0.1", 1), 403), (("2001:db8::1", 1), 403)):
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/api/v1/overview")).status_code == wanted, client
            for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"):
                assert (await http.get("/api/v1/overview", headers={name: "10.0.0.1"})).status_code == 403, "a proxy of this machine asks"
            assert (await http.get("/status.json")).status_code == 200


# -- headers and bounds ------------------------------------------------------------------------------------------------------------


async def test_every_answer_keeps_a_browser_from_harm(live: Live) -> None:
    client = await live.client(OPERATOR)
    paths = ("/", "/static/nothing", "/status", "/status.json", "/healthz", "/nothing", "/api/v1/overview", "/api/v1/jobs/none", "/login")
    for path in paths:
        answer = await client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
        assert path in ("/", "/status", "/status.json") or answer.headers["Cache-Control"] == "no-store", path
    refused = await client.get("/", headers={"Host": "evil.example"})
    assert {name: refused.headers.get(name) for name in HEADERS} == HEADERS


def test_the_policy_lets_no_script_in_but_the_files_of_the_page() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in json.dumps(policy)
    assert "http" not in json.dumps(policy)


async def test_a_query_and_a_body_have_bounds(operator: httpx.AsyncClient) -> None:
    assert (await operator.get("/api/v1/jobs", params={"text": "a" * QUERY_MAX_BYTES})).status_code == 414
    assert (await operator.get("/api/v1/jobs", params={"text": "a" * 600})).status_code == 422
    large = json.dumps({"actor": "echo", "arguments": {"value": "a" * (2 * 1024 * 1024)}}).encode()
    answer = await operator.post("/api/v1/jobs", content=large, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "PayloadTooLarge")
    over = json.dumps({"actor": "echo", "arguments": {"value": "a" * 1_100_000}}).encode()
    assert (await operator.post("/api/v1/jobs", content=over, headers=JSON)).status_code == 413


@pytest.mark.parametrize("content", [b"{", b"[" * 5000, b"\xff", b'{"actor": "echo"}x'], ids=["open", "deep", "no text", "more"])
async def test_what_is_no_json_is_refused(operator: httpx.AsyncClient, content: bytes) -> None:
    answer = await operator.post("/api/v1/jobs", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "NotJson")
