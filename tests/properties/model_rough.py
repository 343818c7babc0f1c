"""The looser model: it does not foretell what a claim leases, but follows it, and says what a claim must never do.

A job that waits has one place, wherever the scripts let it stand. So every history can be followed, those of tenants who take turns
and of calls that broke off among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.properties.model_lives import Lives
from tests.properties.model_parts import deaths_of, expires_ms
from tests.properties.model_turns import Shares, left_over, line_of, overtaken, tenant_of, waiting_for_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from tests.properties.model_parts import Job


@dataclass
class Rough(Lives):
    """A whole partition, and what tenants got.

    `all_known`: no worker ever claims that does not know an actor, and nothing waits for anything but its turn; or at a gate, too, where
    `at_gates`. Then a claim deals out turns at a gate that it finds closed on the way, and makes up for that before it ends.
    """

    shares: Shares = field(default_factory=Shares)
    with_tenants: set[str] = field(default_factory=set)
    all_known: bool = False
    at_gates: bool = False

    def _place(self, job: Job, due_ms: float) -> None:
        if due_ms > self.now_ms:
            self._delay(job, due_ms)
        else:
            self._make_ready(job, self.rank(job, self.now_ms))
        job.watched_ms = expires_ms(job.flow)
        if tenant_of(job):
            self.with_tenants.add(job.queue)

    def move_on(self, queues: Sequence[str]) -> None:
        """Move what time moves."""
        for queue in queues:
            self._move_on(queue)

    def forbidden(
        self, new: Sequence[str], room: int, free: int, queues: Sequence[str], known: AbstractSet[str], *, again: bool
    ) -> Iterator[str]:
        """Name what is wrong with a claim that leases these jobs, before it is followed."""
        served = {queue for queue in queues if f"q{queue}" not in self.paused}
        for job in map(self.jobs.__getitem__, new):
            if job.place != "ready" or job.queue not in served or job.actor not in known or f"a{job.actor}" in self.paused:
                yield f"{job.id} was leased, and was not to be: {job}"
        if len(new) > room:
            yield f"{len(new)} jobs were leased, and there was room for {room}"
        if sum(bool(self.jobs[job_id].gates) for job_id in new) > free:
            yield f"{new} were leased, more of them with gates than {free} slots"
        ordered = served if self.all_known and not self.at_gates else served - self.with_tenants
        yield from overtaken(self, served, known, {*new}, ordered)
        left = [job_id for job_id in left_over(self, served, known) if job_id not in new]
        if left and not again:
            yield f"a claim says that nothing more is claimable, and {left} are held by nothing"

    def follow(self, new: Sequence[str], worker: str, token: str, lease_ms: int) -> list[str]:
        """Lease what a claim has leased; answer whose share is too small."""
        unfair: list[str] = []
        for job in map(self.jobs.__getitem__, new):
            self.shares.look(waiting_for_turns(self))
            if not deaths_of(job.flow):
                self.shares.count(line_of(self, job))
            unfair += [] if self.at_gates else self.shares.unfair(self.rules)
            self.lease(job, worker, token, lease_ms)
        self.shares.look(waiting_for_turns(self))
        return [*unfair, *self.shares.unfair(self.rules)]
