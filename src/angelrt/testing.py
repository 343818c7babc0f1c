"""For the tests of applications: a real server, isolated for each test in milliseconds, and a worker that is driven by hand.

async with sandbox(rt) as box:
await thumbnail.options(delay=60).send("a.jpg")
box.advance(60)
await box.drain()
await box.assert_sent(thumbnail, path="a.jpg")
"""

from __future__ import annotations

import atexit
import secrets
import tempfile
import time
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from . import embedded
from .keys import Keys
from .retry import seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

    from .actor import Actor
    from .job import JobInfo
    from .runtime import Runtime
    from .store import Store

DRAIN_MAX: Final = 10_000
"""So many runs without an end mean actors that send each other jobs for ever."""


class Sandbox:
    """One test's own namespace; made by `sandbox`."""

    def __init__(self, runtime: Runtime[Any], state: Any) -> None:
        """Take over an open runtime."""
        self.runtime = runtime
        self._state = state
        self._ahead_ms = 0.0
        self._store.clock = self._now_ms

    def advance(self, by: float | timedelta) -> None:
        """Move the server's time ahead by seconds or a timedelta, as the scripts see it: delays come due, leases end."""
        self._ahead_ms += seconds(by, "advance(by)") * 1000

    async def run_one(self) -> JobInfo | None:
        """Claim the next ready job, run it to its end, and return how it stands then; None when no job is ready."""
        ran = await self._run(1)
        return ran[0] if ran else None

    async def drain(self) -> list[JobInfo]:
        """Run what is ready, and what that sends, until nothing is ready; delayed jobs stay. Raises RuntimeError after 10,000 runs."""
        ran: list[JobInfo] = []
        while some := await self._run(100):
            ran += some
            if len(ran) >= DRAIN_MAX:
                message = f"{DRAIN_MAX:,} runs and still not empty: do these actors send each other jobs for ever?"
                raise RuntimeError(message)
        return ran

    async def sent(self, actor: Actor[..., Any] | str) -> list[JobInfo]:
        """Return all jobs of an actor, the oldest first, whatever became of them."""
        name = actor if isinstance(actor, str) else actor.name
        ids = [job_id.decode() for job_id in await self._store.command("HKEYS", self._store.keys.key("jobs"))]
        infos = await self.runtime.client().infos(ids)
        return sorted((info for info in infos if info.type == name), key=lambda info: (info.created_at, info.id))

    async def assert_sent(self, actor: Actor[..., Any] | str, *, times: int | None = None, **arguments: Any) -> list[JobInfo]:
        """Return the jobs of an actor whose payload holds these arguments. Raises AssertionError when there is none, or not `times`."""
        sent = await self.sent(actor)
        matching = [info for info in sent if arguments.items() <= info.payload.items()]
        if not matching if times is None else len(matching) != times:
            wanted = "at least once" if times is None else f"{times} times"
            payloads = "\n".join(f"  {info.payload}" for info in sent) or "  nothing"
            name = actor if isinstance(actor, str) else actor.name
            message = f"{name} was to be sent {wanted} with {arguments}; it was sent with:\n{payloads}"
            raise AssertionError(message)
        return matching

    async def _run(self, most: int) -> list[JobInfo]:
        worker = self.runtime.new_worker(concurrency=most, state=self._state, kind="test")
        ids = await worker.run_ready(most)
        return await self.runtime.client().infos(ids)

    @property
    def _store(self) -> Store:
        return self.runtime.client().store

    def _now_ms(self) -> float:
        return time.time() * 1000 + self._ahead_ms


@asynccontextmanager
async def sandbox(runtime: Runtime[Any], url: str | None = None) -> AsyncGenerator[Sandbox]:
    """Open a runtime on a namespace of its own, and remove every key of it at the end.

    The server is an embedded one, shared by all tests of the process, unless `url` names another. The lifespan of the runtime is entered.
    """
    before = runtime.url, runtime.keys
    runtime.url = url or _shared_server()
    runtime.keys = Keys(f"test-{secrets.token_hex(6)}")
    try:
        async with runtime:
            lifespan = runtime.lifespan
            async with lifespan() if lifespan else nullcontext() as state:
                try:
                    yield Sandbox(runtime, state)
                finally:
                    store = runtime.client().store
                    await store.command("UNLINK", *store.keys.every(await store.queues()))
    finally:
        runtime.url, runtime.keys = before


_servers: dict[str, embedded.EmbeddedServer] = {}


def _shared_server() -> str:
    if not _servers:
        directory = tempfile.TemporaryDirectory(prefix="angelrt-test-", ignore_cleanup_errors=True)
        server = _servers["shared"] = embedded.EmbeddedServer.join(directory.name)
        atexit.register(directory.cleanup)
        atexit.register(server.leave)
    return _servers["shared"].url
