"""Actors: functions that can be called here as they are, or sent to a queue as jobs."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

from .codec import Signature
from .errors import ConfigError, InvalidOptions, RuntimeNotOpen
from .job import PRIORITY_DEFAULT, PRIORITY_MAX, check_id
from .keys import ACTOR, matches
from .limits import Limit, RateLimit, check_limits, check_most
from .queue import check_queue, check_tenant
from .retry import MAX_DELAY_S, RetryPolicy, seconds
from .unique import Unique

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

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
        message = f"actor {name!r}: a name is 1 to 128 letters, digits or any of '._:/<>-', and name= gives an actor one"
        raise InvalidOptions(message)
    return name


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


def check_expires(expires: float | timedelta) -> float:
    """Return the seconds within which a job must begin. Raises InvalidOptions for none at all."""
    expires_s = seconds(expires, "options(expires=)")
    if expires_s <= 0:
        message = f"options(expires={expires!r}): the time to begin in must be above 0 s"
        raise InvalidOptions(message)
    return expires_s


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """What holds for every job of an actor, checked at its declaration."""

    name: str
    kind: str
    queue: str = QUEUE_DEFAULT
    priority: int = PRIORITY_DEFAULT
    timeout_s: float = TIMEOUT_S
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: tuple[Limit, ...] = ()
    unique: Unique | None = None

    def __post_init__(self) -> None:
        """Raise InvalidOptions for what could never work."""
        check_actor_name(self.name)
        check_queue(self.queue)
        check_priority(self.priority)
        check_timeout(self.timeout_s)

    def check_send(self, options: SendOptions) -> None:
        """Raise InvalidOptions for options of one send that this actor cannot have."""
        if self.limits and options.queue not in (None, self.queue):
            message = f"options(queue={options.queue!r}): actor {self.name} has limits, which count in its own queue {self.queue!r}"
            raise InvalidOptions(message)
        costly = [limit for limit in self.limits if isinstance(limit, RateLimit) and limit.cost is not None]
        if options.cost is not None and not costly:
            message = f"options(cost={options.cost}): actor {self.name} has no RateLimit(..., cost=...) that it would be taken from"
            raise InvalidOptions(message)
        for limit in costly if options.cost is not None else ():
            limit.check_cost(options.cost)


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
    expires_s: float | None = None
    cost: int | None = None
    tenant: str | None = None


AS_DECLARED: Final = SendOptions()
"""The options of a send that says nothing."""


class ActorKeywords(TypedDict, total=False):
    """The keywords of a declaration.

    `name` is the function's unless given, `queue` the group's; `priority` is 0 (first) to 9, `timeout` seconds or a timedelta for one run,
    `retry` how often it is tried. `limits` hold for the whole fleet; `unique` finds a job that does the same work.
    """

    name: str | None
    queue: str | None
    priority: int
    timeout: float | timedelta
    retry: RetryPolicy | None
    limits: Sequence[Limit]
    unique: Unique | None


class SendKeywords(TypedDict, total=False):
    """The keywords of one send.

    `id` makes it idempotent: an existing job of that id is returned with `created` false. `delay` is seconds or a timedelta, `at` an aware
    datetime, `priority` 0 (first) to 9, `timeout` seconds or a timedelta for one run, `attempts` the number of runs. A job that has not
    begun `expires` (seconds or a timedelta) after this send is cancelled. `cost` is what it takes of rate limits that have a cost.
    Tenants of a queue take turns.
    """

    id: str | None
    delay: float | timedelta | None
    at: datetime | None
    priority: int | None
    queue: str | None
    timeout: float | timedelta | None
    attempts: int | None
    expires: float | timedelta | None
    cost: int | None
    tenant: str | None


def send_options(
    *,
    id: str | None = None,  # noqa: A002 - the field's word
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    timeout: float | timedelta | None = None,
    attempts: int | None = None,
    expires: float | timedelta | None = None,
    cost: int | None = None,
    tenant: str | None = None,
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
        expires_s=None if expires is None else check_expires(expires),
        cost=None if cost is None else check_most(cost, "options(cost=)"),
        tenant=None if tenant is None else check_tenant(tenant),
    )


@dataclass(slots=True, unsafe_hash=True)
class Message(Generic[R_co]):
    """A call that has not been sent: checked and encoded, ready for `rt.send_many` or `context.send`."""

    actor: Actor[Any, R_co]
    arguments: bytes
    options: SendOptions = AS_DECLARED


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
        self.name = options.name
        """The name under which jobs of this actor are stored."""
        self.definition = options
        self.signature = Signature(function, options.name)
        self._home = home
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

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
        return await self._home.client().send(self, self.signature.encode(args, kwargs))

    def send_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do what `send` does, from code that is not asynchronous."""
        return self._home.client().send_sync(self.message(*args, **kwargs))

    def options(self, **options: Unpack[SendKeywords]) -> Sender[P, R]:
        """Return a sender with options of its own, those of `SendKeywords`. Raises InvalidOptions."""
        chosen = send_options(**options)
        self.definition.check_send(chosen)
        return Sender(self, chosen, self._home)

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
        return Message(self._actor, self._actor.signature.encode(args, kwargs), self._options)

    async def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Send with these options; see `Actor.send`."""
        return await self._home.client().send(self._actor, self._actor.signature.encode(args, kwargs), self._options)

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

    def actor(self, **options: Unpack[ActorKeywords]) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], AsyncActor[P, R]]:
        """Declare an `async def` as an actor; see `ActorKeywords`. Raises InvalidOptions and ConfigError."""

        def declare(function: Callable[P, Coroutine[Any, Any, R]]) -> AsyncActor[P, R]:
            return self.adopt(AsyncActor(function, self._declared(function, "async", **options), self))

        return declare

    def thread_actor(self, **options: Unpack[ActorKeywords]) -> Callable[[Callable[P, R]], SyncActor[P, R]]:
        """Declare a `def` that blocks on I/O: it runs in a thread, which cannot be killed at its timeout.

        Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> SyncActor[P, R]:
            return self.adopt(SyncActor(function, self._declared(function, "thread", **options), self))

        return declare

    def process_actor(self, **options: Unpack[ActorKeywords]) -> Callable[[Callable[P, R]], SyncActor[P, R]]:
        """Declare a `def` that computes: it runs in a process, which is killed at its timeout.

        Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> SyncActor[P, R]:
            return self.adopt(SyncActor(function, self._declared(function, "process", **options), self))

        return declare

    def remote(
        self, *, name: str, queue: str | None = None, priority: int = PRIORITY_DEFAULT, limits: Sequence[Limit] = ()
    ) -> Callable[[Callable[P, R]], RemoteActor[P, R]]:
        """Declare the signature of an actor of another service, as a `def` whose body is `raise NotImplementedError`.

        Limits that are left out here are added by the worker that has the actor. Raises InvalidOptions and ConfigError.
        """

        def declare(function: Callable[P, R]) -> RemoteActor[P, R]:
            declared = self._declared(function, "remote", name=name, queue=queue, priority=priority, limits=limits)
            return self.adopt(RemoteActor(function, declared, self))

        return declare

    def _declared(
        self,
        function: Callable[..., Any],
        kind: str,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = PRIORITY_DEFAULT,
        timeout: float | timedelta = TIMEOUT_S,
        retry: RetryPolicy | None = None,
        limits: Sequence[Limit] = (),
        unique: Unique | None = None,
    ) -> ActorOptions:
        if not inspect.isfunction(function):
            message = f"{function!r} is no function: declare an actor with `def` or `async def`, and bind arguments inside it"
            raise ConfigError(message)
        _check_kind("retry", retry, RetryPolicy)
        _check_kind("unique", unique, Unique)
        own_name = name or function.__qualname__.rpartition("<locals>.")[2]
        if (kind == "async") != inspect.iscoroutinefunction(function):
            message = f"actor {own_name}: {WRONG_FUNCTION[kind]}"
            raise ConfigError(message)
        checked = check_limits(limits, function, f"actor {own_name}")
        if unique is not None:
            unique.check(function, own_name)
        policy = retry or RetryPolicy()
        return ActorOptions(own_name, kind, queue or self._queue, priority, check_timeout(timeout), policy, checked, unique)

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


def _check_kind(what: str, given: object, kind: type) -> None:
    if given is not None and not isinstance(given, kind):
        message = f"{what} is a {kind.__name__}(...), not {given!r}"
        raise InvalidOptions(message)
