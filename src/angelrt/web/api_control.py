"""The part of the API that tells a fleet otherwise: pauses, drains, limits and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ..errors import InvalidOptions
from . import answers
from .api_jobs import RevealQuery
from .call import Body, Call, Operation
from .errors import Refused, at_field, wrong_field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..schedules import ScheduleInfo
    from ..usage import GateUse, LimitUse

Verb = Literal["pause", "resume", "drain"]
VERBS: Final[dict[Verb, str]] = {
    "pause": "Let nothing of it begin",
    "resume": "Take a pause or a drain back",
    "drain": "Refuse new jobs of it",
}


class WhyBody(Body):
    """Why, for those who wonder later."""

    reason: str = ""


class KeyBody(WhyBody):
    """A key of limits: `rule=value` as `explain` shows it, or `argument=value`."""

    key: str


class LimitBody(Body):
    """A limit as `GET /api/v1/limits` names it: a number at a time, a rate as "500/day", or null for the one that the code declares."""

    rule: str
    limit: int | str | None
    burst: int | None = None


def _telling(verb: Verb, kind: Literal["queue", "actor", "key"]) -> Callable[[Call], Awaitable[answers.Changed]]:
    async def tell(call: Call) -> answers.Changed:
        body: WhyBody = call.body
        named = {kind: body.key if isinstance(body, KeyBody) else call.name}
        await call.note(verb, f"{kind} {named[kind]}")
        control = call.rt.control
        with at_field("key" if kind == "key" else "name"):
            if verb == "resume":
                changed = await control.resume(**named)
            else:
                change = control.pause if verb == "pause" else control.drain
                changed = await change(**named, by=call.identity.who, reason=body.reason)
        return answers.Changed(changed=changed)

    return tell


async def limits(call: Call) -> answers.Limits:
    """Show limits, how much of them is in use, and pauses."""
    control = call.rt.control
    usage = [_shown_use(call, one) for one in await control.usage()]
    return answers.Limits(rules=await control.limits(), usage=usage, pauses=await control.pauses())


def _shown_use(call: Call, use: LimitUse) -> answers.ShownUse:
    gates = [_shown_gate(gate, is_shown=gate.value == "" or call.site.redactor.may_show_key(use.rule)) for gate in use.gates]
    return answers.ShownUse.model_validate(dict(use) | {"gates": gates})


def _shown_gate(gate: GateUse, *, is_shown: bool) -> answers.ShownGate:
    return answers.ShownGate(value=gate.value if is_shown else None, taken=gate.taken, value_hidden=not is_shown)


async def set_limit(call: Call) -> answers.Limits:
    """Change a limit for the whole fleet."""
    body: LimitBody = call.body
    burst = "" if body.burst is None else f", {body.burst} at once"
    await call.note("set limit", f"{body.rule} to {'the declared one' if body.limit is None else body.limit}{burst}")
    try:
        await call.rt.control.set_limit(body.rule, body.limit, burst=body.burst)
    except InvalidOptions as error:
        is_known = body.rule in [rule.name for rule in await call.rt.control.limits()]
        raise wrong_field("limit" if is_known else "rule", str(error)) from error
    return await limits(call)


# -- schedules ---------------------------------------------------------------------------------------------------------------------


def _shown(call: Call, info: ScheduleInfo, *, reveal: bool = False) -> answers.ShownSchedule:
    payload = call.site.redactor.arguments(info.actor, info.payload)[0] if reveal else None
    return answers.ShownSchedule.model_validate(dict(info) | {"payload": payload, "payload_hidden": not reveal})


async def schedules(call: Call) -> answers.ShownSchedules:
    """Show all schedules."""
    query: RevealQuery = call.query
    reveal = await call.may_reveal("arguments of the schedules", wanted=query.reveal)
    return answers.ShownSchedules(schedules=[_shown(call, info, reveal=reveal) for info in await call.rt.schedules.list()])


def _not_there(error: InvalidOptions) -> Refused:
    return Refused(404, "ScheduleNotFound", str(error))


async def pause_schedule(call: Call) -> answers.ShownSchedule:
    """Send nothing of a schedule until it goes on."""
    await call.note("pause", f"schedule {call.name}")
    try:
        return _shown(call, await call.rt.schedules.pause(call.name, by=call.identity.who))
    except InvalidOptions as error:
        raise _not_there(error) from error


async def resume_schedule(call: Call) -> answers.ShownSchedule:
    """Let a schedule go on from now."""
    await call.note("resume", f"schedule {call.name}")
    try:
        return _shown(call, await call.rt.schedules.resume(call.name))
    except InvalidOptions as error:
        raise _not_there(error) from error


async def remove_schedule(call: Call) -> answers.Done:
    """Forget a schedule."""
    await call.note("remove", f"schedule {call.name}")
    try:
        await call.rt.schedules.remove(call.name)
    except InvalidOptions as error:
        raise _not_there(error) from error
    return answers.Done()


def _pausing() -> list[Operation]:
    found: list[Operation] = []
    for verb, words in VERBS.items():
        for kind in ("queue", "actor"):
            path = f"/api/v1/{kind}s/{{name:path}}/{verb}"
            summary = f"{words}: {kind}"
            found.append(Operation("POST", path, _telling(verb, kind), summary, answers.Changed, role="operator", body=WhyBody))
        found.append(
            Operation(
                "POST", f"/api/v1/keys/{verb}", _telling(verb, "key"), f"{words}: key", answers.Changed, role="operator", body=KeyBody
            )
        )
    return found


OPERATIONS: Final = (
    *_pausing(),
    Operation("GET", "/api/v1/limits", limits, "Show limits, how much of them is in use, and pauses", answers.Limits),
    Operation("PUT", "/api/v1/limits", set_limit, "Change a limit", answers.Limits, role="operator", body=LimitBody),
    Operation("GET", "/api/v1/schedules", schedules, "Show schedules", answers.ShownSchedules, query=RevealQuery),
    Operation("POST", "/api/v1/schedules/{name:path}/pause", pause_schedule, "Pause a schedule", answers.ShownSchedule, role="operator"),
    Operation("POST", "/api/v1/schedules/{name:path}/resume", resume_schedule, "Resume a schedule", answers.ShownSchedule, role="operator"),
    Operation("DELETE", "/api/v1/schedules/{name:path}", remove_schedule, "Forget a schedule", answers.Done, role="operator"),
)
