"""The application of the simulated world. An actor's runs follow a plan, one step for each run: `slow 2`, `retry 0.5`, `children 2`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from angelrt import Actors, Concurrency, Context, Fail, RateLimit, Retry, RetryPolicy, Snooze, Unique

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY: Final = RetryPolicy(attempts=6, base=0.3, cap=3)
AT_A_TIME: Final = 2
LATE_S: Final = 4.0
"""Long enough that a run may have lost its lease when it sends its children."""
QUEUES: Final = ("a", "b")


class Started(NamedTuple):
    """One call of an actor."""

    job_id: str
    at_s: float


class Application:
    """Declares the actors of one history, and notes their calls."""

    def __init__(
        self, now_s: Callable[[], float], note: Callable[[str], None], pause: Callable[[float], Any], die: Callable[[str], None]
    ) -> None:
        self.now_s = now_s
        self.note = note
        self.die = die
        self.started: dict[str, list[float]] = {}
        self.ended: dict[str, float] = {}
        self.group = Actors()
        declare = self.group.actor
        self.child = declare(name="child", queue="b", retry=RETRY)(self._child())
        declare(name="work", queue="a", retry=RETRY)(self._work())
        declare(name="batch", queue="b", retry=RETRY, timeout=20)(self._work())
        declare(name="limited", queue="a", retry=RETRY, limits=[Concurrency(AT_A_TIME, per="key")])(self._work())
        declare(name="rated", queue="b", retry=RETRY, limits=[RateLimit("10/5s")])(self._work())
        declare(name="once", queue="a", retry=RETRY, unique=Unique("key"))(self._work())

        def thread(plan: list[str], key: str = "", filler: str = "") -> str:
            self._begin(Context.current().job.id)
            pause(0.5 * len(plan))
            return self._end(Context.current().job.id, key) + filler

        self.group.thread_actor(name="thread", queue="b", retry=RETRY)(thread)

    def _work(self) -> Any:
        async def work(plan: list[str], key: str = "", filler: str = "") -> str:
            context: Context[Any] = Context.current()
            number = self._begin(context.job.id)
            what, _, value = [*plan, *["ok"] * number][number - 1].partition(" ")
            match what:
                case "slow":
                    context.progress(1, "slow")
                    await asyncio.sleep(float(value))
                case "raise":
                    raise ValueError("broken on purpose")
                case "retry":
                    raise Retry(after=float(value))
                case "snooze":
                    raise Snooze(float(value))
                case "fail":
                    raise Fail("no use")
                case "children" | "late-children":
                    await asyncio.sleep(LATE_S if what == "late-children" else 0)
                    for child in range(int(value)):
                        context.send(self.child.message(child))
                case "die":
                    self.die(context.job.id)
                    await asyncio.Future()
                case _:
                    pass
            return self._end(context.job.id, key) + filler

        return work

    def _child(self) -> Any:
        async def child(number: int) -> str:
            self._begin(Context.current().job.id)
            await asyncio.sleep(0.01 * number)
            return self._end(Context.current().job.id, str(number))

        return child

    def _begin(self, job_id: str) -> int:
        starts = self.started.setdefault(job_id, [])
        starts.append(self.now_s())
        self.note(f"{job_id} runs for time {len(starts)}")
        return len(starts)

    def _end(self, job_id: str, key: str) -> str:
        self.ended[job_id] = self.now_s()
        return f"{job_id} {key}"
