"""angelrt: an asyncio actor runtime and job queue on raw Redis primitives.

Start at `runtime.py` and follow a job: send -> store -> claim -> run -> settle.
"""

from .actor import Actor, Actors, AsyncActor, Message, RemoteActor, SyncActor
from .config import Keep, Retention
from .context import Context, CurrentJob, Middleware
from .control import Pause, Rule
from .dead_letters import DeadLetter, DeadLetterPage, Replays
from .errors import (
    AngelError,
    ConfigError,
    Draining,
    DuplicateJob,
    InvalidArguments,
    InvalidOptions,
    JobCancelled,
    JobFailed,
    JobNotFound,
    NotReplicated,
    PayloadTooLarge,
    RedisFull,
    RedisRefused,
    RedisUnavailable,
    ResultDecodeError,
    RuntimeNotOpen,
)
from .events import Event
from .handle import Job
from .job import Explanation, JobInfo, Reason, Status, WorkerInfo
from .jobs import JobPage
from .limits import Concurrency, RateLimit
from .queue import Queue
from .retry import Fail, Retry, RetryPolicy, Snooze
from .runtime import Runtime
from .schedules import ScheduleInfo
from .series import Minute
from .stats import Stats
from .unique import Unique

__all__ = [
    "Actor",
    "Actors",
    "AngelError",
    "AsyncActor",
    "Concurrency",
    "ConfigError",
    "Context",
    "CurrentJob",
    "DeadLetter",
    "DeadLetterPage",
    "Draining",
    "DuplicateJob",
    "Event",
    "Explanation",
    "Fail",
    "InvalidArguments",
    "InvalidOptions",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobPage",
    "Keep",
    "Message",
    "Middleware",
    "Minute",
    "NotReplicated",
    "Pause",
    "PayloadTooLarge",
    "Queue",
    "RateLimit",
    "Reason",
    "RedisFull",
    "RedisRefused",
    "RedisUnavailable",
    "RemoteActor",
    "Replays",
    "ResultDecodeError",
    "Retention",
    "Retry",
    "RetryPolicy",
    "Rule",
    "Runtime",
    "RuntimeNotOpen",
    "ScheduleInfo",
    "Snooze",
    "Stats",
    "Status",
    "SyncActor",
    "Unique",
    "WorkerInfo",
]
