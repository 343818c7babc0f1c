"""What the API answers: the views of the package, without what is hidden, and those that only a page needs."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import Any, Literal

from pydantic import Field

from ..alerts import AlertChange, AlertInfo  # noqa: TC001
from ..control import Pause, Rule  # noqa: TC001
from ..dead_letters import DeadLetter
from ..job import ErrorInfo, JobInfo, Status, View, WorkerInfo
from ..schedules import ScheduleInfo
from ..series import Minute  # noqa: TC001
from ..stats import Figures, QueueDepth
from ..usage import GateUse, LimitUse
from .audit import AuditEntry  # noqa: TC001


class ShownJob(JobInfo):
    """A job. `payload` is null and `payloadHidden` true unless an operator has asked for it; secrets are redacted in any case."""

    payload: dict[str, Any] | None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride] - what is shown may be less
    payload_hidden: bool


class ShownLetter(DeadLetter):
    """A job that ended as failed; its arguments are hidden here: ask for the job itself."""

    payload_hidden: bool


class ShownSchedule(ScheduleInfo):
    """A schedule; its arguments are hidden unless an operator has asked for them."""

    payload: dict[str, Any] | None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride] - what is shown may be less
    payload_hidden: bool


class Me(View):
    """Who asks: the role (null for nobody), whether one is needed, and whether a token gets one."""

    role: Literal["reader", "operator"] | None
    auth_required: bool
    can_log_in: bool
    title: str


class Total(View):
    """The figures of the last day, and the rates that people ask for first. Times are milliseconds."""

    hours: int
    total: Figures
    actors: list[Figures]
    queues: list[QueueDepth]
    completion_rate: float | None
    pickup_p50_ms: float | None
    pickup_p99_ms: float | None


class Backlog(View):
    """How many jobs stand where over all queues, and how long the oldest ready one has waited, in milliseconds."""

    ready: int
    delayed: int
    leased: int
    lanes: int
    oldest_ready_ms: float | None


class Workers(View):
    """How many workers there are, and how many of them live."""

    total: int
    live: int


class Overview(View):
    """How the system does: `counts` are jobs by state, `pauses` what is paused or drained."""

    at: datetime
    stats: Total
    counts: dict[str, int]
    completion_rate: float | None
    pickup_p50_ms: float | None
    pickup_p99_ms: float | None
    backlog: Backlog
    workers: Workers
    pauses: int


class Series(View):
    """The figures of each of the last minutes, the oldest first."""

    minutes: list[Minute]


class Jobs(View):
    """Some jobs, and the cursor of the next ones; null at the end. A page may be short, or empty, before the end."""

    jobs: list[ShownJob]
    cursor: str | None


class Sent(View):
    """The job that is there now; `isNew` is false where it was there before, by its id or by what it does."""

    id: str
    is_new: bool


class Outcome(View):
    """What came of a job. `result` is null and `resultHidden` true unless an operator has asked for it."""

    status: Status
    result: Any = None
    result_hidden: bool = False
    error: ErrorInfo | None = None


class Waiting(View):
    """How a job stands that has not ended."""

    status: Status


class Cancelled(View):
    """Whether the job was cancelled, or told to stop; false where it had ended before."""

    cancelled: bool


class ShownQueue(QueueDepth):
    """A queue, and whether it is paused (nothing begins) or drained (nothing new is taken)."""

    is_paused: bool
    is_draining: bool


class Queues(View):
    """All queues."""

    queues: list[ShownQueue]


class ShownActor(View):
    """An actor. One that is not declared in this process has no kind and no schema; `figures` are of its queue, null without any."""

    name: str
    queue: str
    kind: str | None
    description: str | None
    argument_schema: dict[str, Any] | None = Field(serialization_alias="schema")
    is_paused: bool
    is_draining: bool
    figures: Figures | None


class Actors(View):
    """All actors that are declared here or have had jobs in the last day."""

    actors: list[ShownActor]


class Fleet(View):
    """All workers."""

    workers: list[WorkerInfo]


class ShownSchedules(View):
    """All schedules."""

    schedules: list[ShownSchedule]


class ShownGate(GateUse):
    """What is taken at one gate. `value` is null and `valueHidden` true where the argument is secret, or might be."""

    value_hidden: bool


class ShownUse(LimitUse):
    """How much of a limit is in use: `gates` are the fullest, up to five of the `inUse` that were found; with `hasMore`, not all were."""

    gates: list[ShownGate]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride] - what is shown may be less


class Limits(View):
    """The limits that workers have declared, how much of each is in use now, and what is paused or drained."""

    rules: list[Rule]
    usage: list[ShownUse]
    pauses: list[Pause]


class Changed(View):
    """The names of what is paused, drained or going on now."""

    changed: list[str]


class Done(View):
    """It is done."""

    done: bool = True


class Failed(View):
    """Some dead letters, the newest first, and the cursor of the next ones; `total` counts all there are."""

    letters: list[ShownLetter]
    cursor: str | None
    total: int


class Purged(View):
    """How many were forgotten."""

    purged: int


class Audit(View):
    """What was done by hand, the newest first."""

    entries: list[AuditEntry]


class Alive(View):
    """The process answers."""

    status: str


class Alerts(View):
    """The alerts with their states, and when these changed, the newest first."""

    alerts: list[AlertInfo]
    history: list[AlertChange]
