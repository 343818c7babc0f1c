"""What is stored as a job, and how the jobs of one call travel: packed in one argument, a third of the time of three for each."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs] - it has no types

from .job import blob_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .scripts import QueueIndex

NewJobFields: TypeAlias = "tuple[str, str, bytes, int | None, str, bytes | None, str]"
"""A `NewJob` without its class, which takes a tenth of the time to make."""
ID: Final = 1
"""Which of its fields is the id."""
flow_of: Final = itemgetter(6)
"""Returns what may hold it back."""

NOTHING_ASKED: Final = [None, "", None, ""]
"""The other fields of a job that waits for nothing but its turn."""


class NewJob(NamedTuple):
    """A job on its way into a queue.

    `when` is '' for now, '+ms' for a delay, 'ms' for a time; `blob` is a payload kept apart, `flow` what may hold the job back.
    """

    queue: str
    id: str
    record: bytes
    priority: int | None = None
    when: str = ""
    blob: bytes | None = None
    flow: str = ""

    @property
    def size_bytes(self) -> int:
        """What the job weighs in a batch."""
        return len(self.record) + len(self.blob or b"")


_packer: Any = msgpack.Packer(use_bin_type=False)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
"""Writes text and bytes alike, as cmsgpack reads them. One for all threads: it runs no Python for what a job consists of, and so is never
interrupted."""


def _pack(columns: Sequence[Sequence[Any]]) -> bytes:
    return _packer.pack(columns)  # type: ignore[no-any-return]


def packed(index: QueueIndex, jobs: Sequence[NewJobFields]) -> tuple[bytes, list[Any], bool]:
    """Return the argument that stands for new jobs, fields and values of payloads kept apart, and whether all ask for nothing but a turn.

    The argument is MessagePack, which the server unpacks itself: a list of places, one of ids, one of records. A place is the number of
    a queue, or `number priority when flow` where one of these is given. One job alone without these is `number id record`, parted by zeros:
    to pack and unpack three lists of one is a twentieth of a lone send.
    """
    if not jobs:
        return _pack(((), (), ())), [], False
    if len(jobs) == 1:
        queue, job_id, record, *asked = jobs[0]
        if asked == NOTHING_ASKED:
            return b"%b\0%b\0%b" % (index[queue].encode(), job_id.encode(), record), [], True
    columns: tuple[Sequence[Any], ...] = tuple(zip(*jobs, strict=True))
    queues, ids, records, priorities, whens, blobs, flows = columns
    places = list(map(index.__getitem__, queues))
    is_plain = not (any(whens) or any(flows)) and priorities.count(None) == len(jobs)
    if not is_plain:
        hows = zip(places, priorities, whens, flows, strict=True)
        places = [f"{place} {'' if priority is None else priority} {when} {flow}" for place, priority, when, flow in hows]
    apart: list[Any] = []
    if blobs.count(None) < len(jobs):
        parts = zip(ids, records, blobs, strict=True)
        apart = [part for job_id, record, blob in parts if blob is not None for part in (blob_field(job_id, record), blob)]
    return _pack((places, ids, records)), apart, is_plain
