"""Actors: functions that can be called here as they are, or sent to a queue as jobs."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

from .codec import Signature
from .errors import ConfigError, InvalidOptions, RuntimeNotOpen
from .job import PRIORITY_DEFAULT, PRIORITY_MAX, check_id
from .keys import ACTOR, QUEUE, matches
from .retry import MAX_DELAY_S, RetryPolicy, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .client import Client
    from .handle import Job

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

TIMEOUT_S: Final = 300.0
QUEUE_DEFAULT: Final = "default"
WRONG_FUNCTION: Final = {
    "async": "rt.actor() takes an `async def`; for blocking I/O use thread_actor, for computing process_actor",
    "thread": "rt.thread_actor() takes a `def`; for an `async def` use rt.actor()",
    "process": "rt.process_actor() takes a `def`; for an `async def` use rt.actor()",
    "remote": "rt.remote() takes a `def`: the signature alone, whatever the actor is where it runs",
}
AT_MAX: Final = timedelta(seconds=MAX_DELAY_S)


def check_actor_name(name: str) -> str:
    """Return an actor's name. Raises InvalidOptions for one that could not stand in a record."""
    if not matches(ACTOR, name):
        message = f"actor {name!r}: a name is 1 to 128 letters, digits or any of '._:/<>-'; pass name="
        raise InvalidOptions(message)
    return name


def check_queue(queue: str) -> str:
    """Return a queue's name. Raises InvalidOptions for one that cannot be part of a key."""
    if not matches(QUEUE, queue):
        message = f"queue {queue!r}: use 1 to 64 letters, digits, '_', '.', ':', '/' or '-'"
        raise InvalidOptions(message)
    return queue


def check_priority(priority: int) -> int:
    """Return a priority. Raises InvalidOptions outside 0 (first) to 9 (last)."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= PRIORITY_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"priority {priority!r}: use 0 (first) to {PRIORITY_MAX} (last); the default is {PRIORITY_DEFAULT}"
        raise InvalidOptions(message)
    return priority


def check_at(at: datetime) -> None:
    """Raise InvalidOptions for a time without a zone, or beyond ten years from now."""
    if not isinstance(at, datetime) or at.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        message = f"options(at={at!r}): the time has no zone; use datetime.now(UTC) + ... or .astimezone()"
        raise InvalidOptions(message)
    if at - datetime.now(UTC) > AT_MAX:
        message = f"options(at={at!r}) is more than ten years from now"
        raise InvalidOptions(message)


def check_timeout(timeout: float | timedelta) -> float:
    """Return a timeout in seconds. Raises InvalidOptions for none at all."""
    timeout_s = seconds(timeout, "timeout")
    if timeout_s <= 0:
        message = f"timeout must be above 0 s, not {timeout!r}"
        raise InvalidOptions(message)
    return timeout_s


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """What holds for every job of an actor, checked at its declaration."""

    name: str
    kind: str
    queue: str = QUEUE_DEFAULT
    priority: int = PRIORITY_DEFAULT
    timeout_s: float = TIMEOUT_S
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Raise InvalidOptions for what could never work."""
        check_actor_name(self.name)
        check_queue(self.queue)
        check_priority(self.priority)
        check_timeout(self.timeout_s)


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What holds for one send, where it differs from the actor's own; durations in seconds."""

    id: str | None = None
    delay_s: float | None = None
    at_ms: float | None = None
    priority: int | None = None
    queue: str | None = None
    timeout_s: float | None = None
    attempts: int | None = None


class SendKeywords(TypedDict, total=False):
    """The keywords of one send.

    `id` makes it idempotent: an existing job of that id is returned with `created` false. `delay` is seconds or a timedelta, `at` an aware
    datetime, `priority` 0 (first) to 9, `timeout` seconds or a timedelta for one run, `attempts` the number of runs.
    """

    id: str | None
    delay: float | timedelta | None
    at: datetime | None
    priority: int | None
    queue: str | None
    timeout: float | timedelta | None
    attempts: int | None


def send_options(
    *,
    id: str | None = None,  # noqa: A002 - the field's word
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    timeout: float | timedelta | None = None,
    attempts: int | None = None,
) -> SendOptions:
    """Return checked options of one send. Raises InvalidOptions."""
    if delay is not None and at is not None:
        message = "options(delay=, at=): give one of them"
        raise InvalidOptions(message)
    if at is not None:
        check_at(at)
    return SendOptions(
        id=None if id is None else check_id(id),
        delay_s=None if delay is None else seconds(delay, "options(delay=)"),
        at_ms=None if at is None else at.timestamp() * 1000,
        priority=None if priority is None else check_priority(priority),
        queue=None if queue is None else check_queue(queue),
        timeout_s=None if timeout is None else check_timeout(timeout),
        attempts=None if attempts is None else RetryPolicy(attempts=attempts).attempts,
    )


