"""Every script, broken before each of its commands: what it had written stays, and yet no job is lost, none ends twice, no result is wrong.

Once with the store sending the call again, as it does after a lost answer, and once with nobody sending it, as when the process has died.
Then a worker that knows every actor runs all that is left to its end.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from angelrt.config import Keep, Retention
from angelrt.errors import RedisRefused
from angelrt.scripts import SCRIPTS
from angelrt.views import read_outcome
from tests.scripts.faults import TRACE, FaultyLink, breakable
from tests.scripts.flow_scenarios import QUEUES
from tests.scripts.partition import Partition
from tests.scripts.scenarios import ACTORS, RETENTION, WORKERS, done, ended, failed
from tests.scripts.schedule_scenarios import EVERY
from tests.state import breaches, lost, problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.scripts import Script
    from tests.scripts.scenarios import Scenario
    from tests.state import State

ROUNDS_MAX: Final = 100
FOR_EVER: Final = Retention(*(Keep(10 * 365 * 86_400) for _ in range(3)))
ONCE_IN_A_CALL: Final = {"events", "stats", "gates", "gates_void"}
"""Written by each call that gets so far; after an abort they may count the call twice or, but for tokens, not at all."""

MERGED: Final = {"call('HINCRBY', key, string.gsub(field, '|.*|', '|*|'), by)", "call('HDEL', key, field)"}
"""What a call does beyond twenty thousand counters: tests/scripts/test_enqueue.py makes so many."""
BY_HAND: Final = "if item ~= 'e' then call('ZREM', queue.expires, id) end"
LEAVING: Final = "if call('ZSCORE', HOLDERS, member) then count = count - 1 end"
LEFT_PLACE: Final = "if state then call('ZREM', queue[state], member) end"
NEVER: Final = {
    "explain": {LEAVING},
    "schedule": {LEAVING, LEFT_PLACE},
    "replay": {LEAVING, "write('ZADD', queue.expires, place.expires)"},
    "settle": {
        LEFT_PLACE,
        "local is_drained = not are_children and call('EXISTS', CONTROL) == 1",
        "local result = call('HGET', RESULTS, id)",
    },
    "enqueue": {
        LEAVING,
        LEFT_PLACE,
        "if key and (till == when or (when == 'f' and till == 's')) and call('HGET', UNIQUE, key) == id then call('HDEL', UNIQUE, key) end",
    },
    "settle_plain": {"if rule.may_have_runs then write('HDEL', RUNS, old) end"},
    "tick": {BY_HAND},
    "claim": {
        BY_HAND,
        LEFT_PLACE,
        "if is_void then call('ZREM', HELD, worker .. '\\0' .. id) end -- it may be another one's turn by now",
        "write('ZREM', HOLDERS, holders)",
        "call('ZREM', queue.leased, id)",
        "call('ZREM', HELD, worker .. '\\0' .. id)",
    },
}
"""What a verb shares with others and never comes by: nothing leaves a gate where jobs only begin to wait, a job that is replayed expires no
more, time cancels nothing by hand, a job that is replaced passes its unique key on; and what only a repetition does, which is not broken
off here a second time."""


LEFT_RUN: Final = "ended and has a run"
"""What a claim leaves that breaks off while it mends what another call has left: forgotten with the job."""


@pytest.fixture
async def link(server_url: str) -> AsyncIterator[FaultyLink]:
    """One connection for all courses of a test."""
    link = FaultyLink(server_url)
    yield link
    await link.close()


@dataclass
class Course:
    """What became of a namespace: before the call, after it and its repetition, and when all that was left had run."""

    before: State
    after: State
    final: State
    answer: Any
    payloads: dict[str, bytes]
    tables: dict[str, dict[str, str]]
    left_over: list[str]
    broken: list[set[int]]
    delivered: set[str]


async def play(
    link: FaultyLink, scenario: Scenario, abort_at: int | None = None, *, resend: bool = True, server_time: bool = False
) -> Course:
    """Play a scenario to its end, its call broken before command number `abort_at`."""
    part = Partition(link.url, f"test-{secrets.token_hex(8)}", RETENTION, link)
    if server_time:
        seconds, micros = await part.store.command("TIME")
        part.now_ms = int(seconds) * 1000 + int(micros) / 1000
        part.store.long_until_s[f"{scenario.script.name}_plain"] = math.inf  # what is due by the test's clock may not be by the server's
    await scenario.arrange(part)
    before = await part.state()
    link.fail(scenario.script, *scenario.first, *([] if abort_at is None else [abort_at]), resend=resend)
    clock, part.store.clock = part.store.clock, None if server_time else part.store.clock
    try:
        answer = scenario.told(await scenario.act(part))
    except RedisRefused:
        if not link.broken_at:
            raise
        answer = None
    broken, part.store.clock = link.broken_at, clock
    if scenario.forgets:
        await part.store.settle("w1", [])
    after = await part.state()
    tables = {name: await hash_of(part, name) for name in ("unique", "schedules")}
    delivered = await run_the_rest(part)
    final = await part.state()
    payloads = {placed.id: read_outcome(placed.result)[-1] for placed in await part.store.inspect(list(final.results))}
    left_over = [*map(str, final.holders), *(job_id for queue in final.queues.values() for job_id in queue.expires)]
    await part.clear()
    return Course(before, after, final, answer, payloads, tables, left_over, broken, delivered)


async def hash_of(part: Partition, name: str) -> dict[str, str]:
    """Read one of the namespace's own hashes."""
    reply = await part.key("HGETALL", name)
    return {field.decode(): value.decode() for field, value in zip(reply[::2], reply[1::2], strict=True)}


