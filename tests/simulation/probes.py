"""When all is quiet, whatever becomes runnable is picked up at once: no wake-up may be left to a timer of another purpose."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.loop import Process
from tests.simulation.services import send

if TYPE_CHECKING:
    from angelrt import Runtime
    from tests.simulation.world import World

AT_ONCE_S: Final = 0.2
"""Some round trips of the simulated network at its slowest in quiet times; a block lasts a whole second."""
ARRIVED_S: Final = 2.0
"""After this, what was sent in restless times has arrived, and whoever lost a connection has a new one."""
AGAIN_S: Final = 2.0
"""So soon a job of a killed worker runs again: a silence of a second, and a look each quarter of one."""
PROBES_S: Final = 60.0
QUIET_S: Final = 20.0
"""After this, whoever has a connection that died in silence has noticed: a reply is waited for 6 s, a subscription for 10 s."""


class Probes:
    """Sends some jobs to the idle fleet, and measures."""

    def __init__(self, world: World, kinds: list[str]) -> None:
        self._world = world
        self._kinds = kinds

    async def take(self) -> None:
        self._world.net.is_quiet = True
        silent_s = [fault.until_s for fault in self._world.ledger.faults if fault.may_be_silent]
        await asyncio.sleep(max([ARRIVED_S, *(until_s + QUIET_S - self._world.loop.now_s for until_s in silent_s)]))
        process = Process("probe")
        task = self._world.loop.spawn(process, self._take())
        self._world.started(process, task)
        done, _ = await asyncio.wait([task], timeout=PROBES_S)
        if not done:
            self._world.history.problem(f"not within {PROBES_S:g} s: an idle fleet has done {self._kinds}")
        elif (error := task.exception()) is not None:
            self._world.history.problem(f"a probe broke: {error!r}")

    async def _take(self) -> None:
        async with self._world.runtime() as runtime:
            for kind in self._kinds:
                await getattr(self, f"_{kind}")(runtime)
                await asyncio.sleep(self._world.draw.uniform(0.2, 1.5))

    async def _send(self, runtime: Runtime[Any]) -> None:
        await self._run(runtime, "work", ["ok"], [0])

    async def _delay(self, runtime: Runtime[Any]) -> None:
        await self._run(runtime, "batch", ["ok"], [1.3], delay=1.3)

    async def _retry(self, runtime: Runtime[Any]) -> None:
        await self._run(runtime, "work", ["retry 0.5", "ok"], [0, 0.5])

    async def _snooze(self, runtime: Runtime[Any]) -> None:
        await self._run(runtime, "batch", ["snooze 0.4", "ok"], [0, 0.4])

    async def _children(self, runtime: Runtime[Any]) -> None:
        before = set(self._world.application.started)
        await self._run(runtime, "work", ["children 1"], [0])
        sent_s = self._world.loop.now_s
        await asyncio.sleep(2 * AT_ONCE_S)
        new = self._world.application.started.keys() - before
        children = [job_id for job_id in new if job_id in self._world.ledger.children]
        late_s = [self._world.application.started[job_id][0] - sent_s for job_id in children]
        if len(children) != 1 or late_s[0] > AT_ONCE_S:
            self._world.history.problem(f"a child was not picked up at once: {late_s}")

    async def _limited(self, runtime: Runtime[Any]) -> None:
        actor = self._world.application.group.registered["limited"]
        jobs = await runtime.send_many(actor.message(plan=["slow 1"], key="probe") for _ in range(3))
        for job in jobs:
            await job.result()
        starts = sorted(self._world.application.started[job.id][0] for job in jobs)
        ends = sorted(self._world.application.ended[job.id] for job in jobs)
        freed_s = ends[0] if starts[1] < ends[0] else ends[1]  # a fleet of one slot runs one after another
        self._check("the one behind a limit", starts[2] - freed_s, 0)

    async def _cancel(self, runtime: Runtime[Any]) -> None:
        actor = self._world.application.group.registered["work"]
        job = await send(runtime.client(), actor.message(plan=["slow 30"], key=""))
        await asyncio.sleep(0.5)
        await job.cancel()
        asked_s = self._world.loop.now_s
        outcome = await runtime.client().outcome(job.id)
        self._check(f"the cancellation of a run ({outcome[0]})", self._world.loop.now_s - asked_s, 0)

    async def _death(self, runtime: Runtime[Any]) -> None:
        world = self._world
        if sum("a" in worker.plan.queues for worker in world.workers) < 2:
            return
        job = await send(runtime.client(), world.application.group.registered["work"].message(plan=["slow 9", "ok"], key="probe"))
        await asyncio.sleep(0.5)
        process = world.ledger.processes[world.ledger.leases[job.id][-1].worker]
        service = next(worker for worker in world.workers if worker.process is process)
        killing = asyncio.create_task(world.troubles.kill(service, for_s=4))
        killed_s = world.loop.now_s
        await job.result()
        self._check("the job of a killed worker", world.application.started[job.id][1] - killed_s, AGAIN_S)
        await killing

    async def _run(self, runtime: Runtime[Any], actor: str, plan: list[str], due_s: list[float], **options: Any) -> None:
        declared = self._world.application.group.registered[actor]
        job = await send(runtime.client(), declared.options(**options).message(plan=plan, key="probe"))
        since_s = self._world.loop.now_s
        await job.result()
        heard_s = self._world.loop.now_s
        for number, (start_s, wait_s) in enumerate(zip(self._world.application.started[job.id], due_s, strict=True)):
            self._check(f"run {number + 1} of {actor} {plan}", start_s - since_s, wait_s)
            since_s = start_s
        self._check(f"the news of the result of {actor}", heard_s - self._world.application.ended[job.id], 0)

    def _check(self, what: str, took_s: float, due_s: float) -> None:
        if took_s > due_s + AT_ONCE_S:
            self._world.history.problem(f"{what} came after {took_s:.3f} s, and was due after {due_s:g} s")