@dataclass(frozen=True, slots=True)
class Message(Generic[R_co]):
    """A call that has not been sent: checked and encoded, ready for `rt.send_many` or `context.send`."""

    actor: Actor[Any, R_co]
    arguments: bytes
    options: SendOptions = SendOptions()


class Home(Protocol):
    """Where an actor is registered, and how it reaches the runtime's client."""

    def client(self) -> Client:
        """Return the open client. Raises RuntimeNotOpen."""
        ...


class Actor(Generic[P, R]):
    """The base of all actors: sending. Calling one runs the plain function here, without a queue."""

    def __init__(self, function: Callable[..., Any], options: ActorOptions, home: Home) -> None:
        """Wrap a function; its annotations are compiled at first use."""
        self.function = function
        self.definition = options
        self.signature = Signature(function, options.name)
        self._home = home
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @property
    def name(self) -> str:
        """The name under which jobs of this actor are stored."""
        return self.definition.name

    def __repr__(self) -> str:
        """Name the actor, its kind and its queue."""
        return f"<{self.definition.kind} actor {self.name} on queue {self.definition.queue}>"

    def message(self, /, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """Return a checked call that is not sent yet. Raises InvalidArguments and PayloadTooLarge."""
        return Message(self, self.signature.encode(args, kwargs))

    async def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Send a job and return its handle once Redis has it.

        Raises InvalidArguments, PayloadTooLarge, RuntimeNotOpen, RedisUnavailable, RedisFull.
        """
        return await self._home.client().send(self.message(*args, **kwargs))

    def send_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do what `send` does, from code that is not asynchronous."""
        return self._home.client().send_sync(self.message(*args, **kwargs))

    def options(self, **options: Unpack[SendKeywords]) -> Sender[P, R]:
        """Return a sender with options of its own: id, delay, at, priority, queue, timeout, attempts; see `SendKeywords`.

        Raises InvalidOptions.
        """
        return Sender(self, send_options(**options), self._home)

    def job(self, job_id: str) -> Job[R]:
        """Return the typed handle of a job of this actor from its saved id; asks nothing of Redis."""
        return self._home.client().handle(job_id, self)


class Sender(Generic[P, R]):
    """An actor with the options of one send."""

    def __init__(self, actor: Actor[P, R], options: SendOptions, home: Home) -> None:
        """Made by `Actor.options`."""
        self._actor = actor
        self._options = options
        self._home = home

    def message(self, /, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """Return a checked call with these options. Raises InvalidArguments and PayloadTooLarge."""
        return replace(self._actor.message(*args, **kwargs), options=self._options)

    async def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Send with these options; see `Actor.send`."""
        return await self._home.client().send(self.message(*args, **kwargs))

    def send_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do what `send` does, from code that is not asynchronous."""
        return self._home.client().send_sync(self.message(*args, **kwargs))


class AsyncActor(Actor[P, R]):
    """An `async def`, run in the worker's event loop."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here and now, without a queue."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


class SyncActor(Actor[P, R]):
    """A `def`, run in a thread or in a process of the worker."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without a queue."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


class RemoteActor(Actor[P, R]):
    """The signature of an actor whose code lives in another service: it can be sent, not called."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:  # noqa: ARG002 - the signature is what the stub is for
        """Raise ConfigError: the code is not here."""
        message = f"actor {self.name} is remote: its code runs in another service; use .send()"
        raise ConfigError(message)


class Actors:
    """A group of actors that a module declares before there is a runtime; `Runtime.include` takes it in. Does no I/O."""

    def __init__(self, *, queue: str = QUEUE_DEFAULT) -> None:
        """Set the queue of actors that name none. Raises InvalidOptions."""
        self._queue = check_queue(queue)
        self.parents: list[Actors] = []
        self.registered: dict[str, Actor[..., Any]] = {}

    def client(self) -> Client:
        """Return the open client of the runtime that includes this group. Raises RuntimeNotOpen."""
        if not self.parents:
            message = "this group of actors belongs to no runtime yet: call rt.include(group)"
            raise RuntimeNotOpen(message)
        *others, last = self.parents
        for parent in others:
            with contextlib.suppress(RuntimeNotOpen):
                return parent.client()
        return last.client()

    def include(self, *groups: Actors) -> None:
        """Take in groups, with the actors that they will declare later too. Raises ConfigError for a circle or a name that is taken."""
        for group in groups:
            if group in self.ancestors() or self in group.parents:
                message = "a group is included once, and not in itself"
                raise ConfigError(message)
            for actor in group.registered.values():
                self.check_free(actor)
            group.parents.append(self)
            for actor in group.registered.values():
                self.adopt(actor)

    def ancestors(self) -> list[Actors]:
        """Return this group and all that include it, directly or not."""
        return [self, *(ancestor for parent in self.parents for ancestor in parent.ancestors())]

    def actor(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = PRIORITY_DEFAULT,
        timeout: float | timedelta = TIMEOUT_S,
        retry: RetryPolicy | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], AsyncActor[P, R]]:
        """Declare an `async def` as an actor. `timeout` is seconds for one run. Raises InvalidOptions and ConfigError."""

        def declare(function: Callable[P, Coroutine[Any, Any, R]]) -> AsyncActor[P, R]:
            options = self._declared(function, "async", name, queue, priority, timeout, retry)
            return self.adopt(AsyncActor(function, options, self))

        return declare

    def thread_actor(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = PRIORITY_DEFAULT,
        timeout: float | timedelta = TIMEOUT_S,
        retry: RetryPolicy | None = None,
    ) -> Callable[[Callable[P, R]], SyncActor[P, R]]:
        """Declare a `def` that blocks on I/O: it runs in a thread, which cannot be killed at its timeout.

        Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> SyncActor[P, R]:
            return self.adopt(SyncActor(function, self._declared(function, "thread", name, queue, priority, timeout, retry), self))

        return declare

    def process_actor(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = PRIORITY_DEFAULT,
        timeout: float | timedelta = TIMEOUT_S,
        retry: RetryPolicy | None = None,
    ) -> Callable[[Callable[P, R]], SyncActor[P, R]]:
        """Declare a `def` that computes: it runs in a process, which is killed at its timeout.

        Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> SyncActor[P, R]:
            return self.adopt(SyncActor(function, self._declared(function, "process", name, queue, priority, timeout, retry), self))

        return declare

    def remote(
        self, *, name: str, queue: str | None = None, priority: int = PRIORITY_DEFAULT
    ) -> Callable[[Callable[P, R]], RemoteActor[P, R]]:
        """Declare the signature of an actor of another service, as a `def` whose body is `raise NotImplementedError`.

        Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> RemoteActor[P, R]:
            return self.adopt(RemoteActor(function, self._declared(function, "remote", name, queue, priority, TIMEOUT_S, None), self))

        return declare

    def _declared(
        self,
        function: Callable[..., Any],
        kind: str,
        name: str | None,
        queue: str | None,
        priority: int,
        timeout: float | timedelta,
        retry: RetryPolicy | None,
    ) -> ActorOptions:
        if not inspect.isfunction(function):
            message = f"{function!r} is no function: declare an actor with `def` or `async def`, and bind arguments inside it"
            raise ConfigError(message)
        if retry is not None and not isinstance(retry, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            message = f"retry is a RetryPolicy(...), not {retry!r}: RetryPolicy(attempts=3)"
            raise InvalidOptions(message)
        own_name = name or function.__qualname__.rpartition("<locals>.")[2]
        if (kind == "async") != inspect.iscoroutinefunction(function):
            message = f"actor {own_name}: {WRONG_FUNCTION[kind]}"
            raise ConfigError(message)
        return ActorOptions(own_name, kind, queue or self._queue, priority, check_timeout(timeout), retry or RetryPolicy())

    def check_free(self, actor: Actor[..., Any]) -> None:
        """Raise ConfigError when the actor's name is taken here or in what includes this group."""
        for group in self.ancestors():
            taken = group.registered.get(actor.name, actor)
            if taken is not actor:
                message = f"two actors are named {actor.name!r} ({_place(taken)} and {_place(actor)}): pass name= to one of them"
                raise ConfigError(message)

    def adopt(self, actor: A) -> A:
        """Register an actor here and in all that include this group. Raises ConfigError for a name that is taken."""
        self.check_free(actor)
        for group in self.ancestors():
            group.registered[actor.name] = actor
        return actor


A = TypeVar("A", bound=Actor[..., Any])


def _place(actor: Actor[..., Any]) -> str:
    return f"{actor.function.__module__}.{actor.function.__qualname__}"
