"""watch: who asks for a result gets it, or is noted and told when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt import scripts
from angelrt.views import read_outcome
from tests.scripts.partition import job, verdict

if TYPE_CHECKING:
    from tests.scripts.partition import Partition

BIG = b"x" * 5_000


@pytest.mark.parametrize("code", ["c", "f", "k"])
@pytest.mark.parametrize("payload", [b"payload", BIG], ids=["small", "big"])
async def test_job_that_ended_is_answered_at_once(part: Partition, code: str, payload: bytes) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", code, payload))
    before = await part.state()
    [(found, stored)] = await part.store.watch("ann", ["j1"])
    assert (found, read_outcome(stored)[-1]) == (code, payload)
    assert (await part.state()).changes(before) == []


async def test_job_that_does_not_exist_is_missing(part: Partition) -> None:
    before = await part.state()
    assert await part.store.watch("ann", ["never-sent"]) == [("m", b"")]
    assert (await part.state()).changes(before) == []


async def test_client_that_waits_is_noted_once(part: Partition) -> None:
    await part.send("j1")
    for client in ("ann", "bob", "ann", "an"):
        assert await part.store.watch(client, ["j1"]) == [("w", b"")]
    assert (await part.state()).watch == {"j1": b"ann bob an"}


async def test_job_waits_in_every_place_but_the_last(part: Partition) -> None:
    await part.send("leased", "retried", job("parked", actor="rare"), job("delayed", when="+500"), "later")
    await part.claim(2)
    await part.settle(verdict("retried", "r", b"error of an attempt"))
    names = ["leased", "retried", "parked", "delayed", "later"]
    assert await part.store.watch("ann", names) == [("w", b"")] * 5
    assert (await part.state()).watch == dict.fromkeys(names, b"ann")


async def test_answers_stand_in_the_order_of_the_questions(part: Partition) -> None:
    await part.send("a", "b", "c", "d")
    await part.claim(3)
    await part.settle(verdict("a", "c", b"1"), verdict("b", "f", BIG), verdict("c", "k", b"3"))
    answers = await part.store.watch("ann", ["d", "b", "never-sent", "c", "a", "b"])
    assert [code for code, _ in answers] == ["w", "f", "m", "k", "c", "f"]
    assert [read_outcome(stored)[-1] for _, stored in answers if stored] == [BIG, b"3", b"1", BIG]


async def test_nothing_to_watch_is_no_error(part: Partition) -> None:
    assert await part.raw(scripts.WATCH, [], "ann") == []


async def test_id_that_was_forgotten_is_missing(part: Partition) -> None:
    await part.send("j1")
    await part.claim()
    await part.settle(verdict("j1", "c", b"null"))
    part.now_ms += 3_600_000
    await part.store.settle("w1", [])
    assert await part.store.watch("ann", ["j1"]) == [("m", b"")]
