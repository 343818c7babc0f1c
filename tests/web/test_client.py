"""The TypeScript client: it has what the OpenAPI document has, its types hold, and it does in Node what it says."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from angelrt import Concurrency, RetryPolicy, Runtime
from angelrt.events import Event
from angelrt.web import new_app
from angelrt.web.api_jobs import FailedFilter
from tests.scripts.partition import Partition
from tests.tidy.project import PACKAGE
from tests.worker.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

HERE: Final = Path(__file__).parent
CLIENT: Final = PACKAGE / "web" / "client"
CODE, TYPES = (CLIENT / "angelrt.mjs").read_text(encoding="utf-8"), (CLIENT / "angelrt.d.mts").read_text(encoding="utf-8")
OPERATOR, READER = "operator-of-the-test", "reader-of-the-test"
SCENARIO_S: Final = 50
NODE_MIN: Final = 20

CALLED: Final = re.compile(r'this\.#(?:json|text|fetch)\("([A-Z]+)", "([^"]+)"')
METHOD: Final = re.compile(r"^  (?:async )?\*?(#?\w+)\([^\n]*\{$", re.MULTILINE)
DECLARED: Final = re.compile(r"/\*\* ([A-Z]+) (/\S*) \*/\n  (\w+)(?:<[^\n]*?>)?\(([^\n]*)\): Promise<([^\n]+)>;")
INTERFACE: Final = re.compile(r"^export interface (\w+)(?: extends (\w+))? \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD: Final = re.compile(r"^  (\w+)(\??): (.+);$", re.MULTILINE)
BY_MANY: Final = {"events", "pause", "resume", "drain"}
"""Methods that are no plain call of one path; what they ask for is seen in their code."""
OF_A_MESSAGE: Final = {"SendBody"}
"""What has no interface: a send is checked by its actor's arguments."""


@cache
def node() -> str | None:
    """Return a Node that is new enough: that on PATH, or the one that Playwright brings."""
    brought = importlib.util.find_spec("playwright")
    driver = Path(brought.origin).parent / "driver" / "node" if brought and brought.origin else None
    for found in filter(None, (shutil.which("node"), driver)):
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout if Path(found).exists() else ""
        if int(told.lstrip("v").partition(".")[0] or 0) >= NODE_MIN:
            return str(found)
    return None


def make_app(url: str, namespace: str) -> Runtime[Any]:
    """Return a runtime with some actors and a schedule."""
    rt = Runtime(url, namespace=namespace)

    @rt.actor()
    async def double(number: int) -> int:
        return 2 * number

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def breaks() -> None:
        raise LookupError("no such customer")

    @rt.actor(limits=[Concurrency(1, per="customer_id")])
    async def call(customer_id: int) -> int:
        return customer_id

    rt.schedule("nightly", call.message(1), cron="0 3 1 1 *")
    return rt


