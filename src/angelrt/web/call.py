"""One request of the API: an operation says what it takes and gives and who may; its endpoint checks that, and calls its handler."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .. import errors as angel_errors
from ..actor import check_actor_name
from ..queue import check_queue
from . import audit, errors
from .auth import JSON_TYPE, NOBODY, Access, Identity, Role, allow, refuse_forgery
from .errors import Refused, fields_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from ..alerts import AlertRule
    from ..runtime import Runtime
    from .redaction import Redactor

log = logging.getLogger("angelrt.web")

BODY_MAX_BYTES: Final = 2 * 1024 * 1024
TEXT_MAX_CHARS: Final = 500
"""The longest value in a query."""


def _checked(check: Callable[[str], str]) -> AfterValidator:
    """Return a check of the package as one of a field, so that the answer names the field."""

    def checked(value: str) -> str:
        try:
            return check(value)
        except angel_errors.InvalidOptions as error:
            kind, template = "name", "{words}"
            raise PydanticCustomError(kind, template, {"words": str(error)}) from error

    return AfterValidator(checked)


QueueName: TypeAlias = Annotated[str, _checked(check_queue)]
ActorName: TypeAlias = Annotated[str, _checked(check_actor_name)]


class Query(BaseModel):
    """The base of what stands in a query: an empty value is none, an unknown name is refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=False, frozen=True, str_max_length=TEXT_MAX_CHARS)


class Body(BaseModel):
    """The base of what is sent: an unknown name is refused, and nothing is taken for what it is not."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=False, frozen=True, strict=True)


class Nothing(Body):
    """A body that says nothing: `{}`."""


class NoQuery(Query):
    """No query."""


@dataclass(slots=True)
class Site:
    """What all requests of one app share."""

    rt: Runtime[Any]
    access: Access
    redactor: Redactor
    alerts: Sequence[AlertRule]
    title: str
    streams: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    waits: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    is_stopping: bool = False

    def stop(self) -> None:
        """End the event streams and the calls that wait, those that come later, too: a server that stops would wait for them."""
        self.is_stopping = True
        for end in (*self.streams, *self.waits):
            end.set()

    def new_end(self, among: set[asyncio.Event]) -> asyncio.Event:
        """Return what is set when somebody among those is to end; discard it there."""
        end = asyncio.Event()
        among.add(end)
        if self.is_stopping:
            end.set()
        return end


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be answered: who asks, and the query and body as their models have read them."""

    site: Site
    request: Request
    identity: Identity
    query: Any
    body: Any

    @property
    def rt(self) -> Runtime[Any]:
        """The runtime."""
        return self.site.rt

    @property
    def name(self) -> str:
        """The name or id in the path."""
        return unquote(self.request.path_params["name"])

    @property
    def is_operator(self) -> bool:
        """Whether who asks may change things."""
        return self.identity.role == "operator"

    async def unless_over(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work, at most until the client goes or the server stops; it is cancelled then."""
        end = self.site.new_end(self.site.waits)
        tasks: list[asyncio.Future[Any]] = [*map(asyncio.ensure_future, (work, end.wait(), self._gone()))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            self.site.waits.discard(end)
            for task in tasks:
                task.cancel()

    async def _gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    async def note(self, action: str, what: str) -> None:
        """Write into the audit what is about to be done."""
        await audit.note(self.rt, self.identity, action, what)

    def refuse_reveal(self, *, wanted: bool) -> None:
        """Raise Refused for a reader who asks for something hidden."""
        if wanted:
            allow(self.identity, "operator", is_required=self.site.access.is_required)

    async def may_reveal(self, what: str, *, wanted: bool) -> bool:
        """Tell whether something hidden is shown, and write down that it is. Raises Refused for a reader who asks for it."""
        self.refuse_reveal(wanted=wanted)
        if wanted:
            await self.note("reveal", what)
        return wanted


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; `answer` is the model of what comes with `status`, `others` are those of further statuses.

    `role` None means everybody. `names` says what `{name}` in the path is.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Callable[[Call], Awaitable[BaseModel | Response]]
    summary: str
    answer: type[BaseModel] | None = None
    role: Role | None = "reader"
    query: type[Query] = NoQuery
    body: type[Body] = Nothing
    status: int = 200
    others: Mapping[int, type[BaseModel]] = field(default_factory=dict[int, type[BaseModel]])
    media: str = JSON_TYPE

    @property
    def is_change(self) -> bool:
        """Whether something may be other afterwards."""
        return self.method != "GET"


class Endpoint:
    """An operation as an ASGI app."""

    def __init__(self, site: Site, operation: Operation) -> None:
        """Keep both."""
        self._site = site
        self.operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            found = await self.operation.handler(await self._call(request))
        except Refused as refused:
            return errors.answer(refused.status, refused.kind, refused.message, refused.fields, refused.headers)
        except angel_errors.AngelError as error:
            if isinstance(error, angel_errors.ConfigError):
                log.exception("%s %s", self.operation.method, self.operation.path)
            return errors.of_error(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except HTTPException as error:  # of the host app's own dependency
            return await errors.of_http(request, error)
        except Exception:
            log.exception("%s %s", self.operation.method, self.operation.path)
            return errors.answer(500, "InternalError", "something is wrong here; the log of the process tells what")
        return found if isinstance(found, Response) else _as_json(found, self.operation.status)

    async def _call(self, request: Request) -> Call:
        operation, access = self.operation, self._site.access
        identity = await access.identify(request) if operation.role is not None else NOBODY
        if operation.role is not None:
            allow(identity, operation.role, is_required=access.is_required)
        if operation.is_change:
            refuse_forgery(request, identity)
        try:
            query = operation.query.model_validate({name: value for name, value in request.query_params.items() if value})
        except ValidationError as error:
            raise _not_as_described(error) from error
        body = await _read(request, operation.body) if operation.is_change else None
        return Call(self._site, request, identity, query, body)


def _as_json(found: BaseModel, status: int) -> Response:
    return Response(found.model_dump_json(by_alias=True), status, media_type=JSON_TYPE)


async def _read(request: Request, model: type[Body]) -> Body:
    """Return the body. Raises Refused for one that is too large, no JSON, or not as described."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_MAX_BYTES:
            raise Refused(413, "PayloadTooLarge", f"the body is over {BODY_MAX_BYTES:,} bytes: store the data elsewhere and pass its key")
    if content and request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise Refused(415, "NotJson", f"send `Content-Type: {JSON_TYPE}`")
    try:
        return model.model_validate_json(bytes(content) or b"{}")
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors(include_input=False)):
            raise Refused(400, "NotJson", "the body is no JSON: " + error.errors(include_input=False)[0]["msg"]) from error
        raise _not_as_described(error) from error


def _not_as_described(error: ValidationError) -> Refused:
    faults = fields_of(error)
    words = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return Refused(422, "InvalidRequest", f"the request is not as the API describes it: {words}", faults)
