"""Ids, records and the public views of jobs and workers: pure values, no I/O."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from .errors import InvalidOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALPHABET: Final = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
"""64 characters in ASCII order, so that ids sort as the numbers that they write."""
ID_CHARS: Final = 14
"""jemalloc has no 24-byte class: a key of 15 characters would cost 32 bytes more in each hash and sorted set."""
ID_MAX_BYTES: Final = 128
TIME_CHARS: Final = 7
NONCE_CHARS: Final = 4
RUN_CHARS: Final = 2
"""Ids that follow each other differ in so many characters alone, for as long as there are any."""
RUNS: Final = 1 << 30
"""How many such runs a millisecond has."""
UNREADABLE: Final = "(cannot be read)"

EPOCH_MS: Final = 1_704_067_200_000
TICKS_PER_MS: Final = 256
PRIORITY_STEP: Final = 2**49
PRIORITY_DEFAULT: Final = 5
PRIORITY_MAX: Final = 9

PREFIX_PLACES: Final = range(6 * (ID_CHARS - RUN_CHARS) - 12, -1, -12)
"""By how many bits each pair of characters ahead of the last stands higher than the one behind it."""
_PAIRS: Final = tuple(a + b for a in ALPHABET for b in ALPHABET)
_VALUE: Final = {character: value for value, character in enumerate(ALPHABET)}


def write_number(number: int, chars: int) -> str:
    """Write a number in `chars` characters of the alphabet, most significant first."""
    return "".join(ALPHABET[(number >> 6 * place) & 63] for place in reversed(range(chars)))


class IdMaker:
    """Makes ids of 14 characters that sort by time: 42 bits of milliseconds since 1970, 42 bits that start at random each millisecond.

    Two processes draw the same id with a chance of about 2^-42 for each pair in a millisecond; the nonce in the record
    (24 bits, one per process) shows it, and the sender draws again: a collision is never a dropped job.
    """

    def __init__(self) -> None:
        """Draw the nonce of this process."""
        self.nonce = write_number(secrets.randbits(24), NONCE_CHARS)
        # Ids are no secrets, and a call of the system in each millisecond would take 4% of what senders do.
        self._random = Random(os.urandom(16))  # noqa: S311
        self.next: Final[Callable[[], str]] = self._ids().__next__
        """Returns a new id, larger than every one before it from this maker. A generator's own step: half of what a method takes."""

    def _ids(self) -> Iterator[str]:
        """Yield ids in runs, which share all but the last pair of characters; the bits are drawn anew for each millisecond."""
        last_ms, over_ns, run, now_ns = 0, 0, 0, time.time_ns()
        while True:
            run, first = run + 1, 0
            if now_ns >= over_ns or run == RUNS:
                last_ms = max(now_ns // 1_000_000, last_ms + 1)
                over_ns = (last_ms + 1) * 1_000_000
                run, first = divmod(self._random.getrandbits(42), len(_PAIRS))
            ahead = last_ms * RUNS + run
            prefix = "".join([_PAIRS[ahead >> place & 4095] for place in PREFIX_PLACES])
            rest: Any = iter(_PAIRS)
            rest.__setstate__(first)  # as pickle sets an iterator; a slice would touch each pair that follows
            for pair in rest:
                yield prefix + pair
                now_ns = time.time_ns()
                if now_ns >= over_ns:
                    break


def id_time_ms(job_id: str) -> int:
    """Return the milliseconds since 1970 that an id made here carries; 0 for one that carries none."""
    total = 0
    for character in job_id[:TIME_CHARS]:
        total = total << 6 | _VALUE.get(character, 0)
    return total


def check_id(job_id: str) -> str:
    """Return an id chosen by the caller.

    Raises InvalidOptions when it is empty, over 128 bytes or has control characters, and for `.` and `..`.
    """
    text = isinstance(job_id, str)  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
    if not text or not job_id.isprintable() or not 0 < len(job_id.encode("utf-8", "replace")) <= ID_MAX_BYTES:
        message = f"id {(job_id[:60] if text else job_id)!r}: use 1 to {ID_MAX_BYTES} bytes of printable text"
        raise InvalidOptions(message)
    if job_id in (".", ".."):
        message = f"id {job_id!r} stands for a folder in every address, so no page could show the job: use another"
        raise InvalidOptions(message)
    return job_id


def rank_ready_ms(rank: float) -> float:
    """Return the time in milliseconds since 1970 at which a job of this rank became ready."""
    return rank % PRIORITY_STEP / TICKS_PER_MS + EPOCH_MS


@dataclass(slots=True)
class Record:
    """The envelope of a job, written once: `actor NUL nonce [meta] NUL arguments`; no arguments means that they are in `blobs`.

    Meta holds only what differs from the defaults: `p` priority, `a` attempts, `t` timeout_s, `e` enqueued_ms of an id that carries
    none, `w` and `s` the traceparent and tracestate of the trace that the job belongs to.
    """

    actor: str
    meta: dict[str, Any]
    arguments: bytes


def record_head(actor: str, nonce: str, meta: dict[str, Any]) -> bytes:
    """Return the stored form of a record up to its arguments."""
    return b"%b\0%b%b\0" % (actor.encode(), nonce.encode(), orjson.dumps(meta) if meta else b"")


def write_record(actor: str, nonce: str, meta: dict[str, Any], arguments: bytes) -> bytes:
    """Return the stored form of a record."""
    return record_head(actor, nonce, meta) + arguments


def read_record(stored: bytes) -> Record:
    """Return the record of a stored form. Raises ValueError for one that no sender wrote."""
    actor, meta, arguments = stored.split(b"\0", 2)
    if len(meta) <= NONCE_CHARS:
        return Record(actor.decode(), {}, arguments)
    told: dict[str, Any] = orjson.loads(meta[NONCE_CHARS:])
    if not isinstance(told, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - whoever can write to the server may have written it
        message = f"the meta of a record is an object, not {type(told).__name__}"
        raise ValueError(message)  # noqa: TRY004 - the bytes are wrong, not the caller
    return Record(actor.decode(), told, arguments)


def shown_record(stored: bytes) -> Record:
    """Return the record of a stored form, to be shown; of one that cannot be read, what can be."""
    try:
        return read_record(stored)
    except ValueError:
        return Record(stored.partition(b"\0")[0][:ID_MAX_BYTES].decode(errors="replace"), {}, b"")


def shown_payload(encoded: bytes) -> dict[str, Any]:
    """Return arguments by name, to be shown; of what cannot be read, the reason."""
    try:
        payload: object = from_json(encoded)
    except ValueError as error:
        return {UNREADABLE: str(error)}
    return cast("dict[str, Any]", payload) if isinstance(payload, dict) else {UNREADABLE: "it is no JSON object"}


def blob_field(job_id: str, record: bytes) -> str:
    """Return the field of `blobs` in which arguments that are kept apart lie: the id and the record's nonce."""
    nonce = record.split(b"\0", 2)[1][:NONCE_CHARS]
    return f"{job_id}={nonce.decode(errors='replace')}"


class Status(StrEnum):
    """The five words for people."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATUS_OF_STATE: Final = {
    "ready": Status.PENDING,
    "delayed": Status.PENDING,
    "lane": Status.PENDING,
    "leased": Status.PROCESSING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


class View(BaseModel):
    """The base of what is shown outside: snake_case in Python, camelCase in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, json_schema_serialization_defaults_required=True
    )

    def to_json(self) -> bytes:
        """Return JSON with camelCase names."""
        return self.model_dump_json(by_alias=True).encode()


class ErrorInfo(View):
    """An error of a run: the qualified type, the text, and the worker's traceback."""

    type: str
    message: str
    traceback: str = ""


class Attempt(View):
    """One earlier run that ended without an outcome; times are UTC."""

    ended_as: str
    started_at: datetime
    ended_at: datetime
    worker: str


class Progress(View):
    """How far a run says that it is: `done` from 0 to 1, and its last log lines."""

    done: float | None = None
    message: str = ""
    log: list[str] = []


class JobInfo(View):
    """All that is known of a job. Times are UTC; `payload` is the arguments by name."""

    id: str
    type: str
    payload: dict[str, Any]
    priority: int
    attempts: int
    status: Status
    created_at: datetime
    processed_at: datetime | None = None
    completed_at: datetime | None = None
    error: ErrorInfo | None = None
    state: str
    queue: str | None = None
    due_at: datetime | None = None
    deliveries: int = 0
    worker: str | None = None
    progress: Progress | None = None
    timeline: list[Attempt] = []


class Reason(View):
    """One thing that holds a job: `kind` for programs, `text` for people, `data` by kind.

    Kinds: paused, missing, no_worker, gate, apart, behind, line, due, expires, running, stopping, ended.
    """

    kind: str
    text: str
    data: dict[str, Any] = Field(default_factory=dict)


class Explanation(View):
    """What holds a job, the first reason first, and when that is expected to pass (UTC; None when nobody can tell)."""

    id: str
    actor: str
    queue: str | None
    status: Status
    reasons: list[Reason]
    expected_at: datetime | None = None

    @property
    def text(self) -> str:
        """The reasons in words, a line each."""
        return "\n".join(reason.text for reason in self.reasons)


class WorkerInfo(View):
    """A worker as the register shows it. `average_processing_time` is in milliseconds; `status` is active, idle or error.

    `blocked_by` is the actor that blocks its event loop now, and for `blocked_s` seconds so far; `longest_block_by` the one that did so for
    longest since the worker started.
    """

    id: str
    type: str
    status: str
    last_heartbeat: datetime
    jobs_processed: int
    average_processing_time: float
    queues: list[str]
    actors: list[str]
    concurrency: int
    running: int
    host: str
    pid: int
    blocked_by: str | None = None
    blocked_s: float | None = None
    longest_block_by: str | None = None
    longest_block_s: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether it beats, or is only held up by an actor that blocks its loop."""
        return self.status != "error" or self.blocked_by is not None


def at_ms(milliseconds: float) -> datetime:
    """Return the UTC time of milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
