"""A worker: the loops that claim, run and settle, and the order in which they start and stop.

`run` touches no Redis; the other loops never call each other: they meet in the register of runs and in bounded batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from ..actor import SendOptions
from ..errors import ConfigError, InvalidArguments, RedisRefused, RedisUnavailable
from ..inbox import Inbox
from ..job import shown_record, write_number
from ..keys import QUEUE_KEYS
from ..limits import rule_of
from ..schedules import OCCURRENCE
from ..scripts import CLAIM, CLAIM_PLAIN, RENEW, SETTLE, SETTLE_PLAIN, TICK
from ..store import Verdict
from .claim import ClaimLoop
from .clock import ASK_AGAIN_S, DeadlineLoop, DueLoop
from .deaths import DeathsLoop
from .failure import describe, failure_json
from .housekeeping import HousekeepingLoop
from .lease import LeaseThread
from .run import Runner
from .running import Running
from .schedule import ScheduleLoop
from .settle import SettleLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from ..actor import Actor, Message
    from ..client import Client
    from ..schedules import Schedule
    from ..store import Delivery
    from .lease import Block
    from .running import Run

log = logging.getLogger("angelrt.worker")

CANCELLED_WAIT_S: Final = 3.0
FLUSH_WAIT_S: Final = 10.0
SCRIPTS_OF_A_RUN: Final = (CLAIM, CLAIM_PLAIN, SETTLE, SETTLE_PLAIN, RENEW, TICK)
THREADS: Final = min(32, (os.cpu_count() or 1) + 4)


class Worker:
    """Runs the jobs of some queues until it is stopped. Use it as `async with`; it touches no signal handler and no logging setup.

    `grace_s` is how long running jobs may go on after a stop was asked for; what is left then is cancelled and handed back.
    """

    def __init__(
        self,
        client: Client,
        actors: Mapping[str, Actor[..., Any]],
        *,
        queues: Sequence[str],
        concurrency: int,
        lease_ms: int,
        grace_s: float,
        middleware: Sequence[Any] = (),
        state: Any = None,
        kind: str = "worker",
        rebuild: Callable[[tuple[str, bytes, Any]], Message[Any]],
        schedules: Sequence[Schedule] = (),
    ) -> None:
        """Prepare; starts nothing."""
        self.id = write_number(secrets.randbits(36), 6)
        self.queues = tuple(queues)
        self.actors = actors
        self.concurrency = concurrency
        self.running = Running(concurrency)
        self.failure: BaseException | None = None
        self._client = client
        self._kind, self._grace_s = kind, grace_s
        self._lease_ms = lease_ms
        self._started_s = time.time()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped, self._hurry = asyncio.Event(), asyncio.Event()
        self._settle = SettleLoop(client.store, self.id, self.running)
        self._due = DueLoop(client.store, self.queues)
        self._deadlines = DeadlineLoop(self.running)
        self._runner = Runner(
            self.running,
            self._settle.put,
            begun=self._deadlines.started,
            new_job=client.new_job,
            middleware=middleware,
            threads=THREADS,
            state=state,
            base=contextvars.copy_context(),
            rebuild=rebuild,
            gates_of=self._gates_of if self._has_limits() else None,
            tracing=client.tracing,
        )
        self._schedules = ScheduleLoop(client, actors, self.queues, schedules)
        self._claim = ClaimLoop(
            client.store,
            self.id,
            self.running,
            queues=self.queues,
            actors=actors,
            lease_ms=lease_ms,
            start=self._start,
            begin=self._runner.start_queued,
            refuse=self._refuse,
            on_due=self._due.due,
        )
        self._lease: LeaseThread | None = None
        self._rules_of: dict[tuple[str, str], tuple[str, ...]] = {}
        self._inbox = Inbox(client.store.url, client.store.keys.asked(self.id), self._on_asked)

    async def __aenter__(self) -> Self:
        """Register and start the loops. Raises ConfigError for an actor whose annotations cannot be compiled."""
        for actor in self.actors.values():
            actor.signature.compile()
        await self.declare()
        await self._inbox.open()
        await self._client.store.load(SCRIPTS_OF_A_RUN)
        await self._client.store.beat(self.id, self.info(), self.queues, list(self.actors))
        self._lease = LeaseThread(self._client.store, self.id, self.running, lease_ms=self._lease_ms, info=self.info, asked=self._on_asked)
        self._lease.start()
        housekeeping = HousekeepingLoop(self._client.store, self.id)
        deaths = DeathsLoop(self._client.store, self.id, self._lease_ms)
        for loop in (self._settle, self._claim, self._due, self._deadlines, self._schedules, housekeeping, deaths):
            task = asyncio.create_task(loop.run(), name=f"angelrt {type(loop).__name__}")
            task.add_done_callback(self._on_loop_end)
            self._tasks.append(task)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop in order: claim no more, let runs finish, cancel what is left, write every verdict, hand back, leave the register."""
        settle, claim, *others = self._tasks
        for task in (claim, *others):
            task.cancel()
        await self._claim.close()
        await asyncio.wait([claim, *others])
        await self._wait_for_runs()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_WAIT_S):
                await self.running.idle()
        settle.cancel()
        await asyncio.wait([settle])
        if self._lease is not None:
            await self._lease.stop()
        await self._inbox.close()
        try:
            await self._client.store.expire_worker(self.id, self.queues, died=False, deadline_s=FLUSH_WAIT_S)
        except (RedisUnavailable, RedisRefused) as reason:
            log.warning("what this worker still holds could not be handed back and runs out with its lease: %s", reason)
        self._runner.close()

    async def run_ready(self, most: int) -> list[str]:
        """Claim up to `most` ready jobs without waiting, run them to their end and return their ids: a worker driven by hand, for tests."""
        await self.declare()
        await self._schedules.advance()
        loops = [asyncio.create_task(loop.run()) for loop in (self._settle, self._deadlines)]
        try:
            await self._claim.claim_once(most, block=False)
            ids = list(self.running.leases)
            await self.running.idle()
        finally:
            for task in loops:
                task.cancel()
            await asyncio.wait(loops)
            await self._claim.close()
            self._runner.close()
        return ids

    async def declare(self) -> None:
        """Write limits and schedules of the code to the server. Raises ConfigError for two limits that contradict each other."""
        for rule, spec in self._rules().items():
            await self._client.store.control("declare", rule, spec, self.queues)
        await self._schedules.register()

    def stop(self) -> None:
        """Ask the worker to stop; a second call cuts the grace short."""
        if self._stopped.is_set():
            self._hurry.set()
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Return when a stop was asked for, or raise what broke a loop."""
        await self._stopped.wait()
        if self.failure is not None:
            raise self.failure

    async def wait_empty(self) -> None:
        """Return when no job is ready in the worker's queues and none runs."""
        while True:
            await self.running.idle()
            keys = self._client.store.keys
            named = [dict(zip(QUEUE_KEYS, keys.queue(queue), strict=True)) for queue in self.queues]
            commands = [["ZCARD", of[place]] for of in named for place in ("ready", "leased")]
            commands += [["ZLEXCOUNT", of["lanes"], "[s", "(u"] for of in named]  # the lanes of suspects and of tenants
            counts = await self._client.store.commands(*commands)
            if not any(counts) and not self.running.leases:
                return
            await asyncio.sleep(0.02)

    def info(self, *, block: Block | None = None, longest: Block | None = None, server: str = "", client: int | None = None) -> bytes:
        """Return what the register shows of this worker; its lease thread knows what blocks the loop, and its own connection."""
        return orjson.dumps(
            {
                "type": self._kind,
                "queues": self.queues,
                "actors": list(self.actors),
                "concurrency": self.concurrency,
                "running": len(self.running.slots),
                "processed": self.running.processed,
                "busy_ms": self.running.busy_ms,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "blocked_by": block and block.by,
                "blocked_s": block and block.seconds,
                "longest_block_by": longest and longest.by,
                "longest_block_s": longest and longest.seconds,
                "server": server,
                "client": client,
            }
        )

    async def _wait_for_runs(self) -> None:
        """Hand back what has not begun; wait for the rest within the grace, or until hurried; then cancel what is left."""
        self._runner.hand_back_queued()
        for run in [run for run in self.running.slots if not run.begun and run.task is not None]:
            run.cancel("shutdown")
        idle = asyncio.create_task(self.running.idle())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([idle, hurry], timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        left = [run for run in self.running.slots if run.task is not None]
        if left:
            log.warning("%d runs did not end within the grace and are cancelled; their jobs are handed back", len(left))
        for run in left:
            run.cancel("shutdown")
        await asyncio.wait([idle], timeout=CANCELLED_WAIT_S)
        idle.cancel()

    def _has_limits(self) -> bool:
        queues, actors = self._client.queues.values(), self.actors.values()
        return any(queue.limits for queue in queues) or any(actor.definition.limits for actor in actors)

    def _rules(self) -> dict[str, str]:
        """Return the specs of all limits of this worker's queues and actors, by rule. Raises ConfigError for two specs of one rule."""
        declared = [("", queue, limit) for queue, policy in self._client.queues.items() if queue in self.queues for limit in policy.limits]
        served = [actor for actor in self.actors.values() if actor.definition.queue in self.queues]
        declared += [(actor.name, actor.definition.queue, limit) for actor in served for limit in actor.definition.limits]
        rules: dict[str, str] = {}
        for actor_name, queue, limit in declared:
            rule = rule_of(limit, actor_name, queue)
            if rules.setdefault(rule, limit.spec) != limit.spec:
                message = f"two limits are named {rule} and differ ({rules[rule]!r} and {limit.spec!r}): give one of them another name="
                raise ConfigError(message)
        return rules

    def _start(self, run: Run) -> None:
        if run.id.startswith(OCCURRENCE):
            self._schedules.hurry()
        self._runner.start(run)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        """Fail a job whose record cannot be read, so that no worker meets it again; a person may look at it among the dead letters."""
        job_id, queue, token = delivery.id.decode(), delivery.queue, delivery.lease.partition(b" ")[0].decode()
        actor = shown_record(delivery.record).actor
        log.error("%s: the record of job %s cannot be read, so it fails", actor, job_id, exc_info=error)
        reason = InvalidArguments(f"the stored record of the job cannot be read: {describe(error)}")
        payload = failure_json(actor, reason)
        self._settle.put(Verdict(queue, job_id, token, "g", 0, payload, f"{queue}|{actor}"))

    def _gates_of(self, run: Run) -> list[str]:
        """Return the gates of a run; none without a further look where its flow names every rule. Raises what a send would raise."""
        rules = self._rules_of.get((run.actor.name, run.queue))
        if rules is None:
            named = [("", limit) for limit in self._client.limits_of(run.queue)]
            named += [(run.actor.name, limit) for limit in run.actor.definition.limits]
            rules = tuple(f",{limit.letter}{rule_of(limit, name, run.queue)}=" for name, limit in named)
            self._rules_of[run.actor.name, run.queue] = rules
        flow = f",{run.flow}"
        if all(rule in flow for rule in rules) and run.queue == run.actor.definition.queue:
            return []
        run.actor.definition.check_send(SendOptions(queue=run.queue))
        return self._client.gates(run.actor.name, run.queue, run.arguments, run.actor)

    def _on_asked(self, job_id: str | None) -> None:
        """Stop a job that somebody cancelled; what was missed while the subscription was down comes with the next renewal."""
        run = self.running.leases.get(job_id or "")
        if run is not None:
            run.cancel("cancelled")
            run.deadline_s = time.monotonic() + ASK_AGAIN_S
            self._deadlines.started(run)

    def _on_loop_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s broke: the worker stops", task.get_name(), exc_info=error)
            self.failure = error
            self._stopped.set()
