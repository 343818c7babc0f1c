"""Dead letters as callers see them: lists, searches, edits and purges; on a real server, without a worker."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from angelrt import (
    Actors,
    Concurrency,
    Draining,
    DuplicateJob,
    InvalidArguments,
    InvalidOptions,
    JobNotFound,
    PayloadTooLarge,
    Runtime,
    RuntimeNotOpen,
    Unique,
)
from angelrt.dead_letters import PER_SECOND_MIN
from angelrt.job import at_ms, read_record
from angelrt.limits import quoted
from angelrt.retry import MAX_DELAY_S
from tests.scripts.partition import START_MS, job, verdict
from tests.state import read_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.dead_letters import DeadLetter
    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition

LONG: Final = "long " * 1_000
actors = Actors()


@actors.actor(name="thumbnail")
async def thumbnail(path: str, size: int = 256, day: datetime | None = None) -> None:
    """Have typed arguments."""


@actors.actor(name="limited", queue="q", limits=[Concurrency(1, per="customer")], unique=Unique("customer"))
async def limited(customer: str) -> None:
    """Have a gate and a key."""


@pytest.fixture
async def rt(server_url: str, namespace: str, part: Partition) -> AsyncIterator[Runtime[None]]:  # noqa: ARG001 - opened before
    """An open runtime."""
    runtime = Runtime(server_url, namespace=namespace)
    runtime.include(actors)
    async with runtime:
        yield runtime


def failure(kind: str = "ValueError", message: str = "broken", traceback: str = "Traceback ...") -> bytes:
    """Return an error as workers store it."""
    return orjson.dumps({"actor": "a", "type": kind, "message": message, "traceback": traceback})


async def fail(part: Partition, *jobs: NewJob | str, payload: bytes | None = None, queue: str = "q") -> int:
    """Send jobs and let them fail, a second later than the last ones; return when."""
    sent = [job(each, queue=queue) if isinstance(each, str) else each for each in jobs]
    part.now_ms += 1_000
    for first in range(0, len(sent), 200):
        some = sent[first : first + 200]
        await part.send(*some)
        claimed = await part.claim(200, under="first", queues=(queue,), actors=("a", "b", "thumbnail", "limited"))
        assert len(claimed.deliveries) == len(some)
        error = failure() if payload is None else payload
        await part.settle(*(verdict(each.id, "f", error, under="first", queue=queue) for each in some))
    return int(part.now_ms)


def names(letters: list[DeadLetter]) -> list[str]:
    """Return the ids of dead letters."""
    return [letter.id for letter in letters]


async def found(rt: Runtime[Any], **wanted: Any) -> list[str]:
    """Search, and return the ids."""
    return [letter.id async for letter in rt.dead_letters.search(**wanted)]


async def every_page(rt: Runtime[Any], limit: int) -> list[str]:
    """List page by page, and return the ids."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await rt.dead_letters.list(limit, cursor)
        ids += names(page.letters)
        cursor = page.before
        if cursor is None:
            return ids


# -- list ----------------------------------------------------------------------------------------------------------------------------


async def test_nothing_failed(rt: Runtime[None]) -> None:
    page = await rt.dead_letters.list()
    assert (page.letters, page.before, page.total) == ([], None, 0)
    assert await found(rt) == []
    assert (await rt.dead_letters.replay_all()).model_dump() == {"replayed": 0, "refused": 0, "last_due_at": None}
    assert await rt.dead_letters.purge(everything=True) == 0


async def test_a_dead_letter_tells_what_failed_how_and_when(rt: Runtime[None], part: Partition) -> None:
    await part.send(job("j1", queue="p", actor="b", arguments=b'{"x":1}'))
    await part.claim(under="first", queues=("p",), actors=("b",))
    await part.settle(verdict("j1", "r", under="first", queue="p"))
    part.now_ms += 500
    await part.claim(under="second", queues=("p",), actors=("b",))
    await part.settle(verdict("j1", "f", failure("httpx.ReadTimeout", "too slow", "line 1"), under="second", queue="p"))
    [letter] = (await rt.dead_letters.list()).letters
    assert (letter.id, letter.actor, letter.queue, letter.attempts) == ("j1", "b", "p", 2)
    assert letter.error.model_dump() == {"type": "httpx.ReadTimeout", "message": "too slow", "traceback": "line 1"}
    assert (letter.failed_at, letter.payload) == (at_ms(START_MS + 500), {"x": 1})
    assert orjson.loads(letter.to_json())["failedAt"].startswith("2025-")
    assert (await rt.job("j1").info()).queue == "p"


