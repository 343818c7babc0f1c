"""angelrt: an asyncio actor runtime and job queue on raw Redis primitives.

Start at `runtime.py` and follow a job: send -> store -> claim -> run -> settle.
"""

from .actor import Actor, Actors, AsyncActor, Message, RemoteActor, SyncActor
from .alerts_rules import AlertRule, BacklogAge, FailureRate, NoWorker, PickupP99, QuotaUsed
from .alerts_sinks import LogSink, Notice, Webhook
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
from .redaction_marks import Secret
from .retry import Fail, Retry, RetryPolicy, Snooze
from .runtime import Runtime
from .schedules import ScheduleInfo
from .series import Minute
from .stats import Stats
from .unique import Unique
from .usage import GateUse, LimitUse

__all__ = [
    "Actor",
    "Actors",
    "AlertRule",
    "AngelError",
    "AsyncActor",
    "BacklogAge",
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
    "FailureRate",
    "GateUse",
    "InvalidArguments",
    "InvalidOptions",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobPage",
    "Keep",
    "LimitUse",
    "LogSink",
    "Message",
    "Middleware",
    "Minute",
    "NoWorker",
    "NotReplicated",
    "Notice",
    "Pause",
    "PayloadTooLarge",
    "PickupP99",
    "Queue",
    "QuotaUsed",
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
    "Secret",
    "Snooze",
    "Stats",
    "Status",
    "SyncActor",
    "Unique",
    "Webhook",
    "WorkerInfo",
]
