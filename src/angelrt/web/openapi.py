"""The OpenAPI 3.1 document, made of the operations and of the signatures of the actors that are declared."""

from __future__ import annotations

import copy
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from pydantic.json_schema import models_json_schema

from ..errors import AngelError
from ..redaction_marks import SECRET_KEYWORD
from . import errors
from .api_jobs import SendBody
from .call import Nothing
from .redaction import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from ..actor import Actor
    from .call import Operation

VERSION: Final = "3.1.0"
TEMPLATE: Final = "#/components/schemas/{model}"
REFERENCE: Final = "#/$defs/"
PARAMETER: Final = re.compile(r"\{(\w+)(?::path)?\}")
TELLING: Final = ("default", "examples", "example")
NAMED_PARTS: Final = ("properties", "$defs")
"""Where the keys of a schema are names that somebody has chosen, not words of the schema."""
WORDS: Final = {
    400: "The request is malformed.",
    401: "A role is needed.",
    403: "The role is too low, or the request comes from another site.",
    404: "It is not there.",
    409: "Something stands in the way: a drain, or a job that does the same work.",
    413: "It is too large.",
    415: "It is not declared as JSON.",
    422: "Fields are wrong.",
    429: "Too many wrong tokens have come within a minute; see Retry-After.",
    501: "An extra is not installed.",
    503: "Redis does not answer now; see Retry-After.",
}
DESCRIPTION: Final = (
    "Jobs, queues and workers of one namespace. Times are ISO 8601 in UTC, durations of options are seconds. Arguments and results are "
    "hidden unless an operator asks for them, and secrets are redacted in any case. A name or id in a path is percent-encoded as a whole."
)


