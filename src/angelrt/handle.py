"""The handle of one job: how it stands, and what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import views
from .codec import decode_any
from .config import whoami
from .retry import seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from .actor import Actor
    from .client import Client
    from .job import JobInfo, Status

R_co = TypeVar("R_co", covariant=True)


@dataclass(eq=False)  # without slots, which take longer to fill and to free
class Job(Generic[R_co]):
    """The handle of one job. `created` tells whether this send made it, or whether the id belonged to an earlier one."""

    id: str
    created: bool
    _client: Client
    _actor: Actor[Any, R_co] | None

    async def result(self, timeout: float | timedelta | None = None) -> R_co:  # noqa: ASYNC109 - as users expect it
        """Wait for the job to end and return its result; woken by the server, without polling.

        Raises JobFailed with the remote traceback, JobCancelled, JobNotFound, ResultDecodeError, and the built-in TimeoutError after
        `timeout` (seconds or a timedelta).
        """
        limit_s = None if timeout is None else seconds(timeout, "result(timeout=)")
        try:
            async with asyncio.timeout(limit_s):
                code, stored = await self._client.outcome(self.id)
        except TimeoutError as error:
            message = f"{self!r} has not ended within {limit_s:g} s and goes on; `python -m angelrt job {self.id}` tells where it stands"
            raise TimeoutError(message) from error
        return views.result_of(self.id, code, stored, self._actor.signature.decode_result if self._actor else decode_any)  # type: ignore[no-any-return]

    async def info(self) -> JobInfo:
        """Return all that is known of the job. Raises JobNotFound."""
        return (await self._client.infos([self.id]))[0]

    async def status(self) -> Status:
        """Return pending, processing, completed, failed or cancelled. Raises JobNotFound."""
        return (await self.info()).status

    async def cancel(self, by: str = "") -> bool:
        """Cancel the job: one that waits ends now, one that runs is asked to stop, within about a tenth of a second.

        An asynchronous actor is cancelled, a process is killed; a thread cannot be: look at `context.cancelled` there. `by` says who.
        Returns False for a job that had ended before. Raises JobNotFound.
        """
        return await self._client.cancel(self.id, by or whoami())

    def result_sync(self, timeout: float | timedelta | None = None) -> R_co:
        """Do what `result` does, from code that is not asynchronous."""
        return self._client.run_sync(lambda: self.result(timeout))

    def cancel_sync(self, by: str = "") -> bool:
        """Do what `cancel` does, from code that is not asynchronous."""
        return self._client.run_sync(lambda: self.cancel(by))

    def info_sync(self) -> JobInfo:
        """Do what `info` does, from code that is not asynchronous."""
        return self._client.run_sync(self.info)

    def status_sync(self) -> Status:
        """Do what `status` does, from code that is not asynchronous."""
        return self._client.run_sync(self.status)

    def __repr__(self) -> str:
        """Name the job and its actor."""
        return f"<Job {self.id} of {self._actor.name if self._actor else 'an actor that is not here'}>"
