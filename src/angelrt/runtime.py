"""The runtime: where actors, a server and workers meet. The path of a job: send -> store -> claim -> run -> settle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Unpack

from typing_extensions import TypeVar

from . import events, series
from .actor import QUEUE_DEFAULT, Actors, Message, SendKeywords, check_actor_name, send_options
from .alerts_rules import AlertRule, check_rules
from .config import EVENTS_MAX, Retention, redact, resolve_namespace, resolve_url
from .context import Context, Middleware
from .control import Control
from .dead_letters import DeadLetters
from .errors import ConfigError, InvalidOptions, RuntimeNotOpen
from .jobs import Jobs
from .keys import Keys
from .queue import Queue, check_queue
from .retry import seconds
from .schedules import Schedule, Schedules, declare

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from datetime import timedelta
    from types import TracebackType

    from anyio.from_thread import BlockingPortal
    from starlette.applications import Starlette

    from .client import Client
    from .events import Event
    from .handle import Job
    from .job import Explanation, WorkerInfo
    from .series import Minute
    from .stats import Stats
    from .tracing import Tracing
    from .web.auth import Authenticate
    from .worker import Worker

S = TypeVar("S", default=None)
R = TypeVar("R")
T = TypeVar("T")

LEASE_S: Final = 15.0
EMBEDDED_CONCURRENCY: Final = 10
GRACE_S: Final = 25.0
CONCURRENCY_MAX: Final = 100_000


class Runtime(Actors, Generic[S]):
    """Actors with a server. The constructor does no I/O; `async with rt:` (or `with rt:`) opens it.

    `url` is the server's address, else ANGELRT_URL. `namespace` keeps applications on one server apart; else ANGELRT_NAMESPACE, else
    `angelrt`. `lifespan` is an asynchronous context manager that a worker enters before its first job; what it yields is
    `context.state`. `imports` names modules that declare actors, imported by workers. `middleware` wraps every run:
    `async def mw(context, call_next)`. `lease` (seconds) is how long a dead worker keeps its jobs. `retention` says how long ended jobs
    are remembered; `events=False` leaves the event stream and the counters by the minute unwritten. `queues` are the policies of queues
    that have any.
    `durability="replicated"`: a send returns when a replica of the server has the job, too, and raises NotReplicated otherwise.
    `alerts` are rules over the figures, looked at by workers and by the page, that tell the log or a webhook what is wrong.
    `tracing=True` records spans and measurements with OpenTelemetry; a `Tracing(...)` says more (extra `otel`).
    Raises ConfigError and InvalidOptions.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        queue: str = QUEUE_DEFAULT,
        lifespan: Callable[[], AbstractAsyncContextManager[S]] | None = None,
        imports: Sequence[str] = (),
        middleware: Sequence[Middleware] = (),
        lease: float | timedelta = LEASE_S,
        retention: Retention | None = None,
        events: bool = True,
        queues: Sequence[Queue] = (),
        durability: Literal["primary", "replicated"] = "primary",
        tracing: Tracing | bool = False,
        alerts: Sequence[AlertRule] = (),
    ) -> None:
        """Keep the settings."""
        super().__init__(queue=queue)
        self.url = url
        self.keys = Keys(resolve_namespace(namespace), minutes=events)
        self.imports = names(imports, "imports")
        self.lease_s = seconds(lease, "lease")
        if self.lease_s < 1:
            message = f"lease must be at least 1 s, not {lease!r}: it is renewed three times in its length"
            raise InvalidOptions(message)
        self.lifespan = lifespan
        self._middleware = tuple(middleware)
        self._retention = Retention() if retention is None else retention
        if not isinstance(self._retention, Retention):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"retention is a Retention(...), not {retention!r}"
            raise ConfigError(message)
        self._events_max = EVENTS_MAX if events else 0
        if durability not in ("primary", "replicated"):
            message = f'durability is "primary" or "replicated", not {durability!r}'
            raise ConfigError(message)
        self._replicated = durability == "replicated"
        self._tracing = _tracing_of(tracing)
        self.alerts = check_rules(alerts)
        for queue_policy in queues:
            if not isinstance(queue_policy, Queue):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
                message = f"Runtime(queues=) is a list of Queue(...), not {queue_policy!r}"
                raise ConfigError(message)
        self.queues = {queue.name: queue for queue in queues}
        if len(self.queues) != len(queues):
            message = f"Runtime(queues=): a queue is declared once, not twice: {[queue.name for queue in queues]}"
            raise ConfigError(message)
        self._schedules: dict[str, Schedule] = {}
        self._stack: AsyncExitStack | None = None
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._opened_in = 0
        self._portal: AbstractContextManager[BlockingPortal] | None = None
        self._close_in_portal: Callable[[], None] | None = None

    # -- opening -------------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Runtime[S]:
        """Connect. Raises ConfigError without an address, RedisUnavailable when the server does not answer."""
        from . import opening  # noqa: PLC0415 - loads redis, which a program that only declares actors does not need

        if self._opened_in == os.getpid():
            message = "this runtime is open already: open it once, where the program starts"
            raise ConfigError(message)
        self._opened_in = os.getpid()
        stack = AsyncExitStack()
        try:
            url = await stack.enter_async_context(opening.server(resolve_url(self.url)))
            store = await stack.enter_async_context(opening.store(url, self.keys, self._retention, self._events_max, self._replicated))
            self._client = await stack.enter_async_context(opening.client(store, self.run_sync, self.queues, self._tracing))
        except BaseException:
            self._opened_in = 0
            await stack.aclose()
            raise
        self._stack = stack
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.current_thread()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish what is being sent and disconnect."""
        stack, self._stack, self._client = self._stack, None, None
        try:
            if stack is not None:
                await stack.aclose()
        finally:
            self._opened_in = 0

    def __enter__(self) -> Runtime[S]:
        """Open for synchronous code: the event loop runs in a thread of its own."""
        from . import opening  # noqa: PLC0415 - as above

        portal_manager = opening.portal()
        portal = portal_manager.__enter__()
        try:
            portal.call(self.__aenter__)
        except BaseException:
            portal_manager.__exit__(None, None, None)
            raise
        self._portal = portal_manager
        self._close_in_portal = lambda: portal.call(self.__aexit__, None, None, None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close, and end the thread."""
        portal, self._portal = self._portal, None
        if portal is not None and self._close_in_portal is not None:
            try:
                self._close_in_portal()
            finally:
                portal.__exit__(kind, error, trace)

    def client(self) -> Client:
        """Return the open client. Raises RuntimeNotOpen, also in a process that was forked after opening."""
        client = self._client
        if client is None:
            message = "the runtime is not open: use `async with rt:` (or `with rt:` in synchronous code) around what sends"
            raise RuntimeNotOpen(message)
        client.check_open()
        return client

    def run_sync(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run what is asynchronous from code that is not: `rt.run_sync(rt.schedules.list)`, `rt.run_sync(lambda: rt.explain(job_id))`.

        Returns what the coroutine returns, and raises what it raises; RuntimeNotOpen in the event loop's own thread, too.
        """
        self.client()
        loop, thread = self._loop, self._loop_thread
        if loop is None or thread is threading.current_thread():
            message = "a _sync method was called in the event loop's own thread, where it would wait for itself: await the other one"
            raise RuntimeNotOpen(message)
        return asyncio.run_coroutine_threadsafe(call(), loop).result()

    # -- sending -------------------------------------------------------------------------------------------------------------------

    async def send(self, actor: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[SendKeywords]) -> Job[Any]:
        """Send by name. An actor that is declared here checks the arguments; any other gets them as plain JSON, in `queue`.

        The options are those of `Actor.options`. Raises what `Actor.send` raises.
        """
        chosen = send_options(**options)
        client = self.client()
        known = self.registered.get(actor)
        if known is None:
            return await client.send_plain(check_actor_name(actor), chosen.queue or self._queue, arguments or {}, chosen)
        return await client.send(known, known.signature.encode((), arguments or {}), chosen)

    def send_sync(self, actor: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[SendKeywords]) -> Job[Any]:
        """Do what `send` does, from code that is not asynchronous."""
        return self.run_sync(lambda: self.send(actor, arguments, **options))

    async def send_many(self, messages: Iterable[Message[R]]) -> list[Job[R]]:
        """Send many messages, up to 200 in a round trip, and return their handles in order; see `Actor.send` for what it raises."""
        return await self.client().send_many(messages)

    def send_many_sync(self, messages: Iterable[Message[R]]) -> list[Job[R]]:
        """Do what `send_many` does, from code that is not asynchronous."""
        return self.run_sync(lambda: self.send_many(messages))

    def job(self, job_id: str) -> Job[Any]:
        """Return a handle from a saved id, its result as plain JSON data; use `actor.job(id)` for a typed one."""
        return self.client().handle(job_id, None)

    def schedule(
        self, name: str, message: Message[Any], *, cron: str | None = None, every: float | timedelta | None = None, zone: str = "UTC",
        misfire: str = "skip",
    ) -> None:  # fmt: skip
        """Declare that a message is sent again and again; workers store it when they start. See `Schedules.add`.

        A schedule that is gone from the code goes on until `rt.schedules.remove`. Raises InvalidOptions, and ConfigError for a name twice.
        """
        declared = declare(name, message, cron=cron, every=every, zone=zone, misfire=misfire)
        if self._schedules.setdefault(name, declared) is not declared:
            text = f"schedule {name!r} is declared already: give this one another name"
            raise ConfigError(text)

    @property
    def schedules(self) -> Schedules:
        """What is sent by cron or at intervals: add, list, pause, resume and remove schedules."""
        return Schedules(self.client)

    # -- running -------------------------------------------------------------------------------------------------------------------

    @property
    def context(self) -> Context[S]:
        """The context of the run that asks. Raises RuntimeNotOpen outside an actor that a worker runs."""
        return Context.current()

    @contextlib.asynccontextmanager
    async def worker(
        self,
        *,
        concurrency: int = EMBEDDED_CONCURRENCY,
        queues: Iterable[str] | None = None,
        grace: float | timedelta = GRACE_S,
        kind: str = "embedded",
    ) -> AsyncGenerator[Worker]:
        """Run jobs in this process while the block lasts: `async with rt, rt.worker(concurrency=10): ...`.

        `queues` defaults to all queues of the declared actors; `grace` (seconds) is what running jobs get to end in. Signal handlers and
        logging are left to the host. Raises ConfigError and InvalidOptions.
        """
        async with (
            self.lifespan() if self.lifespan else contextlib.nullcontext() as state,
            self.new_worker(concurrency=concurrency, queues=queues, grace=grace, state=state, kind=kind) as worker,
            self.watching_alerts(),
        ):
            yield worker

    @contextlib.asynccontextmanager
    async def watching_alerts(self) -> AsyncGenerator[None]:
        """Look at the rules of `alerts` while the block lasts, as workers and the page do: for a service without either."""
        if not self.alerts:
            yield
            return
        from .alerts import evaluate_forever  # noqa: PLC0415 - only where there are rules

        watch = asyncio.create_task(evaluate_forever(self, self.alerts), name="angelrt alerts")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    def new_worker(
        self,
        *,
        concurrency: int = EMBEDDED_CONCURRENCY,
        queues: Iterable[str] | None = None,
        grace: float | timedelta = GRACE_S,
        state: Any = None,
        kind: str = "embedded",
    ) -> Worker:
        """Return a worker that is not started, without the lifespan; `worker` is what applications use. Raises as it does."""
        from .worker import Worker  # noqa: PLC0415 - loads redis

        if not 1 <= concurrency <= CONCURRENCY_MAX:
            message = f"concurrency is the number of jobs at a time, from 1 to {CONCURRENCY_MAX:,}, not {concurrency!r}"
            raise InvalidOptions(message)
        runnable = {name: actor for name, actor in self.registered.items() if actor.definition.kind != "remote"}
        served = (
            [check_queue(queue) for queue in names(queues, "queues")]
            if queues
            else sorted({actor.definition.queue for actor in runnable.values()})
        )
        if not runnable or not served:
            message = "no actors are declared: declare some, or name their modules with Runtime(imports=[...])"
            raise ConfigError(message)
        return Worker(
            self.client(),
            runnable,
            queues=served,
            concurrency=concurrency,
            lease_ms=round(self.lease_s * 1000),
            grace_s=seconds(grace, "grace"),
            middleware=self._middleware,
            state=state,
            kind=kind,
            schedules=list(self._schedules.values()),
            rebuild=lambda parts: Message(self.registered[parts[0]], parts[1], parts[2]),
        )

    # -- seeing --------------------------------------------------------------------------------------------------------------------

    async def stats(self) -> Stats:
        """Return the figures of the last day over the whole fleet: counters, pickup latency, run time, and how many jobs wait where."""
        from . import fleet  # noqa: PLC0415 - loads redis

        return await fleet.stats(self.client().store)

    async def series(self, minutes: int = 60, *, queue: str | None = None, actor: str | None = None) -> list[Minute]:
        """Return the figures of each of the last minutes, up to a day of them, over the whole fleet or a part. Raises InvalidOptions."""
        return await series.series(self.client().store, minutes, queue, actor)

    def events(self, after: str = "$") -> AsyncGenerator[Event]:
        """Iterate over what the scripts do, as it happens: from now on, or from what was kept `after` an event's id, or "0".

        Close it when you leave it early (`contextlib.aclosing`). Raises InvalidOptions, and RedisUnavailable after ten seconds without an
        answer.
        """
        return events.follow(self.client().store, events.check_after(after))

    async def recent_events(self, number: int = 50) -> list[Event]:
        """Return the last things that the scripts did, the oldest of them first."""
        return await events.latest(self.client().store, number)

    @property
    def jobs(self) -> Jobs:
        """List and search jobs by state, queue, actor, time and text."""
        return Jobs(self.client)

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers in the register; `status` is error for one that has not beaten for a whole lease."""
        from . import fleet  # noqa: PLC0415 - loads redis

        return await fleet.workers(self.client().store, self.lease_s * 1000)

    async def explain(self, job_id: str) -> Explanation:
        """Return why a job waits, in words and in data, by the rules that the next claim goes by. Raises JobNotFound."""
        from . import explain  # noqa: PLC0415 - loads redis

        def attempts_of(actor: str) -> int | None:
            known = self.registered.get(actor)
            return None if known is None or known.definition.kind == "remote" else known.definition.retry.attempts

        return await explain.explain(self.client().store, job_id, lease_ms=self.lease_s * 1000, attempts_of=attempts_of)

    def web(
        self,
        *,
        readers: Sequence[str] = (),
        operators: Sequence[str] = (),
        auth: Authenticate | None = None,
        hosts: Sequence[str] = (),
        title: str = "Queues",
    ) -> Starlette:
        """Return the page and the HTTP API as an ASGI app: `app.mount("/queues", rt.web(operators=[token]))`; needs the extra `web`.

        `readers` and `operators` are the tokens of those who may look, and of those who may act; or `auth` is the host's own:
        `async def auth(request)` returns "reader", "operator" or None. Without any, it answers to this machine alone. `hosts` are the names
        by which it is called beside those of the loopback. Raises ConfigError.
        """
        from .web import new_app  # noqa: PLC0415 - loads starlette

        return new_app(self, readers=readers, operators=operators, auth=auth, hosts=hosts, alerts=self.alerts, title=title)

    @property
    def dead_letters(self) -> DeadLetters:
        """Find the jobs that ended as failed, let them run again, or forget them."""
        return DeadLetters(self.client, self.registered)

    @property
    def control(self) -> Control:
        """Pause and resume queues, actors and keys, and change limits, for the whole fleet."""
        return Control(lambda: self.client().store)

    def address(self) -> str:
        """Return the server's address without its password."""
        return redact(resolve_url(self.url))


def names(listed: Iterable[str], what: str) -> tuple[str, ...]:
    """Return names as a tuple. Raises ConfigError for one text, whose letters would be taken for names."""
    if isinstance(listed, str):
        message = f"{what} is a list of names, not one text: {what}=[{listed!r}]"
        raise ConfigError(message)
    return tuple(listed)


def _tracing_of(given: Tracing | bool) -> Tracing | None:  # noqa: FBT001 - the setting as it was given
    if given is False:
        return None
    from .tracing import Tracing  # noqa: PLC0415 - loads opentelemetry, which only who wants it has

    if given is not True and not isinstance(given, Tracing):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"tracing is True, False or a Tracing(...) of angelrt.tracing, not {given!r}"
        raise ConfigError(message)
    return Tracing() if given is True else given
