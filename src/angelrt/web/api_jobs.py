"""The part of the API that is about jobs: send, look, wait, cancel, and let failed ones run again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AwareDatetime, Field
from pydantic_core import to_jsonable_python
from starlette.responses import Response

from ..actor import SendKeywords, send_options
from ..dead_letters import DeadLetterFilter, Replays
from ..errors import InvalidOptions, JobCancelled, JobFailed, JobNotFound, RedisUnavailable
from ..job import Explanation, JobInfo, Status, View
from ..jobs import PAGE_DEFAULT, PAGE_MAX, JobState
from . import answers
from .call import TEXT_MAX_CHARS, ActorName, Body, Call, Operation, Query, QueueName
from .errors import Fault, Refused, at_field, wrong_field
from .redaction import masked, masked_error, masked_progress, restored, searchable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..dead_letters import DeadLetter
    from ..handle import Job

WAIT_MAX_S: Final = 30.0
NO_CURSOR: Final = "cursor: pass the `cursor` of the page before"
LOOKS_MAX: Final = 20
"""The most pages of dead letters that are looked at for one page of those that were asked for."""


class SendOptionsBody(Body):
    """What holds for this job alone; durations in seconds. See `SendKeywords`."""

    id: str | None = None
    delay: float | None = None
    at: AwareDatetime | None = None
    priority: int | None = None
    queue: str | None = None
    timeout: float | None = None
    attempts: int | None = None
    expires: float | None = None
    cost: int | None = None
    tenant: str | None = None


class SendBody(Body):
    """A job: the name of an actor that is declared in this process, its arguments by name, and options."""

    actor: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    options: SendOptionsBody = SendOptionsBody()


class JobsQuery(Query):
    """Which jobs; times are of `createdAt`. `text` is looked for in all that you may see of a job."""

    state: JobState | None = None
    queue: QueueName | None = None
    actor: ActorName | None = None
    text: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: Annotated[str | None, Field(max_length=2 * TEXT_MAX_CHARS)] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT


class RevealQuery(Query):
    """Whether what is hidden is shown, to operators; it is written into the audit."""

    reveal: bool = False


class ResultQuery(RevealQuery):
    """How long to wait for the end, in seconds."""

    wait: Annotated[float, Field(ge=0, le=WAIT_MAX_S)] = 0.0


class RetryBody(Body):
    """Arguments that change, by name, and names of those that are left out; the others stay as they were sent.

    What stands as `[redacted]` stays as it was.
    """

    arguments: dict[str, Any] | None = None
    without: list[str] = Field(default_factory=list)


class FailedQuery(Query):
    """Which dead letters. `error` is the type of the error, qualified or not; `text` is looked for in all that you may see."""

    actor: ActorName | None = None
    queue: QueueName | None = None
    error: str | None = None
    text: str | None = None
    cursor: Annotated[str | None, Field(max_length=2 * TEXT_MAX_CHARS)] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT


class FailedFilter(Body):
    """Which dead letters; all that is given must hold. Times are of their failure."""

    actor: ActorName | None = None
    queue: QueueName | None = None
    error: Annotated[str | None, Field(min_length=1)] = None
    text: Annotated[str | None, Field(min_length=1)] = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class ReplayBody(FailedFilter):
    """Without a filter, all; with `perSecond`, one after the other at that rate."""

    per_second: Annotated[float | None, Field(gt=0)] = None


class PurgeBody(FailedFilter):
    """A filter, or one `id`, or `everything`."""

    id: str | None = None
    everything: bool = False


# -- sending -----------------------------------------------------------------------------------------------------------------------


async def send(call: Call) -> Response:
    """Send a job to an actor that is declared here."""
    body: SendBody = call.body
    if body.actor not in call.rt.registered:
        known = ", ".join(sorted(call.rt.registered)) or "none is"
        message = f"no actor {body.actor[:100]!r} is declared in this process: {known}"
        raise wrong_field(name="actor", message=message)
    options: SendKeywords = body.options.model_dump(exclude_none=True)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType] - the same names
    await call.note("send", f"{body.actor} {body.options.id or ''}".rstrip())
    try:
        job = await call.rt.send(body.actor, body.arguments, **options)
    except InvalidOptions as error:
        raise Refused(422, "InvalidOptions", str(error), _wrong_options(options, error)) from error
    except RedisUnavailable as error:
        message = f"{error}; it may be stored all the same, and a send is safe to repeat with an id"
        raise RedisUnavailable(message) from error
    status = 201 if job.created else 200
    return Response(answers.Sent(id=job.id, is_new=job.created).to_json(), status, media_type="application/json")


def _wrong_options(options: Mapping[str, Any], error: InvalidOptions) -> list[Fault]:
    """Return the options that are wrong by themselves, else what is wrong with them together."""
    found: list[Fault] = []
    for name, value in options.items():
        alone: SendKeywords = {name: value}  # type: ignore[misc]  # pyright: ignore[reportAssignmentType] - one of its names
        try:
            send_options(**alone)
        except InvalidOptions as wrong:
            found.append(Fault(field=f"options.{name}", message=str(wrong)))
    return found or [Fault(field="options", message=str(error))]


# -- looking -----------------------------------------------------------------------------------------------------------------------


def shown_job(call: Call, info: JobInfo, *, reveal: bool = False) -> answers.ShownJob:
    """Return a job as it is shown: without its arguments unless they are revealed, and in any case without secrets."""
    is_told = reveal or info.error is not None or info.progress is not None
    payload, secrets = call.site.redactor.arguments(info.type, info.payload) if is_told else ({}, [])
    hidden = {
        "payload": payload if reveal else None,
        "payload_hidden": not reveal,
        "error": masked_error(info.error, secrets),
        "progress": masked_progress(info.progress, secrets),
    }
    return answers.ShownJob.model_validate(dict(info) | hidden)


async def list_jobs(call: Call) -> answers.Jobs:
    """List jobs; a page may be short, or empty, before the end.

    Texts are compared here, with what the caller sees: a list that stopped where hidden arguments match would tell of them by its cursor.
    """
    query: JobsQuery = call.query
    wanted = query.model_dump(exclude={"text", "limit", "cursor"})
    found: list[answers.ShownJob] = []
    cursor = query.cursor
    for _ in range(LOOKS_MAX):
        most = query.limit - len(found)
        with at_field("cursor", NO_CURSOR):
            page = await call.rt.jobs.list(**wanted, cursor=cursor, limit=most)
        cursor = page.cursor
        for info in page.jobs:
            shown = shown_job(call, info)
            if query.text is None or query.text.casefold() in searchable(shown, _payload_of(call, info)):
                found.append(shown)
            await asyncio.sleep(0)  # large arguments are read one job at a time, between other requests
        if cursor is None or len(found) == query.limit or len(page.jobs) < most:
            break
    return answers.Jobs(jobs=found, cursor=cursor)


def _payload_of(call: Call, info: JobInfo) -> dict[str, Any] | None:
    """Return the arguments in which a search of this caller may look."""
    return call.site.redactor.arguments(info.type, info.payload)[0] if call.is_operator else None


async def one_job(call: Call) -> answers.ShownJob:
    """Show one job."""
    query: RevealQuery = call.query
    info = await call.rt.job(call.name).info()
    return shown_job(call, info, reveal=await call.may_reveal(f"arguments of job {call.name}", wanted=query.reveal))


async def result(call: Call) -> View | Response:
    """Wait for the end of a job and tell what came of it."""
    query: ResultQuery = call.query
    call.refuse_reveal(wanted=query.reveal)
    handle = call.rt.job(call.name)
    info = await handle.info()
    if query.wait and info.status in (Status.PENDING, Status.PROCESSING):
        await call.unless_over(_end(handle, query.wait))
        info = await handle.info()
    if info.status in (Status.PENDING, Status.PROCESSING):
        return Response(answers.Waiting(status=info.status).to_json(), 202, media_type="application/json")
    if info.status is not Status.COMPLETED:
        return answers.Outcome(status=info.status, error=shown_job(call, info).error)
    if not await call.may_reveal(f"result of job {call.name}", wanted=query.reveal):
        return answers.Outcome(status=info.status, result_hidden=True)
    value = to_jsonable_python(await handle.result(timeout=WAIT_MAX_S))
    redactor = call.site.redactor
    _, secrets = redactor.arguments(info.type, info.payload)
    shown = await asyncio.to_thread(redactor.result, info.type, value, secrets)  # a large one takes a while to look through
    return answers.Outcome(status=info.status, result=shown)


async def _end(job: Job[Any], wait_s: float) -> None:
    """Wait until a job has ended, at most so long."""
    with contextlib.suppress(JobFailed, JobCancelled, TimeoutError):
        await job.result(timeout=wait_s)


async def explain(call: Call) -> Explanation:
    """Tell why a job waits; the key of a gate is a value of an argument, and hidden where that is secret."""
    found = await call.rt.explain(call.name)
    info = await call.rt.job(call.name).info()
    _, secrets = call.site.redactor.arguments(info.type, info.payload)
    if not secrets:
        return found
    return Explanation.model_validate(_masked_all(found.model_dump(), secrets))


def _masked_all(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {name: _masked_all(item, secrets) if name not in ("id", "actor") else item for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return [_masked_all(item, secrets) for item in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


# -- changing ----------------------------------------------------------------------------------------------------------------------


async def cancel(call: Call) -> answers.Cancelled:
    """Cancel a job."""
    await call.note("cancel", f"job {call.name}")
    return answers.Cancelled(cancelled=await call.rt.job(call.name).cancel(by=call.identity.who))


async def retry(call: Call) -> answers.ShownJob:
    """Let a failed job run again, with other arguments where some are given."""
    body: RetryBody = call.body
    changed = ", ".join([*(body.arguments or {}), *(f"without {name}" for name in body.without)])
    await call.note("retry", f"job {call.name}" + (f" with other arguments: {changed}" if changed else ""))
    letters = call.rt.dead_letters
    if changed:
        handle = await letters.edit_and_replay(call.name, body.without, **await _edited(call, body.arguments or {}))
    else:
        handle = await letters.replay(call.name)
    return shown_job(call, await handle.info())


async def _edited(call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
    info = await call.rt.job(call.name).info()
    try:
        return {name: restored(value, info.payload.get(name), f"arguments.{name}") for name, value in arguments.items()}
    except KeyError as error:
        field = str(error.args[0])
        message = "it stands as [redacted], and there is nothing in its place that could stay: give the value"
        raise Refused(422, "InvalidArguments", f"{field}: {message}", [Fault(field=field, message=message)]) from error


async def list_failed(call: Call) -> answers.Failed:
    """List dead letters; a page may be short, or empty, before the end."""
    query: FailedQuery = call.query
    found: list[answers.ShownLetter] = []
    cursor, total = query.cursor, 0
    for _ in range(LOOKS_MAX):
        with at_field("cursor", NO_CURSOR):
            page = await call.rt.dead_letters.list(query.limit - len(found), cursor)
        cursor, total = page.before, page.total
        for letter in page.letters:
            if query.actor in (None, letter.actor) and query.queue in (None, letter.queue) and _is_error(query.error, letter):
                found += await _shown_letter(call, letter, query.text)
        if cursor is None or len(found) == query.limit:
            break
    return answers.Failed(letters=found, cursor=cursor, total=total)


def _is_error(wanted: str | None, letter: DeadLetter) -> bool:
    return wanted is None or letter.error.type == wanted or letter.error.type.endswith(f".{wanted}")


async def _shown_letter(call: Call, letter: DeadLetter, text: str | None) -> list[answers.ShownLetter]:
    """Return a dead letter as it is shown; nothing where the text is not in what the caller may see."""
    payload = letter.payload
    if payload is None:
        try:
            payload = (await call.rt.job(letter.id).info()).payload
        except JobNotFound:  # forgotten since the list was read
            return []
    known, secrets = call.site.redactor.arguments(letter.actor, payload)
    error = masked_error(letter.error, secrets)
    shown = answers.ShownLetter.model_validate(dict(letter) | {"error": error, "payload": None, "payload_hidden": True})
    seen = f"{shown.id} {shown.actor} {shown.error.type} {shown.error.message} {shown.error.traceback}"
    told = f"{seen} {to_jsonable_python(known) if call.is_operator else ''}".casefold()
    return [shown] if text is None or text.casefold() in told else []


def _filter_of(body: FailedFilter) -> DeadLetterFilter:
    names = set(FailedFilter.model_fields)
    return body.model_dump(include=names, exclude_none=True)  # type: ignore[return-value]  # pyright: ignore[reportReturnType] - the same names


def _words(wanted: Mapping[str, Any]) -> str:
    """Return a filter for the audit; a text that is looked for may be one that stands in arguments."""
    return ", ".join("a text" if name == "text" else f"{name}={value}" for name, value in wanted.items())


async def replay_failed(call: Call) -> Replays:
    """Let dead letters run again."""
    body: ReplayBody = call.body
    wanted = _filter_of(body)
    await call.note("replay", f"dead letters: {_words(wanted) or 'all'}")
    with at_field("perSecond"):
        return await call.rt.dead_letters.replay_all(per_second=body.per_second, **wanted)


async def purge_failed(call: Call) -> answers.Purged:
    """Forget dead letters."""
    body: PurgeBody = call.body
    wanted = _filter_of(body)
    if [body.id is not None, body.everything, bool(wanted)].count(True) != 1:
        message = 'name one job by its `id`, or give a filter, or `"everything": true`'
        raise Refused(422, "InvalidOptions", message)
    await call.note("purge", f"job {body.id}" if body.id is not None else f"dead letters: {_words(wanted) or 'all'}")
    return answers.Purged(purged=await call.rt.dead_letters.purge(body.id, everything=body.everything, **wanted))


OPERATIONS: Final = (
    Operation("GET", "/api/v1/jobs", list_jobs, "List and search jobs", answers.Jobs, query=JobsQuery),
    Operation("POST", "/api/v1/jobs", send, "Send a job", answers.Sent, role="operator", body=SendBody, status=201,
              others={200: answers.Sent}),
    Operation("GET", "/api/v1/jobs/{name:path}/result", result, "Wait for a job and tell what came of it", answers.Outcome,
              query=ResultQuery, others={202: answers.Waiting}),
    Operation("GET", "/api/v1/jobs/{name:path}/explain", explain, "Tell why a job waits", Explanation),
    Operation("POST", "/api/v1/jobs/{name:path}/cancel", cancel, "Cancel a job", answers.Cancelled, role="operator"),
    Operation("POST", "/api/v1/jobs/{name:path}/retry", retry, "Let a failed job run again", answers.ShownJob, role="operator",
              body=RetryBody),
    Operation("GET", "/api/v1/jobs/{name:path}", one_job, "Show a job", answers.ShownJob, query=RevealQuery),
    Operation("GET", "/api/v1/failed", list_failed, "List and search dead letters", answers.Failed, query=FailedQuery),
    Operation("POST", "/api/v1/failed/replay", replay_failed, "Let dead letters run again", Replays, role="operator", body=ReplayBody),
    Operation("POST", "/api/v1/failed/purge", purge_failed, "Forget dead letters", answers.Purged, role="operator", body=PurgeBody),
)  # fmt: skip
