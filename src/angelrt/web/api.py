"""The HTTP API: the part that shows how the system does, and the table of all operations."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field
from starlette.responses import Response

from ..alerts import overview as alerts_overview
from ..errors import ConfigError, RedisUnavailable, RuntimeNotOpen
from ..series import MINUTES_MAX
from . import answers, api_control, api_jobs, audit, openapi, sse
from .auth import client_address, forget_session, keep_session, mounted_at
from .call import ActorName, Body, Call, Operation, Query, QueueName
from .errors import Refused

if TYPE_CHECKING:
    from ..actor import Actor
    from ..stats import Figures, Stats

READY_S: Final = 1.0


class SeriesQuery(Query):
    """How many minutes, and of which queue or actor."""

    minutes: Annotated[int, Field(ge=1, le=MINUTES_MAX)] = 60
    queue: QueueName | None = None
    actor: ActorName | None = None


class AuditQuery(Query):
    """How many entries."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class LoginBody(Body):
    """A token of a reader or an operator."""

    token: Annotated[str, Field(max_length=4096)]


# -- who asks ----------------------------------------------------------------------------------------------------------------------


async def log_in(call: Call) -> Response:
    """Keep a session in a cookie."""
    body: LoginBody = call.body
    access = call.site.access
    if not access.has_tokens:
        raise Refused(
            404, "NoLogin", "this app has no tokens: " + ("the host app knows who you are" if access.is_required else "log in to nothing")
        )
    session = access.new_session(body.token)
    if session is None:
        access.tries.count(client_address(call.request))
        raise Refused(401, "NotAuthenticated", "this token is not known here", headers={"WWW-Authenticate": "Bearer"})
    response = Response(status_code=204)
    keep_session(access, call.request, response, session)
    return response


async def log_out(call: Call) -> Response:
    """Let the browser forget its session."""
    response = Response(status_code=204)
    forget_session(call.site.access, call.request, response)
    return response


async def me(call: Call) -> answers.Me:
    """Tell who asks."""
    access = call.site.access
    identity = await access.identify(call.request)
    return answers.Me(role=identity.role, auth_required=access.is_required, can_log_in=access.has_tokens, title=call.site.title)


# -- how the system does -----------------------------------------------------------------------------------------------------------


def _total(stats: Stats) -> answers.Total:
    rates = {"completion_rate": stats.completion_rate, "pickup_p50_ms": stats.pickup_p50_ms, "pickup_p99_ms": stats.pickup_p99_ms}
    return answers.Total.model_validate(dict(stats) | rates)


def _backlog(stats: Stats) -> answers.Backlog:
    ages_ms = [queue.oldest_ready_ms for queue in stats.queues if queue.oldest_ready_ms is not None]
    numbers = {name: sum(getattr(queue, name) for queue in stats.queues) for name in ("ready", "delayed", "leased", "lanes")}
    return answers.Backlog(**numbers, oldest_ready_ms=max(ages_ms, default=None))


async def overview(call: Call) -> answers.Overview:
    """Tell how the system does."""
    stats, workers = await call.rt.stats(), await call.rt.workers()
    return answers.Overview(
        at=datetime.now(UTC),
        stats=_total(stats),
        counts=await call.rt.jobs.counts(),
        completion_rate=stats.completion_rate,
        pickup_p50_ms=stats.pickup_p50_ms,
        pickup_p99_ms=stats.pickup_p99_ms,
        backlog=_backlog(stats),
        workers=answers.Workers(total=len(workers), live=sum(worker.is_live for worker in workers)),
        pauses=len(await call.rt.control.pauses()),
    )


async def series(call: Call) -> answers.Series:
    """Tell what happened by the minute."""
    query: SeriesQuery = call.query
    return answers.Series(minutes=await call.rt.series(query.minutes, queue=query.queue, actor=query.actor))


async def _held(call: Call, kind: str) -> tuple[set[str], set[str]]:
    """Return the names of queues or actors that are paused, and of those that are drained."""
    pauses = [pause for pause in await call.rt.control.pauses() if pause.kind == kind]
    return {pause.name for pause in pauses if pause.how == "paused"}, {pause.name for pause in pauses if pause.how == "drained"}


async def queues(call: Call) -> answers.Queues:
    """Show all queues."""
    stats, (paused, drained) = await call.rt.stats(), await _held(call, "queue")
    return answers.Queues(
        queues=[
            answers.ShownQueue.model_validate(dict(depth) | {"is_paused": depth.queue in paused, "is_draining": depth.queue in drained})
            for depth in stats.queues
        ]
    )


