"""What the API answers when something is wrong: a status, and JSON that says what, where, and what to do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, ValidationError
from starlette.responses import Response

from .. import errors
from ..job import View

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    from ..errors import AngelError

STATUS_OF: Final[Mapping[type[AngelError], int]] = {
    errors.InvalidArguments: 422,
    errors.InvalidOptions: 422,
    errors.PayloadTooLarge: 413,
    errors.JobNotFound: 404,
    errors.Draining: 409,
    errors.DuplicateJob: 409,
    errors.RedisUnavailable: 503,
    errors.RedisFull: 503,
    errors.RedisRefused: 503,
    errors.NotReplicated: 503,
    errors.RuntimeNotOpen: 503,
}
RETRY_AFTER_S: Final = "2"
REMEDIES: Final[Mapping[type[AngelError], str]] = {
    errors.RedisUnavailable: "Try again in some seconds.",
    errors.RedisFull: "Try again when memory is free again.",
}


class Fault(View):
    """What is wrong with one field of a request: its path in the body or its name in the query, and why."""

    field: str
    message: str


class ErrorBody(View):
    """What is wrong: `type` for programs, `message` for people, and the fields at fault."""

    type: str
    message: str
    fields: list[Fault] = Field(default_factory=list[Fault])


class ErrorAnswer(View):
    """Every answer of a status from 400 on."""

    error: ErrorBody


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that is refused with a status of its own."""

    def __init__(
        self, status: int, kind: str, message: str, fields: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep what the answer says."""
        super().__init__(message)
        self.status, self.kind, self.message, self.fields, self.headers = status, kind, message, tuple(fields), headers


def answer(status: int, kind: str, message: str, fields: Sequence[Fault] = (), headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that says what is wrong."""
    body = ErrorAnswer(error=ErrorBody(type=kind, message=message, fields=list(fields)))
    return Response(body.to_json(), status, headers, "application/json")


@contextlib.contextmanager
def at_field(name: str, message: str | None = None) -> Generator[None]:
    """Refuse what is wrong here as this field's fault, in words of the API's own where the error's are for Python."""
    try:
        yield
    except errors.InvalidOptions as error:
        raise wrong_field(name, message or str(error)) from error


def wrong_field(name: str, message: str) -> Refused:
    """Return the refusal of one field."""
    return Refused(422, errors.InvalidOptions.__name__, message, [Fault(field=name, message=message)])


def of_error(error: AngelError) -> Response:
    """Return the answer to an error of angelrt."""
    kind = type(error)
    status = next((STATUS_OF[one] for one in kind.__mro__ if one in STATUS_OF), 500)
    headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else None  # noqa: PLR2004 - the table above
    remedy = REMEDIES.get(kind)
    message = f"{str(error).rstrip('.')}. {remedy}" if remedy else str(error)
    return answer(status, kind.__name__, message, faults(error), headers)


def faults(error: AngelError) -> list[Fault]:
    """Return the fields of arguments that are at fault, as paths of the body: `arguments.size.width`."""
    cause = error.__cause__
    if isinstance(error, errors.InvalidArguments) and isinstance(cause, ValidationError):
        return fields_of(cause, "arguments")
    return []


def fields_of(error: ValidationError, *above: str) -> list[Fault]:
    """Return the faults of a validation, without the values, which may be private."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [Fault(field=".".join(map(str, (*above, *item["loc"]))) or "body", message=item["msg"]) for item in found]


async def of_http(_request: Request, error: Exception) -> Response:
    """Return the answer to what the router refuses: a path that is not there, a method that it does not have."""
    refused: HTTPException = error  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType] - registered for it alone
    kind = {404: "NotFound", 405: "MethodNotAllowed"}.get(refused.status_code, "Refused")
    return answer(refused.status_code, kind, str(refused.detail), headers=_as_headers(refused.headers))


def _as_headers(headers: Mapping[str, str] | None) -> dict[str, Any] | None:
    return None if headers is None else dict(headers)