# -- the document -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document as the app gives it."""
    app = new_app(make_app("redis://nowhere", "test"), operators=[OPERATOR], hosts=["testserver"])
    answer = asyncio.run(asked(app, "/api/v1/openapi.json"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def asked(app: Starlette, path: str) -> httpx.Response:
    """Ask an app for a path, as an operator."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        return await client.get(path, headers={"Authorization": f"Bearer {OPERATOR}"})


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations of a document by method and path."""
    return {(method.upper(), path): one for path, methods in document["paths"].items() for method, one in methods.items()}


def calls_of(code: str) -> dict[str, set[tuple[str, str]]]:
    """Return what each method of the client asks for; what a private one asks for belongs to the only one that uses it."""
    heads = list(METHOD.finditer(code))
    ends = [*(head.start() for head in heads[1:]), len(code)]
    calls = {head[1]: set(CALLED.findall(code[head.end() : end])) for head, end in zip(heads, ends, strict=True)}
    calls["events"] = calls.pop("#stream")
    return {name: asked for name, asked in calls.items() if asked}


def interfaces_of(types: str) -> dict[str, dict[str, tuple[bool, str]]]:
    """Return the fields of each interface: whether one may be left out, and its type."""
    found: dict[str, dict[str, tuple[bool, str]]] = {}
    for name, base, body in INTERFACE.findall(types):
        own = {field: (bool(optional), written) for field, optional, written in FIELD.findall(body)}
        found[name] = {**found.get(base, {}), **own}
    return found


def in_typescript(schema: dict[str, Any]) -> str:
    """Write the type of a JSON schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(map(in_typescript, schema["anyOf"])))
    if schema.get("type") == "array":
        return f"{in_typescript(schema['items'])}[]"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties", True)
        return f"Record<string, {'unknown' if values is True else in_typescript(values)}>"
    return {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}.get(
        schema.get("type", ""), "unknown"
    )


def answers_of(operation: dict[str, Any]) -> str:
    """Write the type of what an operation answers when all is well."""
    found: list[str] = []
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            content = list(answer.get("content", {}).values())
            found.append(in_typescript(content[0]["schema"]) if content else "void")
    return " | ".join(dict.fromkeys(found))


def test_every_documented_operation_has_a_method_and_every_method_an_operation(document: dict[str, Any]) -> None:
    asked = {call for calls in calls_of(CODE).values() for call in calls}
    assert asked == set(operations_of(document))


def test_declared_methods_are_those_of_the_code_and_return_what_is_documented(document: dict[str, Any]) -> None:
    operations, calls = operations_of(document), calls_of(CODE)
    declared = {name: ((method, path), answer) for method, path, name, _, answer in DECLARED.findall(TYPES)}
    assert declared.keys() == calls.keys() - BY_MANY
    assert {name: {call} for name, (call, _) in declared.items()} == {name: calls[name] for name in declared}
    assert {name: answer for name, (_, answer) in declared.items()} == {
        name: answers_of(operations[call]) for name, (call, _) in declared.items()
    }


def test_methods_take_the_documented_queries(document: dict[str, Any]) -> None:
    operations, interfaces = operations_of(document), interfaces_of(TYPES)
    declared = {(method, path): parameters for method, path, _, parameters, _ in DECLARED.findall(TYPES)}
    declared["GET", "/api/v1/events"] = "query?: EventsQuery"
    for call, parameters in declared.items():
        documented = {one["name"] for one in operations[call]["parameters"] if one["in"] == "query"}
        queries = re.findall(r": (\w+Query)\b", parameters)
        assert {field for query in queries for field in interfaces[query]} == documented, call


def test_interfaces_have_the_documented_fields_and_types(document: dict[str, Any]) -> None:
    interfaces, schemas = interfaces_of(TYPES), document["components"]["schemas"]
    schemas["Event"] = Event.model_json_schema(mode="serialization")
    schemas["FailedFilter"] = FailedFilter.model_json_schema()
    sent = {name for name in schemas if name.endswith("Body") and name != "ErrorBody"} | {"FailedFilter"}
    shapes = {name: schema for name, schema in schemas.items() if "properties" in schema and not name.startswith("Send_")}
    for name, schema in shapes.items():
        # An answer has all of its fields, whatever the document says of defaults.
        needed = set(schema.get("required", ())) if name in sent else set(schema["properties"])
        documented = {field: (field not in needed, in_typescript(one)) for field, one in schema["properties"].items()}
        assert interfaces[name] == documented, name
    assert schemas["Status"]["enum"] == re.findall(r'"(\w+)"', TYPES.partition("type Status =")[2].partition(";")[0])
    assert {name for name in schemas if name not in shapes and not name.startswith("Send_")} == OF_A_MESSAGE | {"Status"}


def test_states_of_a_query_are_those_of_the_document(document: dict[str, Any]) -> None:
    [state] = (one["schema"] for one in operations_of(document)["GET", "/api/v1/jobs"]["parameters"] if one["name"] == "state")
    assert in_typescript(state["anyOf"][0]) == TYPES.partition("type JobState = ")[2].partition(";")[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"GET", "/api/v1/queues"', '"GET", "/api/v1/queue"'),
        ('"PUT", "/api/v1/limits"', '"POST", "/api/v1/limits"'),
        ('return this.#json("GET", "/api/v1/alerts", { call });', "return 1;"),
    ],
)
def test_call_that_is_wrong_is_found(document: dict[str, Any], old: str, new: str) -> None:
    assert old in CODE
    asked = {call for calls in calls_of(CODE.replace(old, new)).values() for call in calls}
    assert asked != set(operations_of(document))


# -- its types ----------------------------------------------------------------------------------------------------------------------


def test_code_fits_its_types_and_wrong_uses_are_refused(tmp_path: Path) -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("no tsc on PATH, so the types are not checked: npm install --global typescript")
    files = [CLIENT / "angelrt.mjs", CLIENT / "angelrt.d.mts", HERE / "client_uses.mts"]
    strict = {"strict": True, "noUncheckedIndexedAccess": True, "exactOptionalPropertyTypes": False, "noEmit": True}
    place = {"target": "es2022", "module": "nodenext", "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"], "types": []}
    options = {**strict, **place, "allowJs": True, "checkJs": True}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": list(map(str, files))}), encoding="utf-8")
    ran = subprocess.run([tsc, "--project", tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


# -- in Node ------------------------------------------------------------------------------------------------------------------------


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to the test run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass
class Live:
    """A live app, and how Node is let loose on it."""

    url: str

    async def does(self, scenario: str) -> None:
        """Run a scenario; it must end well."""
        arguments = [HERE / "client_scenarios.mjs", (CLIENT / "angelrt.mjs").as_uri(), self.url, OPERATOR, READER, scenario]
        ran = await asyncio.create_subprocess_exec(
            str(node()), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            said, _ = await asyncio.wait_for(ran.communicate(), SCENARIO_S)
        finally:
            if ran.returncode is None:
                ran.kill()
        assert ran.returncode == 0, said.decode()


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncGenerator[str]:
    """Serve an app on a free port of this machine, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = QuietServer(uvicorn.Config(app, lifespan="off", log_level="warning", ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started or serving.done(), "the app is served")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            await serving


@pytest.fixture
async def live(server_url: str, namespace: str) -> AsyncIterator[Live]:
    """The app with a worker, served below a path, on a namespace that is removed afterwards."""
    if node() is None:
        pytest.skip(f"no Node {NODE_MIN} or newer, on PATH or from Playwright, so the client is not run: apt-get install nodejs")
    rt, part = make_app(server_url, namespace), Partition(server_url, namespace)
    host = Starlette(routes=[Mount("/queues", new_app(rt, operators=[OPERATOR], readers=[READER], hosts=["127.0.0.1"]))])
    try:
        async with rt, rt.worker(concurrency=10), served(host) as url:
            await until_declared(rt)
            yield Live(f"{url}/queues")
    finally:
        part.queues = ("default",)
        await part.remove()


async def until_declared(rt: Runtime[Any]) -> None:
    """Return when the worker has stored its schedule and its limits."""
    while not (await rt.schedules.list() and await rt.control.limits() and await rt.workers()):  # noqa: ASYNC110 - it happens in Redis
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("scenario", ["jobs", "failures", "endings", "troubles", "pages", "refusals", "views", "events", "metrics"])
async def test_client_in_node(live: Live, scenario: str) -> None:
    await live.does(scenario)
