"""What goes wrong, and when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.simulation.plans import Trouble
    from tests.simulation.services import Service
    from tests.simulation.world import World

RESTART_S: Final = 0.5


class Troubles:
    """Lets the faults of a plan happen at their time."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def happen(self, troubles: list[Trouble]) -> None:
        """Return when the last one is over."""
        async with asyncio.TaskGroup() as happening:
            for trouble in troubles:
                happening.create_task(self._happen(trouble))
            happening.create_task(asyncio.sleep(2))

    async def _happen(self, trouble: Trouble) -> None:
        await asyncio.sleep(trouble.at_s)
        await self._world.examine()
        worker = self._world.workers[trouble.whom % len(self._world.workers)]
        match trouble.what:
            case "kill client":
                await self.kill(self._world.clients[trouble.whom % len(self._world.clients)])
            case "kill worker":
                await self.kill(worker, trouble.for_s)
            case "kill all workers":
                for one in self._world.workers:
                    asyncio.get_running_loop().create_task(self.kill(one, trouble.for_s))
                await asyncio.sleep(trouble.for_s + 2 * RESTART_S)
            case "lose host":
                self._world.net.cut_off[worker.process] = float("inf")
                await self.kill(worker, trouble.for_s)
            case "stall worker":
                worker.process.stalled_until_s = self._world.loop.now_s + trouble.for_s
                self._world.fault("stalled", worker.process, trouble.for_s)
                await asyncio.sleep(trouble.for_s)
            case "stop worker":
                await self._stop(worker)
            case _:
                await self._around(trouble, worker)

    async def _around(self, trouble: Trouble, worker: Service) -> None:
        """What happens to the server and to what lies between."""
        world = self._world
        match trouble.what:
            case "cut off worker":
                world.fault("cut off", worker.process, trouble.for_s)
                world.net.cut_off[worker.process] = world.loop.now_s + trouble.for_s
                await asyncio.sleep(trouble.for_s)
            case "restart server":
                if world.server.is_down:
                    return
                world.fault("server down", None, trouble.for_s)
                world.server.stop()
                world.net.reset(list(world.net.wires))
                await asyncio.sleep(trouble.for_s)
                world.server.start()
            case "reset connections":
                world.fault("connections reset", None, 0)
                world.net.reset(list(world.net.wires))
            case "storm":
                world.fault("storm", None, trouble.for_s)
                world.net.storm_until_s = world.loop.now_s + trouble.for_s
                world.net.storm_chance = trouble.strength
                await asyncio.sleep(trouble.for_s)
            case _:
                jump_s = trouble.for_s if trouble.whom % 2 else -trouble.for_s
                world.fault(f"clock jump {jump_s:+g} s", None, 60)
                world.ledger.clock_jumps()
                world.server.jump_ms += jump_s * 1000

    async def kill(self, service: Service, for_s: float = 0, killer: str = "") -> None:
        """Kill a process as kill -9 does, or as a job of its own does; another one is started after a while."""
        if service.process.is_dead or service.is_done:
            return
        process = service.process
        self._world.fault(f"killed {killer and 'by a job'}".rstrip(), process, 0)
        if killer:
            self._world.ledger.deaths.killers[process] = killer
        self._world.loop.kill(process)
        for wire in [wire for wire in self._world.net.wires if wire.process is process]:
            if not self._world.net.is_cut_off(process):
                wire.close()
        await asyncio.sleep(for_s + RESTART_S)
        service.start()

    async def _stop(self, service: Service) -> None:
        """A deploy: the worker leaves in an orderly way, and comes again."""
        process, stop = service.process, service.stop
        if process.is_dead or stop.is_set():
            return
        self._world.history.note(f"stops {process.name}")
        stop.set()
        while not service.is_done and not process.is_dead:  # noqa: ASYNC110 - either may come first
            await asyncio.sleep(0.1)
        if not process.is_dead:
            await asyncio.sleep(RESTART_S)
            service.is_done = False
            service.start()