async def test_big_error_is_shown_and_big_arguments_are_left_out(rt: Runtime[None], part: Partition) -> None:
    await fail(part, *(job(f"j{n:02}", blob=b'{"text":"' + b"x" * 5_000 + b'"}') for n in range(60)), payload=failure(message=LONG))
    letters = (await rt.dead_letters.list(200)).letters
    assert [letter.error.message for letter in letters] == [LONG] * 60
    assert [letter.payload for letter in letters] == [None] * 60


async def test_pages_show_each_failure_once_the_newest_first(rt: Runtime[None], part: Partition) -> None:
    for name in "abc":
        await fail(part, *(f"{name}{n:02}" for n in range(20)))
    wanted = [f"{name}{n:02}" for name in "cba" for n in reversed(range(20))]
    for limit in (1, 7, 20, 59, 60, 200):
        assert await every_page(rt, limit) == wanted
    assert (await rt.dead_letters.list(3)).total == 60


async def test_cursor_stays_good_while_jobs_fail_and_leave(rt: Runtime[None], part: Partition) -> None:
    first_ms = await fail(part, *(f"a{n}" for n in range(5)))
    await fail(part, *(f"b{n}" for n in range(5)))
    page = await rt.dead_letters.list(7)
    assert names(page.letters) == ["b4", "b3", "b2", "b1", "b0", "a4", "a3"]
    await fail(part, "c0")
    await part.store.purge([("a3", first_ms), ("a1", first_ms)])
    await rt.dead_letters.replay("b4")
    rest = await rt.dead_letters.list(7, page.before)
    assert (names(rest.letters), rest.before) == (["a2", "a0"], None)


async def test_ids_of_every_form_are_listed(rt: Runtime[None], part: Partition) -> None:
    ids = ["a:b", "ä", "\N{SNOWMAN}", "x y", "[red]", "1750000000000:1"]
    await fail(part, *ids)
    assert await every_page(rt, 1) == sorted(ids, key=str.encode, reverse=True)


@pytest.mark.parametrize("limit", [0, -1, 201, True, "5", 1.5])
async def test_limit_out_of_range_is_refused(rt: Runtime[None], limit: Any) -> None:
    with pytest.raises(InvalidOptions, match="from 1 to 200"):
        await rt.dead_letters.list(limit)


@pytest.mark.parametrize("cursor", ["", "x", "x:y", "12", "12:", ":a", "-1:a"])
async def test_cursor_of_nonsense_is_refused(rt: Runtime[None], cursor: str) -> None:
    with pytest.raises(InvalidOptions, match="pass what the page before gave"):
        await rt.dead_letters.list(before=cursor)


async def test_a_closed_runtime_has_no_dead_letters(server_url: str) -> None:
    with pytest.raises(RuntimeNotOpen):
        await Runtime(server_url).dead_letters.list()


# -- search --------------------------------------------------------------------------------------------------------------------------


async def test_search_by_each_part_of_a_filter(rt: Runtime[None], part: Partition) -> None:
    first_ms = await fail(part, "a1", job("b1", actor="b"), payload=failure("httpx.ReadTimeout", "slow", "in fetch()"))
    second_ms = await fail(part, job("p1", queue="p", arguments=b'{"customer":"Ann"}'), queue="p")
    assert await found(rt) == ["p1", "b1", "a1"]
    assert await found(rt, actor="b") == ["b1"]
    assert await found(rt, queue="p") == ["p1"]
    assert await found(rt, error="httpx.ReadTimeout") == await found(rt, error="ReadTimeout") == ["b1", "a1"]
    assert await found(rt, error="Timeout") == []
    assert await found(rt, text="SLOW") == await found(rt, text="fetch()") == ["b1", "a1"]
    assert await found(rt, text='"customer":"ann"') == ["p1"]
    assert await found(rt, since=at_ms(second_ms)) == ["p1"]
    assert await found(rt, until=at_ms(second_ms)) == ["b1", "a1"]
    assert await found(rt, since=at_ms(first_ms), until=at_ms(first_ms + 1)) == ["b1", "a1"]
    assert await found(rt, actor="a", text="slow", until=at_ms(second_ms)) == ["a1"]
    assert await found(rt, actor="a", queue="q", text="broken") == []


