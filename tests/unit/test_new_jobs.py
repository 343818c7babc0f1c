"""What a send is stored as: the short way of plain sends and the way of all others write the same."""

from __future__ import annotations

from typing import Any

import pytest

from angelrt import Concurrency, Queue, Runtime, Unique
from angelrt.config import BLOB_MIN_BYTES
from angelrt.job import PRIORITY_DEFAULT, read_record
from angelrt.new_jobs import NewJob, packed
from angelrt.scripts import QueueIndex
from tests.unit.unconnected import client

QUEUES = (Queue("mail"), Queue("narrow", limits=[Concurrency(1)]))


def both_ways(**declared: Any) -> tuple[NewJob, NewJob]:
    """Return a send as declared, and one that says of itself what is declared, under the same id."""
    rt = Runtime("redis://nowhere", queues=QUEUES)

    @rt.actor(**declared)
    async def work(text: str) -> None: ...

    sender, text = client(*QUEUES), "x" * 100
    job = sender.new_job(work.message(text))
    same = sender.new_job(work.options(priority=work.definition.priority).message(text))
    return job, same._replace(id=job.id)


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"queue": "mail"},
        {"name": "größe"},
        {"priority": 0},
        {"limits": [Concurrency(3)]},
        {"limits": [Concurrency(3, per="text")]},
        {"queue": "narrow"},
        {"unique": Unique()},
    ],
    ids=["plain", "a queue without limits", "a name", "priority", "limit", "limit of a key", "limit of the queue", "unique"],
)
def test_a_send_as_declared_is_what_one_is_that_says_the_same(declared: dict[str, Any]) -> None:
    job, same = both_ways(**declared)
    assert job == same
    assert read_record(job.record).arguments == b'{"text":"' + b"x" * 100 + b'"}'


def test_a_plain_send_says_nothing_but_its_place() -> None:
    job, _ = both_ways(queue="mail")
    assert job == NewJob("mail", job.id, job.record)
    assert both_ways(priority=PRIORITY_DEFAULT)[0].priority is None


@pytest.mark.parametrize(("over", "is_apart"), [(0, False), (1, True)], ids=["at the bound", "over it"])
def test_large_arguments_of_a_plain_send_are_kept_apart(over: int, is_apart: bool) -> None:  # noqa: FBT001 - a parameter of the test
    rt = Runtime("redis://nowhere")

    @rt.actor()
    async def work(text: str) -> None: ...

    message = work.message("x" * (BLOB_MIN_BYTES - len('{"text":""}') + over))
    job = client().new_job(message)
    assert job.blob == (message.arguments if is_apart else None)
    assert read_record(job.record).arguments == (b"" if is_apart else message.arguments)


@pytest.mark.parametrize(
    ("asked", "is_short"),
    [({}, True), ({"priority": 5}, False), ({"when": "+5"}, False), ({"blob": b"x"}, False), ({"flow": "tx"}, False)],
    ids=["nothing", "priority", "time", "payload apart", "flow"],
)
def test_a_job_alone_that_asks_for_nothing_travels_without_message_pack(asked: dict[str, Any], is_short: bool) -> None:  # noqa: FBT001 - a parameter of the test
    job = NewJob("q", "a=b |", b"work\0nonc{}\0[1]", **asked)
    assert (packed(QueueIndex(), [job])[0] == b"1\0a=b |\0work\0nonc{}\0[1]") is is_short
    assert packed(QueueIndex(), [job, job._replace(id="j2")])[0][:1] == b"\x93"
