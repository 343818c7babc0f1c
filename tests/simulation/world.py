"""One simulated world: it is built from a seed, lives through its faults, comes to rest, and is judged."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
import zlib
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from angelrt import Runtime
from angelrt.keys import QUEUE_KEYS, Keys
from tests.simulation import seams
from tests.simulation.actors import AT_A_TIME, QUEUES, Application
from tests.simulation.history import History
from tests.simulation.ledger import Fault, Ledger
from tests.simulation.loop import PROCESS, Hang, Loop, Process
from tests.simulation.network import Network
from tests.simulation.plans import draw_plan
from tests.simulation.probes import Probes
from tests.simulation.server import Real, Server
from tests.simulation.services import NAMESPACE, URL, ClientService, WorkerService
from tests.simulation.threads import Baton
from tests.simulation.troubles import Troubles
from tests.state import problems, read_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.services import Service
    from tests.state import State

REST_S: Final = 300.0
"""Everything has ended so long after the last fault: attempts are bounded, and one slot may have some dozens of jobs of seconds left."""
LEAVE_S: Final = 60.0
IDLE_S: Final = 4.0
IDLE_COMMANDS_MAX: Final = 36
"""The most commands of an idle worker in a second: beats and claims, and six in each of up to five looks while another one is silent."""
CALLS_MAX: Final = 80
"""The most calls of scripts of a worker in a second, for SPIN_S in a row: what is more is a loop that spins."""
SPIN_S: Final = 5


@dataclass(frozen=True)
class Outcome:
    """What became of one seed."""

    seed: int
    digest: str
    problems: list[str]
    lines: list[str]
    counts: dict[str, int]
    faults: list[str]
    took_s: float
    steps: int


class Seen:
    """The state as the judge reads it: past the network, in no time."""

    def __init__(self, real: Real) -> None:
        self.keys = Keys(NAMESPACE)
        self._real = real

    async def queues(self) -> list[str]:
        return [name.decode() for name in self._real.call(["ZRANGE", self.keys.key("queues"), 0, -1])[0]]

    async def commands(self, *commands: Sequence[Any]) -> list[Any]:
        return self._real.call(*commands)


class World:
    """All that one history is made of."""

    def __init__(self, seed: int, real: Real) -> None:
        self.seed = seed
        self.draw = random.Random(seed)  # noqa: S311 - the point of a seed
        self.baton = Baton()
        self.loop = Loop(self.draw, lambda text: self.history.problem(f"nobody caught: {text}"), self.baton.call)
        self.baton.loop = self.loop
        self.history = History(self.loop.time)
        self.net = Network(self.loop, self.draw, self.baton)
        self.server = Server(real, self.loop, self.draw, self.net.later)
        self.net.server = self.server
        self.ledger = Ledger(self.loop.time, self.server.now_ms, self.history.problem, {"limited.key@a": AT_A_TIME})
        self.application = Application(self.loop.time, self.history.note, lambda pause_s: self.baton.current().park(pause_s), self._die)
        self.workers: list[WorkerService] = []
        self.clients: list[ClientService] = []
        self.troubles = Troubles(self)
        self._seen = Seen(real)
        self._tasks: list[asyncio.Task[Any]] = []
        self._processes: list[Process] = []
        self._sent: set[str] = set()
        self._calls: dict[int, int] = {}
        self.net.fault = self.fault
        self.server.executed = self._executed

    # -- what services and troubles use ------------------------------------------------------------------------------------------

    def runtime(self, **options: Any) -> Runtime[Any]:
        runtime: Runtime[Any] = Runtime(URL, namespace=NAMESPACE, **options)
        runtime.include(self.application.group)
        return runtime

    def started(self, process: Process, task: asyncio.Task[Any]) -> None:
        self.history.note(f"starts {process.name}")
        self._processes.append(process)
        self._tasks.append(task)

    def accepted(self, ids: list[str]) -> None:
        self.history.note(f"has sent {' '.join(ids)}")
        self._sent.update(ids)

    def fault(self, name: str, process: Process | None, for_s: float) -> None:
        """Note a fault, by which a lost lease may be explained."""
        self.history.note(f"FAULT {name}: {process.name if process else 'all'}, for {for_s:g} s")
        self.ledger.faults.append(Fault(name, process, self.loop.now_s, self.loop.now_s + for_s))

    def _die(self, job_id: str) -> None:
        """A job ends its process, in the next step of the loop."""
        process = PROCESS.get()
        service = next(worker for worker in self.workers if worker.process is process)
        self._tasks.append(self.loop.create_task(self.troubles.kill(service, killer=job_id), context=Context()))

    def _executed(self, script: str, named: dict[str, bytes], rest: list[bytes], reply: Any) -> None:
        self._count_call(int(self.loop.now_s))
        who = named.get("worker", named.get("client", b"")).decode()
        sums = zlib.crc32(b"\0".join([*named.values(), *rest])), zlib.crc32(repr(reply).encode())
        ids = " ".join(part.decode() for part in rest if len(part) in (10, 14) and part.isascii())
        self.history.note(f"runs {script} {who} {sums[0]:08x} {sums[1]:08x} {str(reply)[:100]} | {ids}")
        self.ledger.executed(script, named, rest, reply)

    def _count_call(self, second: int) -> None:
        if second not in self._calls:
            most = CALLS_MAX * len(self.workers)
            if all(self._calls.get(second - back, 0) > most for back in range(1, SPIN_S + 1)):
                self.history.problem(f"more than {most} calls of scripts in each of {SPIN_S} seconds: somebody spins")
        self._calls[second] = self._calls.get(second, 0) + 1

    # -- the history -----------------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Begin, suffer, come to rest, be judged."""
        plan = draw_plan(self.draw)
        self.workers = [WorkerService(self, f"worker{number}", worker) for number, worker in enumerate(plan.workers)]
        self.clients = [ClientService(self, f"client{number}", actions) for number, actions in enumerate(plan.clients)]
        for service in self._services():
            service.start()
        await self.troubles.happen(plan.troubles)
        self.history.note("faults are over")
        if not await self._until(REST_S, self._is_at_rest, "everything that was sent has ended and its senders have heard of it"):
            return
        await Probes(self, plan.probes).take()
        if self.history.problems:
            return
        await self._idle()
        for worker in self.workers:
            worker.stop.set()
        await self._until(LEAVE_S, lambda: all(worker.is_done for worker in self.workers), "all workers have left")
        await self._judge()

    def _services(self) -> list[Service]:
        return [*self.workers, *self.clients]

    def _is_at_rest(self) -> bool:
        waiting = [key for queue in QUEUES for key in self._seen.keys.queue(queue)[: QUEUE_KEYS.index("opens")]]
        counts = self.server.real.call(["HLEN", self._seen.keys.key("runs")], *(["ZCARD", key] for key in waiting))
        return not any(counts) and all(client.is_done for client in self.clients)

    async def _until(self, limit_s: float, is_true: Any, what: str) -> bool:
        until_s = self.loop.now_s + limit_s
        while not is_true():
            if self.history.problems:
                return False
            if self.loop.now_s > until_s:
                self.history.problem(f"not within {limit_s:g} s: {what}")
                return False
            await asyncio.sleep(0.5)
            if self.draw.random() < 0.2:
                await self.examine()
        return True

    async def examine(self) -> State:
        """Check the invariant of the whole state, between two steps."""
        state = await read_state(self._seen, *QUEUES)
        for found in problems(state):
            self.history.problem(found)
        return state

    async def _idle(self) -> None:
        """With nothing to do, the fleet does next to nothing."""
        before = self.server.commands
        await asyncio.sleep(IDLE_S)
        commands = self.server.commands - before
        most = IDLE_COMMANDS_MAX * IDLE_S * len(self.workers)
        if commands > most:
            self.history.problem(f"{commands} commands in {IDLE_S:g} idle seconds of {len(self.workers)} workers")

    async def _judge(self) -> None:
        state = await self.examine()
        for found in self.ledger.at_the_end(state.places(), state.stats):
            self.history.problem(found)
        for job_id in sorted(self._sent - state.jobs.keys()):
            self.history.problem(f"job {job_id} was sent, and is not there")
        last = [worker.process for worker in self.workers]
        for name in sorted(state.beats.keys() & {name for name, process in self.ledger.processes.items() if process in last}):
            self.history.problem(f"worker {name} has left, and the register still shows it")
        if state.held:
            self.history.problem(f"the workers have left, and {len(state.held)} jobs are leased")
        for client in self.clients:
            for job_id, heard in client.results.items():
                if job_id not in getattr(state, heard):
                    self.history.problem(f"job {job_id}: {client.name} heard that it is {heard}")

    # -- the frame -----------------------------------------------------------------------------------------------------------------

    def play(self) -> Outcome:
        """Live through the history, and clear it away."""
        begun_s = time.perf_counter()
        self.server.real.call(["FLUSHALL"], ["SCRIPT", "FLUSH"])
        log = logging.getLogger("angelrt")
        log.addHandler(self.history)
        log.propagate = False
        gc.disable()  # a finalizer would run when memory says, not when the seed says
        try:
            with seams.simulated(self.loop, self.draw, self.net):
                try:
                    self.loop.run_until_complete(self.live())
                except Hang as hang:
                    self.history.problem(str(hang))
                outcome = self._outcome(time.perf_counter() - begun_s)
                self._clear_away()
        finally:
            log.removeHandler(self.history)
            log.propagate = True
            gc.enable()
        return outcome

    def _outcome(self, took_s: float) -> Outcome:
        faults = [fault.name for fault in self.ledger.faults]
        counts = {**self.ledger.counts, "jobs": len(self.ledger.created | self.ledger.children), "ended": len(self.ledger.ends)}
        return Outcome(
            self.seed, self.history.digest(), list(self.history.problems), list(self.history.lines), counts, faults, took_s, self.loop.steps
        )  # fmt: skip

    def _clear_away(self) -> None:
        """End what is left, dead processes included, so that nothing of it runs in the next history."""
        self.net.is_over = True
        for process in self._processes:
            self.loop.revive(process)
        self.baton.end()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            with suppress(Hang, TimeoutError):
                self.loop.run_until_complete(asyncio.wait_for(asyncio.wait(tasks), 120))
        self.loop.close()
