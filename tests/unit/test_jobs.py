"""Lists of jobs: every state, in pages, by filters; on a real server, without a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import InvalidOptions, Runtime
from angelrt.job import at_ms, write_record
from angelrt.jobs import LOOK_MAX
from tests.scripts.gated import declare, gate, held
from tests.scripts.partition import job, on_a_partition, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt.new_jobs import NewJob
    from tests.scripts.partition import Partition


@pytest.fixture
async def rt(server_url: str, namespace: str, part: Partition) -> AsyncIterator[Runtime[None]]:  # noqa: ARG001 - opened before
    """An open runtime."""
    async with Runtime(server_url, namespace=namespace) as runtime:
        yield runtime


def made(job_id: str, ms: float) -> NewJob:
    """Return a job that was made at a time."""
    return job(job_id)._replace(record=write_record("a", "none", {"e": ms}, b"{}"))


async def walk(rt: Runtime[Any], **wanted: Any) -> list[str]:
    """Go through all pages, and return the ids."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await rt.jobs.list(cursor=cursor, **wanted)
        found += [each.id for each in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return found


async def one_of_each(part: Partition) -> None:
    """Have a job in each state."""
    await declare(part)
    await part.send("c1", "f1", "k1", job("l1", flow=held("A")))
    await part.claim(under="t1")
    error = orjson.dumps({"actor": "a", "type": "ValueError", "message": "Broken Pipe", "traceback": ""})
    await part.settle(verdict("c1", "c", b"1", under="t1"), verdict("f1", "f", error, under="t1"))
    await part.store.cancel(["k1"], "me")
    await part.settle(verdict("k1", "k", b"", under="t1"))
    await part.send("r1", job("d1", when="+5000"), job("g1", flow=held("A")))
    assert (await part.state()).place("g1") == "lane:q"
    assert gate("A")


async def test_there_is_nothing(rt: Runtime[None]) -> None:
    assert (await rt.jobs.list()).model_dump() == {"jobs": [], "cursor": None}
    assert set((await rt.jobs.counts()).values()) == {0}


async def test_each_state_is_listed_and_counted(rt: Runtime[None], part: Partition) -> None:
    await one_of_each(part)
    by_state = {"leased": "l1", "ready": "r1", "lane": "g1", "delayed": "d1", "failed": "f1", "completed": "c1", "cancelled": "k1"}
    for state, job_id in by_state.items():
        assert await walk(rt, state=state) == [job_id]
    assert await walk(rt) == [*by_state.values()]
    assert await rt.jobs.counts() == dict.fromkeys(by_state, 1)


async def test_jobs_are_found_by_what_is_known_of_them(rt: Runtime[None], part: Partition) -> None:
    await one_of_each(part)
    await part.send(job("other", queue="p", actor="b", arguments=b'{"path":"Straw berry.jpg"}'))
    assert await walk(rt, queue="p") == await walk(rt, actor="b") == await walk(rt, text="straw BERRY") == ["other"]
    assert await walk(rt, text="broken pipe") == ["f1"]
    assert await walk(rt, text="f1") == ["f1"]
    assert await walk(rt, queue="q") == ["l1", "r1", "g1", "d1", "f1"], "of those that completed or were cancelled no queue is kept"
    assert await walk(rt, actor="b", state="completed") == []


async def test_jobs_are_found_by_when_they_were_made(rt: Runtime[None], part: Partition) -> None:
    old, new = part.now_ms, part.now_ms + 60_000
    await part.send(made("old", old), made("new", new))
    await part.claim(1, under="t1")
    await part.settle(verdict("old", "c", b"1", under="t1"))
    between = at_ms(old + 1_000)
    assert await walk(rt, since=between) == ["new"]
    assert await walk(rt, until=between) == ["old"]
    assert await walk(rt, since=at_ms(old), until=at_ms(new)) == ["old"]


@pytest.mark.parametrize("state", ["ready", "delayed", "completed", "lane"])
async def test_pages_meet_every_job_once_also_those_of_one_moment(rt: Runtime[None], part: Partition, state: str) -> None:
    await declare(part)
    when, flow = ("+5000", "") if state == "delayed" else ("", held("A") if state == "lane" else "")
    if state == "lane":
        await part.send(job("first", flow=flow))
        await part.claim(under="t0")
    names = [f"j{n:03}" for n in range(130)]
    await part.send(*(job(name, when=when, flow=flow) for name in names))
    if state == "completed":
        await part.claim(200, under="t1")
        await part.settle(*(verdict(name, "c", b"1", under="t1") for name in names))
    expected = names[::-1] if state == "completed" else names
    for limit in (1, 7, 130, 200):
        assert await walk(rt, state=state, limit=limit) == expected
    assert await walk(rt, state=state, limit=5, text="j12") == [name for name in expected if "j12" in name]


async def test_one_call_looks_at_a_thousand_jobs_at_most_and_goes_on_where_it_was(rt: Runtime[None], part: Partition) -> None:
    names = [f"j{n:04}" for n in range(LOOK_MAX + 200)]
    for first in range(0, len(names), 200):
        await part.send(*(job(name, actor="b" if name == names[-1] else "a") for name in names[first : first + 200]))
        part.now_ms += 1
    page = await rt.jobs.list(actor="b")
    assert page.jobs == []
    assert page.cursor is not None
    assert [each.id for each in (await rt.jobs.list(actor="b", cursor=page.cursor)).jobs] == [names[-1]]


async def test_a_page_goes_on_after_what_it_showed_has_moved_on(rt: Runtime[None], part: Partition) -> None:
    await part.send(*(job(f"j{n}") for n in range(6)))
    page = await rt.jobs.list(state="ready", limit=2)
    await part.claim(3, under="t1")
    assert [each.id for each in (await rt.jobs.list(state="ready", limit=10, cursor=page.cursor)).jobs] == ["j3", "j4", "j5"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "running"}, {"limit": 0}, {"limit": 201}, {"limit": True}, {"cursor": "nonsense"}, {"cursor": "bm9uc2Vuc2U"},
        {"since": datetime(2026, 1, 1)}, {"queue": "a b"}, {"actor": ""},  # noqa: DTZ001 - the zone that is missing
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused(rt: Runtime[None], wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        await rt.jobs.list(**wrong)


async def test_a_cursor_of_a_list_of_other_jobs_is_refused(rt: Runtime[None], part: Partition) -> None:
    await part.send(job("j1"), job("j2"), job("other", queue="b"))
    cursor = (await rt.jobs.list(state="ready", queue="q", limit=1)).cursor
    for other in ({"state": "completed"}, {"state": "leased"}, {"queue": "b"}):
        with pytest.raises(InvalidOptions, match="a cursor goes on with the list that gave it"):
            await rt.jobs.list(cursor=cursor, **other)


@given(st.text())
def test_a_cursor_of_any_text_is_refused_or_read(server_url: str, cursor: str) -> None:
    async def look(part: Partition) -> None:
        async with Runtime(server_url, namespace=part.store.keys.namespace) as rt:
            try:
                await rt.jobs.list(cursor=cursor)
            except InvalidOptions as error:
                assert "pass what the page before gave" in str(error)  # noqa: PT017 - either is right

    on_a_partition(server_url, look)


async def test_times_with_a_zone_are_those_of_that_zone(rt: Runtime[None], part: Partition) -> None:
    await part.send(made("j1", part.now_ms))
    berlin = at_ms(part.now_ms).astimezone(UTC) + timedelta(milliseconds=1)
    assert await walk(rt, until=berlin) == ["j1"]
