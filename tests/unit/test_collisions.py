"""Ids that are drawn: one that belongs to another job already is drawn again, by every way to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from angelrt import Job, RedisRefused, Runtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rt(server_url: str, namespace: str) -> AsyncIterator[Runtime[Any]]:
    rt = Runtime(server_url, namespace=namespace)

    @rt.actor()
    async def here(number: int) -> None:
        """Run by nobody."""

    async with rt:
        yield rt
        store = rt.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


async def to_an_actor(rt: Runtime[Any]) -> Job[Any]:
    return await rt.registered["here"].send(2)


async def with_many(rt: Runtime[Any]) -> Job[Any]:
    (job,) = await rt.send_many([rt.registered["here"].message(2)])
    return job


async def by_name(rt: Runtime[Any]) -> Job[Any]:
    return await rt.send("here", {"number": 2})


async def to_an_actor_elsewhere(rt: Runtime[Any]) -> Job[Any]:
    return await rt.send("elsewhere", {"number": 2})


WAYS = [to_an_actor, with_many, by_name, to_an_actor_elsewhere]


@pytest.mark.parametrize("send", WAYS)
async def test_an_id_that_is_taken_is_drawn_again(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch, send: Any) -> None:
    taken = await rt.registered["here"].send(1)
    drawn = iter([taken.id, "Pnew0000000000"])
    monkeypatch.setattr(rt.client()._ids, "next", lambda: next(drawn))  # noqa: SLF001 - chance is too slow
    job = await send(rt)
    assert (job.id, job.created) == ("Pnew0000000000", True)
    assert (await job.info()).payload == {"number": 2}
    assert (await taken.info()).payload == {"number": 1}


@pytest.mark.parametrize("send", WAYS)
async def test_ids_that_are_all_taken_are_an_error_and_no_lost_job(rt: Runtime[Any], monkeypatch: pytest.MonkeyPatch, send: Any) -> None:
    taken = await rt.registered["here"].send(1)
    monkeypatch.setattr(rt.client()._ids, "next", lambda: taken.id)  # noqa: SLF001 - as above
    with pytest.raises(RedisRefused, match="new ids in a row belong to other jobs"):
        await send(rt)
    assert (await taken.info()).payload == {"number": 1}