async def test_text_is_found_in_what_is_kept_apart(rt: Runtime[None], part: Partition) -> None:
    blobs = [orjson.dumps({"text": "x" * 5_000 + f" customer {n}."}) for n in range(9)]
    await fail(part, *(job(f"j{n}", blob=blob) for n, blob in enumerate(blobs)), payload=failure(message=LONG, traceback="in deep()"))
    assert await found(rt, text="customer 7.") == ["j7"]
    assert len(await found(rt, text="in deep()")) == 9
    assert await found(rt, text="customer 9.") == []


async def test_many_are_found_in_order_and_read_in_pages(rt: Runtime[None], part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"j{n:03}" for n in range(450)]
    for first in range(0, 450, 90):
        await fail(part, *names[first : first + 90])
    asked: list[int] = []
    commands = rt.client().store.commands

    async def counted(*some: Any, **options: Any) -> Any:
        replies = await commands(*some, **options)
        asked.extend(len(reply) for words, reply in zip(some, replies, strict=True) if words[0] == "HMGET")
        return replies

    monkeypatch.setattr(rt.client().store, "commands", counted)
    assert await found(rt) == names[::-1]
    assert max(asked) == 50
    asked.clear()
    async for _ in rt.dead_letters.search():
        break
    assert sum(asked) == 100, "one page of records and results, whatever their number"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"actor": ""}, "actor"),
        ({"actor": "a b"}, "actor"),
        ({"queue": "a b"}, "queue"),
        ({"error": ""}, "error=''"),
        ({"text": ""}, "text=''"),
        ({"text": 7}, "text=7"),
        ({"since": datetime(2025, 1, 1)}, "with a zone"),  # noqa: DTZ001 - what is refused
        ({"until": "yesterday"}, "with a zone"),
    ],
)
async def test_filter_of_nonsense_is_refused(rt: Runtime[None], part: Partition, wanted: dict[str, Any], words: str) -> None:
    await fail(part, "j1")
    with pytest.raises(InvalidOptions, match=words):
        await found(rt, **wanted)
    with pytest.raises(InvalidOptions, match=words):
        await rt.dead_letters.replay_all(**wanted)
    with pytest.raises(InvalidOptions, match=words):
        await rt.dead_letters.purge(**wanted)
    assert await found(rt) == ["j1"]


async def test_misspelt_filter_purges_nothing(rt: Runtime[None], part: Partition) -> None:
    await fail(part, "j1")
    misspelt: dict[str, Any] = {"actr": "b"}
    with pytest.raises(TypeError):
        await rt.dead_letters.purge(**misspelt)
    assert await found(rt) == ["j1"]


# -- replay --------------------------------------------------------------------------------------------------------------------------


async def test_replay_of_what_has_not_failed_tells_where_it_is(rt: Runtime[None], part: Partition) -> None:
    await part.send("j1")
    with pytest.raises(JobNotFound, match="'j1' is no dead letter: it is ready"):
        await rt.dead_letters.replay("j1")
    with pytest.raises(JobNotFound, match="no job 'never-sent'"):
        await rt.dead_letters.replay("never-sent")


async def test_replay_of_work_that_another_job_does_is_refused(rt: Runtime[None], part: Partition) -> None:
    await fail(part, job("j1", flow="ukey*f*e"))
    await part.send(job("j2", flow="ukey*f*e"))
    with pytest.raises(DuplicateJob, match="job j2 does the same work") as caught:
        await rt.dead_letters.replay("j1")
    assert caught.value.job_id == "j2"
    assert (await rt.dead_letters.replay_all()).model_dump() == {"replayed": 0, "refused": 1, "last_due_at": None}