async def run_the_rest(left: Partition) -> set[str]:
    """Claim and settle as a new worker that knows every actor, moving the clock on, until nothing is left; return what was run.

    Then strike all other workers, as housekeeping does when they no longer beat.
    """
    part = Partition(left.store.url, left.store.keys.namespace, FOR_EVER, left.link)
    part.now_ms = left.now_ms + 1
    await part.register("finisher", *ACTORS, queues=QUEUES)
    await go_on(part)
    delivered: set[str] = set()
    for n in range(ROUNDS_MAX):
        claimed = await part.claim(500, worker="finisher", under=f"end{n}", queues=QUEUES, actors=ACTORS)
        names = [(delivery.id.decode(), delivery.queue) for delivery in claimed.deliveries]
        await part.settle(*(ended(name, "c", under=f"end{n}", queue=queue) for name, queue in names), worker="finisher")
        delivered |= {name for name, _ in names}
        if not names and not claimed.again:
            if claimed.next_due_ms < 0:
                break
            part.now_ms = max(part.now_ms, claimed.next_due_ms)
    else:
        pytest.fail(f"{ROUNDS_MAX} claims, and still not everything has run: {claimed}, {(await part.state()).queues}")
    for worker in WORKERS:
        await part.store.expire_worker(worker, QUEUES, died=True)
    return delivered


async def go_on(part: Partition) -> None:
    """Take every pause back, and go on with the sweeps that a call has begun and not ended, as housekeeping does."""
    for what in await part.key("HKEYS", "control"):
        await part.store.control("resume", what.decode(), "", QUEUES)
    for rule in await part.key("HKEYS", "rules"):
        if rule.endswith(b"~"):
            await part.store.control("sweep", rule.decode().removesuffix("~"), "", QUEUES)


def has_ended(state: State) -> set[str]:
    """Return the ids of the jobs that ended."""
    return {*state.completed, *state.failed, *state.cancelled}


def harm(course: Course, *, resend: bool) -> list[str]:
    """Name what must not happen; where nobody sent the call again, something may be left over that belongs to no job."""
    found = [f"{name} is in no place after the call" for name in lost(course.after)]
    found += [f"at the end: {problem}" for problem in (problems if resend else breaches)(course.final)]
    unfinished = (course.before.jobs.keys() - has_ended(course.before)) - has_ended(course.final)
    found += [f"{what} is left at the end" for what in course.left_over] if resend else []
    found += [f"{name} never ended" for name in sorted(unfinished | (course.final.jobs.keys() - has_ended(course.final)))]
    for name, payload in course.payloads.items():
        right = done if name in course.final.completed else failed
        unrun = [b""] if name in course.final.cancelled else []
        if payload not in (right(name), right(name, big=True), *unrun):
            found.append(f"{name} has the wrong result {payload[:40]!r}")
    return found


def trace(course: Course, whole: Course) -> list[str]:
    """Name what differs, after the repetition, from the same call when nothing breaks."""
    found = [f"after the repetition: {problem}" for problem in problems(course.after) if problem not in problems(whole.after)]
    mine, other = without_marks(course.after), without_marks(whole.after)
    differ = set(mine.changes(other)) - ONCE_IN_A_CALL
    found += [f"{part} differ: {beside(getattr(mine, part), getattr(other, part))}" for part in sorted(differ)]
    found += flow_trace(course, whole)
    if course.answer != whole.answer:
        found.append(f"the answer is {course.answer} instead of {whole.answer}")
    found += [f"{name} had ended and was run again" for name in sorted(course.delivered & has_ended(course.after))]
    return found