def _shown_actor(
    name: str, actor: Actor[..., Any] | None, queue: str, found: list[Figures], *, held: tuple[bool, bool]
) -> answers.ShownActor:
    return answers.ShownActor(
        name=name,
        queue=queue,
        kind=None if actor is None else actor.definition.kind,
        description=None if actor is None else inspect.getdoc(actor.function),
        argument_schema=None if actor is None else openapi.argument_schema(actor),
        is_paused=held[0],
        is_draining=held[1],
        figures=next((one for one in found if one.queue == queue), found[0] if found else None),
    )


async def actors(call: Call) -> answers.Actors:
    """Show all actors."""
    stats, (paused, drained) = await call.rt.stats(), await _held(call, "actor")
    of_actor: dict[str, list[Figures]] = {}
    for one in stats.actors:
        of_actor.setdefault(one.actor, []).append(one)
    declared = call.rt.registered
    shown: list[answers.ShownActor] = []
    for name in sorted({*declared, *of_actor}):
        actor, found = declared.get(name), of_actor.get(name, [])
        queue = found[0].queue if actor is None else actor.definition.queue
        shown.append(_shown_actor(name, actor, queue, found, held=(name in paused, name in drained)))
    return answers.Actors(actors=shown)


async def workers(call: Call) -> answers.Fleet:
    """Show all workers."""
    return answers.Fleet(workers=await call.rt.workers())


async def show_audit(call: Call) -> answers.Audit:
    """Show who did what by hand."""
    query: AuditQuery = call.query
    return answers.Audit(entries=await audit.entries(call.rt, query.limit))


async def alerts(call: Call) -> answers.Alerts:
    """Show the alerts."""
    return answers.Alerts.model_validate(await alerts_overview(call.rt, call.site.alerts))


async def metrics(call: Call) -> Response:
    """Write the figures for Prometheus."""
    try:
        from .. import metrics as prometheus  # noqa: PLC0415 - needs an extra

        return Response(await prometheus.text(call.rt), media_type=prometheus.CONTENT_TYPE)
    except ConfigError as error:
        raise Refused(501, "ConfigError", str(error)) from error


async def document(call: Call) -> Response:
    """Write the description of this API."""
    path = mounted_at(call.request)
    found = openapi.document(OPERATIONS, call.rt.registered, call.site.title, path, cookie=call.site.access.cookie(path))
    return Response(found, media_type="application/json")


# -- for load balancers ------------------------------------------------------------------------------------------------------------


async def healthy(_call: Call) -> answers.Alive:
    """Tell that the process answers."""
    return answers.Alive(status="ok")


async def ready(call: Call) -> answers.Alive:
    """Tell whether Redis answers."""
    try:
        await call.rt.client().store.commands(["PING"], deadline_s=READY_S)
    except (RedisUnavailable, RuntimeNotOpen) as error:
        raise Refused(503, type(error).__name__, "Redis does not answer") from error
    return answers.Alive(status="ready")


OPERATIONS: Final = (
    Operation("GET", "/healthz", healthy, "Tell that the process answers", answers.Alive, role=None),
    Operation("GET", "/readyz", ready, "Tell whether Redis answers", answers.Alive, role=None),
    Operation("GET", "/metrics", metrics, "Figures for Prometheus", media="text/plain"),
    Operation("POST", "/login", log_in, "Keep a session in a cookie", role=None, body=LoginBody, status=204),
    Operation("POST", "/logout", log_out, "Forget the session", role=None, status=204),
    Operation("GET", "/api/v1/me", me, "Tell who asks", answers.Me, role=None),
    Operation("GET", "/api/v1/overview", overview, "Tell how the system does", answers.Overview),
    Operation("GET", "/api/v1/series", series, "Figures by the minute", answers.Series, query=SeriesQuery),
    Operation("GET", "/api/v1/queues", queues, "Show queues", answers.Queues),
    Operation("GET", "/api/v1/actors", actors, "Show actors", answers.Actors),
    Operation("GET", "/api/v1/workers", workers, "Show workers", answers.Fleet),
    Operation("GET", "/api/v1/events", sse.events, "Follow what happens", query=sse.EventsQuery, media=sse.MEDIA),
    Operation("GET", "/api/v1/audit", show_audit, "Show who did what by hand", answers.Audit, query=AuditQuery),
    Operation("GET", "/api/v1/alerts", alerts, "Show alerts", answers.Alerts),
    Operation("GET", "/api/v1/openapi.json", document, "Describe this API"),
    *api_jobs.OPERATIONS,
    *api_control.OPERATIONS,
)
