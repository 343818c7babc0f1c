"""Processes of the simulated world and who starts them again: workers that serve, clients that send, cancel and wait."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from angelrt import JobCancelled, JobFailed, JobNotFound, RedisUnavailable, Runtime
from angelrt.errors import RedisRefused
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from angelrt import Job
    from angelrt.actor import Message
    from angelrt.client import Client
    from tests.simulation.world import World

URL: Final = "unix:///simulated.sock"
NAMESPACE: Final = "sim"
OPEN_AGAIN_S: Final = 1.0


async def send(client: Client, message: Message[Any]) -> Job[Any]:
    """Send as an actor of this process would: the actors of the simulation belong to all of its processes."""
    return await client.send(message.actor, message.arguments, message.options)


class WorkerPlan(NamedTuple):
    """How one worker is started."""

    queues: tuple[str, ...]
    concurrency: int
    lease_s: float
    grace_s: float


class Action(NamedTuple):
    """One thing that a client does, after a pause. `what` is send, many or cancel; a cancel names an earlier action by its number."""

    pause_s: float
    what: str
    actor: str = ""
    arguments: tuple[dict[str, Any], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    target: int = 0


class Service:
    """A process that is started again after it died, until it is told to stop."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.generation = 0
        self.process = Process(name)
        self.is_done = False
        self.stop = asyncio.Event()

    def start(self) -> None:
        self.generation += 1
        self.stop = asyncio.Event()
        self.process = Process(f"{self.name}.{self.generation}", skew_s=self.world.draw.uniform(-2, 2))
        self.world.started(self.process, self.world.loop.spawn(self.process, self._run(self.process, self.stop)))

    async def _run(self, process: Process, stop: asyncio.Event) -> None:
        while True:
            try:
                await self.main(process, stop)
            except RedisUnavailable as error:
                self.world.history.note(f"cannot start: {error}")
                await asyncio.sleep(OPEN_AGAIN_S)
            else:
                self.is_done = True
                return

    def main(self, process: Process, stop: asyncio.Event) -> Coroutine[Any, Any, None]:
        raise NotImplementedError


class WorkerService(Service):
    """A worker process."""

    def __init__(self, world: World, name: str, plan: WorkerPlan) -> None:
        super().__init__(world, name)
        self.plan = plan

    async def main(self, process: Process, stop: asyncio.Event) -> None:
        plan = self.plan
        runtime = self.world.runtime(lease=plan.lease_s)
        async with runtime:
            worker = runtime.new_worker(concurrency=plan.concurrency, queues=plan.queues, grace=plan.grace_s)
            self.world.ledger.processes[worker.id] = process
            self.world.history.note(f"is worker {worker.id}: {plan}")
            async with worker:
                stopping = asyncio.create_task(stop.wait())
                broken = asyncio.create_task(worker.wait_stopped())
                await asyncio.wait([stopping, broken], return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    self.world.history.problem(f"a loop of the worker broke: {worker.failure!r}")
                broken.cancel()
        process.has_left = True
        self.world.history.note("has stopped")


class ClientService(Service):
    """A process that sends, cancels and waits for results. A new one goes on where the old one was killed."""

    def __init__(self, world: World, name: str, actions: list[Action]) -> None:
        super().__init__(world, name)
        self.actions = actions
        self.done = 0
        self.sent: dict[int, list[str]] = {}
        self.results: dict[str, str] = {}

    async def main(self, process: Process, stop: asyncio.Event) -> None:  # noqa: ARG002 - a client ends by itself
        runtime = self.world.runtime()
        async with runtime, asyncio.TaskGroup() as waiting:
            for ids in self.sent.values():
                for job_id in ids:
                    waiting.create_task(self._wait(runtime, job_id))
            while self.done < len(self.actions):
                number, action = self.done, self.actions[self.done]
                await asyncio.sleep(action.pause_s)
                self.done += 1
                with suppress(RedisUnavailable):
                    await self._act(runtime, number, action)
                for job_id in self.sent.get(number, ()):
                    waiting.create_task(self._wait(runtime, job_id))

    async def _act(self, runtime: Runtime[Any], number: int, action: Action) -> None:
        if action.what == "cancel":
            for job_id in self.sent.get(action.target, ())[:1]:
                asked = await runtime.job(job_id).cancel(by="client")
                self.world.history.note(f"cancels {job_id}: {asked}")
            return
        actor = self.world.application.group.registered[action.actor]
        messages = [actor.options(**dict(action.options)).message(**arguments) for arguments in action.arguments]
        client = runtime.client()
        jobs = await client.send_many(messages) if action.what == "many" else [await send(client, messages[0])]
        self.sent[number] = [job.id for job in jobs]
        self.world.accepted(self.sent[number])

    async def _wait(self, runtime: Runtime[Any], job_id: str) -> None:
        while job_id not in self.results:
            try:
                await runtime.job(job_id).result()
                self.results[job_id] = "completed"
            except JobFailed:
                self.results[job_id] = "failed"
            except JobCancelled:
                self.results[job_id] = "cancelled"
            except (JobNotFound, RedisRefused) as error:
                self.world.history.problem(f"the result of {job_id} cannot be had: {error}")
                return
            except RedisUnavailable:
                continue
        self.world.history.note(f"hears of {job_id}: {self.results[job_id]}")