def flow_trace(course: Course, whole: Course) -> list[str]:
    """Name what differs in gates and tables. A call that is sent again may take tokens twice, never too few.

    A unique key that a job has left when it ended stands in nobody's way.
    """
    gone = has_ended(course.after)
    mine, other = (
        {**each.tables, "unique": {key: holder for key, holder in each.tables["unique"].items() if holder.partition("\0")[0] not in gone}}
        for each in (course, whole)
    )
    found = [f"{name} differ: {beside(mine[name], other[name])}" for name in mine if mine[name] != other[name]]
    for lane, gate in whole.after.gates.items():
        given, least = tokens_of(course.after.gates.get(lane, b"")), tokens_of(gate)
        if given < least:
            found.append(f"{lane} has given {given} tokens, not {least}")
    return found


def tokens_of(gate: bytes) -> int:
    """Return how many tokens of a gate are taken in all slices of its window."""
    return sum(int(taken.partition(b":")[2]) for taken in gate.split()[2:])


def verb_of(script: Script) -> str:
    """Return the name of a script's file: one text may run under two names, with other flags."""
    return script.file or script.name


def without_marks(state: State) -> State:
    """Return a state without the marks of open lanes, since the repetition finds the empty ones, and removes them, earlier.

    Neither does it hold the turns of tenants: one that had its turn in the call that broke off pays for it twice.
    """
    return replace(state, queues={name: replace(queue, opens={}, turns={}, lines=()) for name, queue in state.queues.items()})


def beside(broken: Any, whole: Any) -> str:
    """Show two values, of tables only the entries that differ."""
    if not isinstance(broken, dict):
        return f"{broken} instead of {whole}"
    mine, other = cast("dict[str, Any]", broken), cast("dict[str, Any]", whole)
    names = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
    return " instead of ".join(str({name: table.get(name) for name in names}) for table in (mine, other))


def newly_come_by(passed: list[str], reached: set[str]) -> set[int]:
    """Return, of the commands to which a call comes by each way that is new, the first and the last."""
    fresh = [(way, number) for number, way in enumerate(passed, 1) if way not in reached]
    return {*dict(fresh).values(), *dict(reversed(fresh)).values()}


async def courses(
    link: FaultyLink, verb: str, *, resend: bool, is_thorough: bool
) -> AsyncIterator[tuple[str, Course, Course | None]]:  # fmt: skip
    """Yield each broken course with its name, and the whole one to compare it with where the clock stood still.

    Unless it is to be thorough, a scenario is broken only at the first and the last of the commands to which it comes by a way by which no
    scenario before it came.
    """
    reached: set[str] = set()
    for scenario in (scenario for scenario in EVERY if verb_of(scenario.script) == verb):
        whole = await play(link, scenario, TRACE)
        assert harm(whole, resend=True) == [] == trace(whole, whole), scenario.name
        passed = link.passed
        chosen = {*range(1, len(passed) + 1)} if is_thorough else newly_come_by(passed, reached)
        reached |= {*passed}
        for abort_at in sorted(chosen):
            course = await play(link, scenario, abort_at, resend=resend)
            assert course.broken, f"{scenario.name} has no command {abort_at}"
            yield f"{scenario.name}, command {abort_at}", course, whole
        yield f"{scenario.name}, by the server's time", await play(link, scenario, 1, resend=resend, server_time=True), None


VERBS: Final = sorted({verb_of(script) for script in SCRIPTS.values()})
THOROUGH: Final = pytest.param(True, marks=pytest.mark.long, id="everywhere")
"""Breaking every command of every scenario takes minutes."""


@pytest.mark.parametrize("resend", [True, False], ids=["sent-again", "abandoned"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_thorough", [pytest.param(False, id="once"), THOROUGH])
async def test_broken_script_loses_nothing(link: FaultyLink, verb: str, *, resend: bool, is_thorough: bool) -> None:
    sites = breakable(SCRIPTS[verb]).sites()
    reached: set[int] = set()
    harmed: list[str] = []
    aborts = 0
    async for where, course, whole in courses(link, verb, resend=resend, is_thorough=is_thorough):
        aborts += len(course.broken)
        at = set[int]().union(*course.broken)
        reached |= at
        found = harm(course, resend=resend) + (trace(course, whole) if resend and whole else [])
        if where.startswith("claim-broken-off"):
            found = [problem for problem in found if LEFT_RUN not in problem and not problem.startswith("runs differ")]
        harmed += [f"{where} [{sites[min(at)].line} <- {sites[max(at)].line}]: {problem}" for problem in found]
    assert not harmed, "\n".join(harmed)
    never = MERGED | NEVER.get(verb, set[str]())
    unreached = {number: site for number, site in sites.items() if number not in reached and site.line not in never}
    assert unreached == {}, "no scenario comes by here"
    assert aborts >= sum(site.function == "call" for site in sites.values()) > 0
