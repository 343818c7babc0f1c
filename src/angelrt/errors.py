"""Every error that angelrt raises, in one tree.

    AngelError
    ├── ConfigError            a setting is missing or contradicts another; names the setting
    ├── RuntimeNotOpen         the runtime is not open here (never opened, closed, or forked)
    ├── InvalidArguments       arguments or a result that would not come back as they were sent
    ├── InvalidOptions         an option of an actor or of one send is out of range
    ├── PayloadTooLarge        arguments or a result over the limit in bytes
    ├── RedisUnavailable       Redis did not answer in time; nothing is known to be lost
    ├── RedisRefused           Redis answered, and will not do it (permission, wrong version, read-only)
    ├── RedisFull              Redis is at maxmemory: new work is refused, running work goes on
    ├── NotReplicated          the job is stored on the primary, and no replica has confirmed it in time
    ├── Draining               the queue, the actor or a key of the job is drained: it takes no new jobs
    ├── DuplicateJob           a job of the same unique key is there, and the actor says to refuse another
    ├── JobNotFound            no job of this id, or its retention has passed
    ├── JobFailed              the job ended as failed; carries the remote error
    ├── JobCancelled           the job ended as cancelled
    └── ResultDecodeError      the stored result is not of the declared type

What an actor raises on purpose (`Retry`, `Snooze`, `Fail`) lives in `retry.py`: those are verdicts, not errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class AngelError(Exception):
    """The root of every error raised by angelrt."""


class ConfigError(AngelError):
    """A setting is missing, wrong, or contradicts another one; the message names the setting and the remedy."""


class RuntimeNotOpen(AngelError):
    """The runtime is not open in this process: use `async with rt:` (or `with rt:` in synchronous code)."""


class InvalidArguments(AngelError):
    """Arguments or a result do not fit the annotations, or would not come back as they were sent."""


class InvalidOptions(AngelError):
    """An option of an actor or of one send is out of range."""


class PayloadTooLarge(AngelError):
    """Arguments or a result are larger than the limit in bytes: store the data elsewhere and pass its key."""


class RedisUnavailable(AngelError):
    """Redis did not answer in time. A send that raised this may have been applied; sending it again with its id is safe."""


class RedisRefused(AngelError):
    """Redis answered that it will not do this: missing permission, wrong version, or a read-only replica."""


class RedisFull(AngelError):
    """Redis is at its memory limit and refuses new work; running work goes on and frees memory as it ends."""


class NotReplicated(AngelError):
    """With `durability="replicated"`: the job IS stored on the primary and will run, but no replica has confirmed it in time.

    Sending it again with the same id is safe: it asks the replicas again, and stores nothing twice.
    """


class Draining(AngelError):
    """The queue, the actor or a key of the job is drained: it takes no new jobs until somebody resumes it."""

    @classmethod
    def of(cls, what: str) -> Self:
        """Return the error that names what is drained."""
        return cls(f"{what} is drained and takes no new jobs; `python -m angelrt limits` tells since when, and by whom")


class DuplicateJob(AngelError):
    """A job with the same unique key is there, and `Unique(on_conflict="reject")` refuses another. `job_id` is the one that is there."""

    def __init__(self, message: str, job_id: str) -> None:
        """Keep the id of the job that is there."""
        super().__init__(message, job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


class JobNotFound(AngelError):
    """There is no job of this id: never sent, or its retention has passed."""


class JobFailed(AngelError):
    """The job ended as failed.

    Attributes: `job_id`; `actor`, its name; `error_type`, the qualified name of the remote exception; `error_message`;
    `remote_traceback`, the traceback of the worker as text; `attempts`, how many runs were charged.
    """

    def __init__(self, *, job_id: str, actor: str, error_type: str, error_message: str, remote_traceback: str, attempts: int) -> None:
        """Keep each part of the remote error as an attribute."""
        self.job_id = job_id
        self.actor = actor
        self.error_type = error_type
        self.error_message = error_message
        self.remote_traceback = remote_traceback
        self.attempts = attempts
        super().__init__(job_id, actor, error_type, error_message)

    def __reduce__(self) -> tuple[Callable[..., JobFailed], tuple[dict[str, Any]]]:
        """Let the error be copied and pickled, as process pools do."""
        return _failed_again, (vars(self).copy(),)

    def __str__(self) -> str:
        """Tell which job failed, how, and where; the remote traceback follows as text."""
        runs = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        head = f"job {self.job_id} of actor {self.actor} failed after {runs}: {self.error_type}: {self.error_message}"
        return f"{head}\n\nremote traceback:\n{self.remote_traceback}" if self.remote_traceback else head


def _failed_again(parts: dict[str, Any]) -> JobFailed:
    return JobFailed(**parts)


class JobCancelled(AngelError):
    """The job ended as cancelled, before or while it ran."""


class ResultDecodeError(AngelError):
    """The stored result does not fit the actor's return annotation: the annotation changed after the job ran."""