def document(operations: Sequence[Operation], actors: Mapping[str, Actor[..., Any]], title: str, base: str, *, cookie: str) -> bytes:
    """Return the document as JSON; `base` is where the app is mounted, `cookie` the name of its session's cookie."""
    schemas = _models(operations)
    schemas["SendBody"] = _send_schema(actors, schemas)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(PARAMETER.sub(r"{\1}", operation.path), {})[operation.method.lower()] = _operation(operation)
    version = importlib.metadata.version("angelrt")
    found: dict[str, Any] = {
        "openapi": VERSION,
        "info": {"title": title, "version": version, "description": DESCRIPTION},
        "servers": [{"url": base or "/"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }
    return orjson.dumps(found, default=str)


def argument_schema(actor: Actor[..., Any]) -> dict[str, Any] | None:
    """Return the schema of an actor's arguments with their defaults, but those of secrets; None where it has none."""
    try:
        schema, defaults = actor.signature.schema(), actor.signature.defaults
    except AngelError:
        return None
    for name, one in schema.get("properties", {}).items():
        if name in defaults:
            one["default"] = defaults[name]
    _forget_defaults(schema, is_secret=False)
    return schema


def _forget_defaults(schema: Any, *, is_secret: bool) -> None:
    """Take the defaults and examples of secrets out of a schema, by name and by mark, at any depth."""
    if isinstance(schema, list):
        for one in cast("Sequence[Any]", schema):
            _forget_defaults(one, is_secret=is_secret)
    elif isinstance(schema, dict):
        found = cast("dict[str, Any]", schema)
        is_hidden = is_secret or SECRET_KEYWORD in found
        for word in TELLING if is_hidden or _holds_secret(found) else ():
            found.pop(word, None)
        for word, one in found.items():
            if word in NAMED_PARTS and isinstance(one, dict):
                for name, part in cast("dict[str, Any]", one).items():
                    _forget_defaults(part, is_secret=is_hidden or (word == "properties" and is_secret_name(name)))
            else:
                _forget_defaults(one, is_secret=is_hidden)


def _holds_secret(schema: Mapping[str, Any]) -> bool:
    """Tell whether a default of a schema is an object or a list with something in it: that may be a secret, and it is not looked into."""
    return any(isinstance(schema.get(word), dict | list) and schema[word] for word in TELLING)


# -- models ------------------------------------------------------------------------------------------------------------------------


def _models(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the schemas of all that is sent and answered."""
    answered: dict[type[BaseModel], None] = {errors.ErrorAnswer: None}
    sent: dict[type[BaseModel], None] = {}
    for operation in operations:
        answered |= dict.fromkeys(filter(None, (operation.answer, *operation.others.values())))
        sent |= {} if operation.body is Nothing or not operation.is_change else {operation.body: None}
    wanted = [*((model, "serialization") for model in answered), *((model, "validation") for model in sent)]
    _, found = models_json_schema(cast("Any", wanted), by_alias=True, ref_template=TEMPLATE)
    return cast("dict[str, Any]", found["$defs"])


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": TEMPLATE.format(model=model.__name__)}


def _send_schema(actors: Mapping[str, Actor[..., Any]], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a send: one shape for each actor. Adds those shapes, and all that they refer to, to the schemas."""
    general = schemas[SendBody.__name__]
    names: dict[str, str] = {}
    for name, actor in sorted(actors.items()):
        component = _component(name, schemas)
        names[name] = TEMPLATE.format(model=component)
        arguments = _arguments(actor, component, schemas)
        properties = {**copy.deepcopy(general["properties"]), "actor": {"type": "string", "const": name}, "arguments": arguments}
        is_needed = bool(arguments.get("required"))
        schemas[component] = {
            "type": "object",
            "title": component,
            "properties": properties,
            "required": ["actor", *(["arguments"] if is_needed else [])],
            "additionalProperties": False,
        }
    if not names:
        return cast("dict[str, Any]", general)
    return {
        "oneOf": [{"$ref": reference} for reference in names.values()],
        "discriminator": {"propertyName": "actor", "mapping": names},
    }


def _component(actor: str, schemas: Mapping[str, Any]) -> str:
    """Return a name for an actor's shape that no other has, of the letters that a component may have."""
    base = found = "Send_" + re.sub(r"[^A-Za-z0-9._-]", "_", actor)
    number = 2
    while found in schemas:
        found, number = f"{base}_{number}", number + 1
    return found


def _arguments(actor: Actor[..., Any], component: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an actor's arguments; what it refers to is put among the schemas under names of its own."""
    schema = argument_schema(actor) or {"type": "object"}
    defined = schema.pop("$defs", {})
    names = {name: f"{component}." + re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in defined}
    for name, one in defined.items():
        schemas[names[name]] = _pointing(one, names)
    return cast("dict[str, Any]", _pointing(schema, names))


def _pointing(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references lead to the components of the document."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {key: _moved(value, names) if key == "$ref" else _pointing(value, names) for key, value in items}
    if isinstance(schema, list):
        return [_pointing(one, names) for one in cast("Sequence[Any]", schema)]
    return schema


def _moved(reference: Any, names: Mapping[str, str]) -> Any:
    name = str(reference).removeprefix(REFERENCE)
    return TEMPLATE.format(model=names[name]) if name in names else reference


# -- operations --------------------------------------------------------------------------------------------------------------------


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation),
        "x-role": operation.role or "anybody",
    }
    if operation.is_change:
        model = _reference(operation.body) if operation.body is not Nothing else {"type": "object", "additionalProperties": False}
        has_needed = operation.body is not Nothing and any(field.is_required() for field in operation.body.model_fields.values())
        found["requestBody"] = {"required": has_needed, "content": {"application/json": {"schema": model}}}
    if operation.role is None:
        found["security"] = []
    return found


def operation_id(operation: Operation) -> str:
    """Return a name for an operation that a generated client can use: `getJobsByNameResult`."""
    words = re.findall(r"[A-Za-z0-9]+", PARAMETER.sub(r" by \1 ", operation.path.removeprefix("/api/v1")))
    return operation.method.lower() + "".join(word.removesuffix("json").capitalize() for word in words)


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in PARAMETER.findall(operation.path)]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    schema = operation.query.model_json_schema(by_alias=True)
    needed = schema.get("required", [])
    return [{"name": name, "in": "query", "required": name in needed, "schema": one} for name, one in schema.get("properties", {}).items()]


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {str(operation.status): _response(operation.answer, operation.media, operation.status, operation.summary)}
    for status, model in operation.others.items():
        found[str(status)] = _response(model, operation.media, status, operation.summary)
    refusals = {400, 413, 415, 422, 503} if operation.is_change else {422, 503}
    refusals |= set() if operation.role is None else {401, 403, 429}
    refusals |= {"/login": {401, 429}, "/api/v1/me": {429}}.get(operation.path, set())
    refusals |= {404} if "{" in operation.path else set()
    refusals |= {409} if operation.path.startswith(("/api/v1/jobs", "/api/v1/failed")) and operation.is_change else set()
    refusals |= {501} if operation.path == "/metrics" else set()
    error = {"application/json": {"schema": _reference(errors.ErrorAnswer)}}
    return found | {str(status): {"description": WORDS[status], "content": error} for status in sorted(refusals)}


def _response(model: type[BaseModel] | None, media: str, status: int, summary: str) -> dict[str, Any]:
    if status == 204:  # noqa: PLR2004 - no content
        return {"description": f"{summary}: done."}
    schema = {"type": "object"} if media == "application/json" else {"type": "string"}
    return {"description": f"{summary}.", "content": {media: {"schema": _reference(model) if model else schema}}}
