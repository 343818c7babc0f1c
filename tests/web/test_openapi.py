"""The document says what the API does: every route, every field of every answer, and the arguments of every actor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from angelrt import Runtime, Secret
from angelrt.web.api import OPERATIONS
from angelrt.web.call import Nothing
from angelrt.web.openapi import document, operation_id
from tests.web.conftest import HIDDEN
from tests.web.test_api_jobs import ended, get
from tests.web.test_auth import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def described(rt: Runtime[Any]) -> dict[str, Any]:
    """Return the document of a runtime."""
    import orjson  # noqa: PLC0415 - as the app does

    found: dict[str, Any] = orjson.loads(document(OPERATIONS, rt.registered, "Queues", "", cookie="session"))
    return found


def problems(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str = "") -> list[str]:
    """Say what of a value a schema does not describe. It knows the keywords that the document uses."""
    if "$ref" in schema:
        return problems(value, root["components"]["schemas"][schema["$ref"].rpartition("/")[2]], root, where)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tried = [problems(value, one, root, where) for one in schema[word]]
            return [] if [] in tried else min(tried, key=len)
    kind = schema.get("type")
    found = [f"{where}: {value!r} is no {kind}"] if kind and not isinstance(value, TYPES[kind]) else []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, dict):
        own = schema.get("properties", {})
        rest = schema.get("additionalProperties", "properties" not in schema)
        found += [f"{where}.{name}: is missing" for name in schema.get("required", ()) if name not in value]
        found += [f"{where}.{name}: is not described" for name in value if name not in own and rest is False]
        for name, item in value.items():
            found += problems(item, own.get(name, rest if isinstance(rest, dict) else {}), root, f"{where}.{name}")
    for number, item in enumerate(value if isinstance(value, list) else ()):
        found += problems(item, schema.get("items", {}), root, f"{where}.{number}")
    return found


def test_a_value_that_is_not_as_described_is_found() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a", "b"]}
    assert problems({"a": [1, "x"], "c": 1}, schema | {"additionalProperties": False}, {}) == [
        ".b: is missing",
        ".c: is not described",
        ".a.1: 'x' is no integer",
    ]
    assert problems({"a": []}, schema | {"required": ["a"]}, {}) == []


async def test_answers_are_as_the_document_says(working: Runtime[Any], operator: httpx.AsyncClient) -> None:
    done, failed = await ended(working, "echo", value=[1]), await ended(working, "fails", password=HIDDEN)
    await working.schedules.add("daily", working.registered["echo"].message(1), cron="0 4 * * *")
    await working.control.pause(queue="default", by="test")
    held = await working.send("echo")
    root = await get(operator, "openapi.json")
    asked = {
        "/api/v1/jobs/{name}": [done, failed, held.id],
        "/api/v1/jobs/{name}/result": [done, failed],
        "/api/v1/jobs/{name}/explain": [done, failed, held.id],
    }
    for path, methods in root["paths"].items():
        answers = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" not in answers or path.endswith("openapi.json"):
            continue
        for name in asked.get(path, [""]):
            told = (await operator.get(path.replace("{name}", name))).json()
            closed = {"schema": answers["application/json"]["schema"]}["schema"]
            assert problems(told, _strict(closed), _strict(root)) == [], path


def _strict(schema: Any) -> Any:
    """Return a schema by which an object has the fields that it names and no others."""
    if isinstance(schema, dict):
        inner = {name: _strict(one) for name, one in schema.items()}
        return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) and "type" in schema else inner
    return [_strict(one) for one in schema] if isinstance(schema, list) else schema


async def test_a_refusal_is_as_the_document_says(operator: httpx.AsyncClient) -> None:
    root = await get(operator, "openapi.json")
    told = await get(operator, "jobs", 422, limit=0)
    schema = root["paths"]["/api/v1/jobs"]["get"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert problems(told, _strict(schema), _strict(root)) == []


async def test_every_route_of_the_api_is_in_the_document_with_its_role(rt: Runtime[Any]) -> None:
    found = {
        (method.upper(), path): operation["x-role"]
        for path, methods in described(rt)["paths"].items()
        for method, operation in methods.items()
    }
    api = {
        (method, path.replace(":path", "")): role
        for (method, path), (role, *_) in TABLE.items()
        if path not in ("/", "/static", "/status", "/status.json")
    }
    assert found == api


def test_every_operation_has_a_name_of_its_own_and_says_what_it_answers() -> None:
    names = [operation_id(operation) for operation in OPERATIONS]
    assert sorted(set(names)) == sorted(names)
    assert {"getJobs", "postJobs", "getJobsByNameResult", "putLimits", "deleteSchedulesByName"} <= set(names)
    silent = [one.path for one in OPERATIONS if one.answer is None and one.status != 204 and one.media == "application/json"]
    assert silent == ["/api/v1/openapi.json"]
    assert [one.path for one in OPERATIONS if not one.is_change and one.body is not Nothing] == []


def references(schema: Any) -> Iterator[str]:
    """Yield where a schema points to."""
    if isinstance(schema, dict):
        for name, one in schema.items():
            if name == "$ref":
                yield one
            else:
                yield from references(one)
    for one in schema if isinstance(schema, list) else ():
        yield from references(one)


class Size(BaseModel):
    width: int
    inner: Size | None = None


def shapes() -> Runtime[Any]:
    """Return a runtime with actors whose models share a name, or whose names share letters."""
    rt: Runtime[Any] = Runtime("redis://nobody.invalid")

    @rt.actor(name="a/b")
    async def first(size: Size, note: Annotated[str, Secret] = "") -> None: ...

    class Size2(BaseModel):
        kilos: float

    Size2.__name__ = Size2.__qualname__ = "Size"
    first_size = Size2

    @rt.actor(name="a:b")
    async def second(size: Any = None) -> None: ...

    second.function.__annotations__["size"] = first_size

    @rt.actor(name="odd")
    async def odd(thing: str) -> None: ...

    odd.function.__annotations__["thing"] = "ThereIsNoSuchName"
    return rt


def test_each_actor_has_a_shape_of_its_own() -> None:
    root = described(shapes())
    send = root["components"]["schemas"]["SendBody"]
    mapping = send["discriminator"]["mapping"]
    assert mapping.keys() == {"a/b", "a:b", "odd"}
    assert len(set(mapping.values())) == 3
    assert [one["$ref"] for one in send["oneOf"]] == list(mapping.values())
    assert set(references(root)) <= {f"#/components/schemas/{name}" for name in root["components"]["schemas"]}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in root["components"]["schemas"])
    good = [
        {"actor": "a/b", "arguments": {"size": {"width": 1, "inner": {"width": 2}}}},
        {"actor": "a:b", "arguments": {"size": {"kilos": 1.5}}, "options": {"delay": 5}},
        {"actor": "a:b"},
        {"actor": "odd", "arguments": {"whatever": 1}},
    ]
    bad = [
        {"actor": "a/b"},
        {"actor": "a/b", "arguments": {"size": {"kilos": 1}}},
        {"actor": "a:b", "arguments": {"size": {"width": 1}}},
        {"actor": "a:b", "arguments": {}, "options": {"delay": "5"}},
    ]
    shape = {name: root["components"]["schemas"][reference.rpartition("/")[2]] for name, reference in mapping.items()}
    assert [problems(body, shape[str(body["actor"])], root) for body in good] == [[]] * len(good)
    assert [] not in [problems(body, shape[str(body["actor"])], root) for body in bad]
    assert shape["a/b"]["properties"]["actor"]["const"] == "a/b"


def test_a_runtime_without_actors_has_a_document() -> None:
    root = described(Runtime("redis://nobody.invalid"))
    assert root["openapi"] == "3.1.0"
    assert "oneOf" not in root["components"]["schemas"]["SendBody"]


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "a", [], {}])
def test_what_is_described_by_nothing_may_be_anything(value: Any) -> None:
    assert problems(to_jsonable_python(value), {}, {}) == []