async def test_replay_into_a_drained_queue_is_refused(rt: Runtime[None], part: Partition) -> None:
    await fail(part, "j1")
    await rt.control.drain(queue="q")
    with pytest.raises(Draining, match="queue q is drained"):
        await rt.dead_letters.replay("j1")
    await rt.control.resume(queue="q")
    assert (await rt.dead_letters.replay("j1")).id == "j1"


async def test_replay_of_many_spaces_them_at_the_given_rate_in_the_order_of_their_failures(rt: Runtime[None], part: Partition) -> None:
    names = [f"j{n:03}" for n in range(450)]
    for first in range(0, 450, 90):
        await fail(part, *names[first : first + 90])
    done = await rt.dead_letters.replay_all(per_second=2)
    queue = (await read_state(part.store)).queues["q"]
    assert list(queue.ready) == names[:1]
    due = [queue.delayed[name] for name in names[1:]]
    assert {round((later - sooner) / 10) for sooner, later in itertools.pairwise(due)} == {50}, "half a second, times in whole milliseconds"
    assert (done.replayed, done.refused) == (450, 0)
    assert done.last_due_at is not None
    assert abs(done.last_due_at - at_ms(due[-1])) <= timedelta(milliseconds=1)


async def test_replay_of_many_at_once_by_a_filter(rt: Runtime[None], part: Partition) -> None:
    await fail(part, *(job(f"{actor}{n}", actor=actor) for n in range(5) for actor in "ab"))
    assert (await rt.dead_letters.replay_all(actor="b")).replayed == 5
    assert await found(rt) == ["a4", "a3", "a2", "a1", "a0"]
    assert (await read_state(part.store)).queues["q"].ready.keys() == {f"b{n}" for n in range(5)}


