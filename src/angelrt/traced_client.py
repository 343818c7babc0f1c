"""The client of a runtime with tracing: each send is a span, and its job carries the trace on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from .actor import AS_DECLARED
from .client import Client, RunSync

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .actor import Actor, Message, SendOptions
    from .handle import Job
    from .queue import Queue
    from .store import Store
    from .tracing import Tracing

R = TypeVar("R")


class TracedClient(Client):
    """Does what the client does, and records it."""

    def __init__(self, store: Store, run_sync: RunSync, queues: Mapping[str, Queue], tracing: Tracing) -> None:
        """Take over the store of an open runtime, as the client does."""
        super().__init__(store, run_sync, queues)
        self.tracing = self._recorder = tracing

    async def send(self, actor: Actor[Any, R], arguments: bytes, options: SendOptions = AS_DECLARED) -> Job[R]:
        """Send one call, whose arguments are encoded already; see `Actor.send`."""
        queue = _queue_of(actor, options)
        with self._recorder.sending(actor.name, queue, Counter([queue])) as span:
            job = await super().send(actor, arguments, options)
            span.is_of(job.id)
        return job

    async def send_many(self, messages: Iterable[Message[R]]) -> list[Job[R]]:
        """Send messages in batches, as one span, whose context all of them carry."""
        sent = Counter[str]()

        def counted() -> Iterator[Message[R]]:
            for message in messages:
                sent[_queue_of(message.actor, message.options)] += 1
                yield message

        with self._recorder.sending("", "", sent) as span:
            jobs = await super().send_many(counted())
            span.is_of_many(sent)
        return jobs

    async def send_plain(self, actor: str, queue: str, arguments: Mapping[str, Any], options: SendOptions) -> Job[Any]:
        """Send plain JSON data to an actor that is not declared here."""
        with self._recorder.sending(actor, queue, Counter([queue])) as span:
            job = await super().send_plain(actor, queue, arguments, options)
            span.is_of(job.id)
        return job


def _queue_of(actor: Actor[Any, Any], options: SendOptions) -> str:
    return options.queue or actor.definition.queue