async def test_what_fails_again_meanwhile_is_left_alone(rt: Runtime[None], part: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    await fail(part, *(f"j{n:03}" for n in range(250)))
    store = rt.client().store
    replay = store.replay

    async def replay_and_fail(failures: Any) -> Any:
        answer = await replay(failures)
        part.now_ms += 1_000
        claimed = await part.claim(200, under="again")
        await part.settle(*(verdict(each.id.decode(), "f", failure(), under="again") for each in claimed.deliveries))
        return answer

    monkeypatch.setattr(store, "replay", replay_and_fail)
    assert (await rt.dead_letters.replay_all()).replayed == 250
    assert (await rt.dead_letters.list(1)).total == 250


async def test_replay_at_the_least_rate_puts_nothing_off_for_more_than_ten_years(rt: Runtime[None], part: Partition) -> None:
    names = [f"j{n:04}" for n in range(4_000)]
    for first in range(0, len(names), 200):
        await fail(part, *names[first : first + 200])
    ten_years, began = timedelta(seconds=MAX_DELAY_S), datetime.now(UTC)
    done = await rt.dead_letters.replay_all(per_second=PER_SECOND_MIN)
    last = await rt.job(names[-1]).info()
    assert done.replayed == len(names)
    assert done.last_due_at is not None
    assert last.due_at is not None
    assert began + ten_years - timedelta(milliseconds=1) <= done.last_due_at <= datetime.now(UTC) + ten_years
    assert abs(last.due_at - done.last_due_at) <= timedelta(milliseconds=1)


@pytest.mark.parametrize("per_second", [0, -1, 1e-300, 1e-5, float("nan"), float("inf"), True, "5", 1_000_001])
async def test_rate_of_nonsense_is_refused(rt: Runtime[None], part: Partition, per_second: Any) -> None:
    await fail(part, "j1")
    with pytest.raises(InvalidOptions, match="use one a day to 1,000,000 a second"):
        await rt.dead_letters.replay_all(per_second=per_second)
    assert await found(rt) == ["j1"]


# -- edit ----------------------------------------------------------------------------------------------------------------------------


async def arguments_of(part: Partition, job_id: str) -> Any:
    """Return the arguments with which a job would run."""
    record = (await read_state(part.store)).jobs[job_id]
    return orjson.loads(read_record(record).arguments or (await part.store.payloads([(job_id, record)]))[job_id])


async def test_edit_changes_what_is_named_and_keeps_the_rest(rt: Runtime[None], part: Partition) -> None:
    await fail(part, job("j1", actor="thumbnail", arguments=b'{"path":"a.jpg","size":"wide","day":"2026-01-01T00:00:00Z"}'))
    again = await rt.dead_letters.edit_and_replay("j1", size=128)
    assert again.id == "j1"
    assert await arguments_of(part, "j1") == {"path": "a.jpg", "size": 128, "day": "2026-01-01T00:00:00Z"}
    state = await read_state(part.store)
    assert state.place("j1") == "ready:q"
    assert state.run("j1").attempts == 0


async def test_edit_leaves_out_what_is_named(rt: Runtime[None], part: Partition) -> None:
    await fail(part, job("j1", actor="thumbnail", arguments=b'{"path":"a.jpg","colour":1}'))
    with pytest.raises(InvalidArguments, match="colour"):
        await rt.dead_letters.edit_and_replay("j1")
    with pytest.raises(InvalidArguments, match="no argument size"):
        await rt.dead_letters.edit_and_replay("j1", ["size"])
    await rt.dead_letters.edit_and_replay("j1", ["colour"], day=datetime(2026, 1, 1, tzinfo=UTC))
    assert await arguments_of(part, "j1") == {"path": "a.jpg", "day": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("arguments", [{"size": "wide"}, {"colour": 1}, {"path": None}, {"day": "soon"}])
async def test_edit_that_does_not_fit_the_actor_changes_nothing(rt: Runtime[None], part: Partition, arguments: dict[str, Any]) -> None:
    await fail(part, job("j1", actor="thumbnail", arguments=b'{"path":"a.jpg"}'))
    before = await read_state(part.store)
    with pytest.raises(InvalidArguments, match="actor thumbnail"):
        await rt.dead_letters.edit_and_replay("j1", **arguments)
    with pytest.raises(PayloadTooLarge):
        await rt.dead_letters.edit_and_replay("j1", path="x" * 2_000_000)
    assert (await read_state(part.store)).changes(before) == []


async def test_edit_of_an_actor_that_is_not_here_takes_plain_data(rt: Runtime[None], part: Partition) -> None:
    await fail(part, job("j1", arguments=b'{"x":1,"y":[2]}', flow="cold@q=,tann", priority=1))
    with pytest.raises(InvalidArguments, match="actor a"):
        await rt.dead_letters.edit_and_replay("j1", x=object())
    with pytest.raises(InvalidArguments, match="actor a"):
        await rt.dead_letters.edit_and_replay("j1", x=float("nan"))
    await rt.dead_letters.edit_and_replay("j1", "y", x={"z": None})
    assert await arguments_of(part, "j1") == {"x": {"z": None}}
    assert (await read_state(part.store)).run("j1").flow == "tann", "its gates are given by the worker that knows its limits"


@pytest.mark.parametrize("old", ["small", LONG], ids=["was-small", "was-big"])
@pytest.mark.parametrize("new", ["tiny", LONG.upper()], ids=["is-small", "is-big"])
async def test_edit_moves_arguments_to_where_their_size_belongs(rt: Runtime[None], part: Partition, old: str, new: str) -> None:
    arguments = orjson.dumps({"path": old})
    await fail(part, job("j1", actor="thumbnail", arguments=arguments, blob=arguments if old == LONG else None))
    await rt.dead_letters.edit_and_replay("j1", path=new)
    assert await arguments_of(part, "j1") == {"path": new}
    assert len((await read_state(part.store)).blobs) == (new != "tiny")
    assert (await rt.job("j1").info()).payload == {"path": new}


async def test_edited_arguments_decide_the_gates_and_the_key(rt: Runtime[None], part: Partition) -> None:
    with_limits = await limited_job(rt, "ann")
    await part.claim(under="first", actors=("limited",))
    await part.settle(verdict(with_limits, "f", failure(), under="first"))
    await rt.dead_letters.edit_and_replay(with_limits, customer="bob")
    flow = (await read_state(part.store)).run(with_limits).flow
    assert flow == f"climited.customer@q=bob,ulimited:{quoted(json.dumps({'customer': 'bob'}, separators=(',', ':')))}*f*e,tt1"
    assert await limited_job(rt, "ann") != with_limits
    assert await limited_job(rt, "bob") == with_limits


async def limited_job(rt: Runtime[Any], customer: str) -> str:
    """Send a job that has a gate, a key and a tenant; return the id of the one that does the work."""
    return (await rt.send("limited", {"customer": customer}, tenant="t1")).id


async def test_edited_job_keeps_its_priority_where_it_ages(rt: Runtime[None], part: Partition) -> None:
    await part.key("HSET", "rules", "aging q", 60_000)
    await fail(part, job("j1", actor="thumbnail", arguments=b'{"path":"a.jpg"}', priority=1))
    await rt.dead_letters.edit_and_replay("j1", path="b.jpg")
    assert (await read_state(part.store)).run("j1").flow == "p1"


async def test_edited_job_keeps_the_options_of_its_send(rt: Runtime[None], part: Partition) -> None:
    sent = await rt.send("thumbnail", {"path": "a.jpg"}, queue="q", attempts=3, timeout=7, priority=2, id="mine")
    await part.claim(under="first", actors=("thumbnail",))
    await part.settle(verdict("mine", "f", failure(), under="first"))
    before = read_record((await read_state(part.store)).jobs["mine"])
    await rt.dead_letters.edit_and_replay("mine", path="b.jpg")
    after = read_record((await read_state(part.store)).jobs["mine"])
    assert (after.actor, after.meta, after.arguments) == (before.actor, before.meta, b'{"path":"b.jpg"}')
    assert before.meta.keys() == {"p", "e", "a", "t"}
    assert (await sent.info()).priority == 2


# -- purge ---------------------------------------------------------------------------------------------------------------------------


async def test_purge_of_one_of_a_filter_and_of_all(rt: Runtime[None], part: Partition) -> None:
    await fail(part, *(job(f"{actor}{n}", actor=actor) for n in range(5) for actor in "ab"))
    assert await rt.dead_letters.purge("a0") == 1
    with pytest.raises(JobNotFound, match="no job 'a0'"):
        await rt.dead_letters.purge("a0")
    assert await rt.dead_letters.purge(actor="b") == 5
    assert await found(rt) == ["a4", "a3", "a2", "a1"]
    assert await rt.dead_letters.purge(everything=True) == 4
    assert (await read_state(part.store)).jobs == {}


async def test_purge_of_nothing_that_is_named_is_refused(rt: Runtime[None], part: Partition) -> None:
    await fail(part, "j1")
    for options in ({}, {"everything": True, "actor": "a"}):
        named: dict[str, Any] = options
        with pytest.raises(InvalidOptions, match="name one job, or a filter, or everything=True"):
            await rt.dead_letters.purge(**named)
    with pytest.raises(InvalidOptions, match="name one job"):
        await rt.dead_letters.purge("j1", actor="a")
    assert await found(rt) == ["j1"]


async def test_purge_of_many(rt: Runtime[None], part: Partition) -> None:
    await fail(part, *(f"j{n:03}" for n in range(450)))
    assert await rt.dead_letters.purge(error="ValueError") == 450
    assert (await read_state(part.store)).results == {}


# -- from code that is not asynchronous ----------------------------------------------------------------------------------------------


async def test_the_sync_twins_do_the_same(server_url: str, namespace: str, part: Partition) -> None:
    await fail(part, *(job(f"j{n}", actor="thumbnail", arguments=b'{"path":"a"}') for n in range(5)))

    def use() -> list[Any]:
        with Runtime(server_url, namespace=namespace) as rt:
            letters = rt.dead_letters
            return [
                names(letters.list_sync(2).letters),
                [letter.id for letter in letters.search_sync(error="ValueError")],
                letters.replay_sync("j0").id,
                letters.edit_and_replay_sync("j1", path="b").id,
                letters.purge_sync("j2"),
                letters.replay_all_sync(per_second=5, actor="thumbnail").replayed,
                list(letters.search_sync()),
            ]

    assert await asyncio.to_thread(use) == [["j4", "j3"], ["j4", "j3", "j2", "j1", "j0"], "j0", "j1", 1, 2, []]
