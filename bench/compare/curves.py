"""What is measured of angelrt alone: its cost against the backlog, with more workers, over many queues, and with mixed priorities."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from .process import PeerFailed
from .workloads import WAIT_S, span_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from .catalog import Peer
    from .place import Place
    from .process import Process
    from .workloads import Figures

BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
MEASURED_JOBS = 20_000
WORKERS = (1, 2, 4)
WORKERS_JOBS = 100_000
SPREAD_JOBS = 50_000


def backlog(place: Place, peer: Peer, size: int) -> Figures:
    """What a job costs while so many wait behind it: sent, and then drained down to that backlog."""
    jobs, waiting = place.scaled(MEASURED_JOBS, 500), place.scaled(size, 100)
    with place.client(peer) as client, place.worker(peer) as worker:
        client.ask("bulk", 600, n=waiting, kind="x")
        cpu_s = server_cpu_s(place)
        sent_s = client.ask("bulk", n=jobs, kind="x")["seconds"]
        send_cpu_s = server_cpu_s(place) - cpu_s
        worker.ask("go")
        worker.wait(1, 60)
        first = place.read(worker)
        worker.wait(jobs, WAIT_S)
        last = place.read(worker)
    measured = max(last.done - first.done, 1)
    return {
        f"backlog_{size}_us": (last.at_s - first.at_s) / measured * 1e6,
        f"backlog_{size}_redis_cpu_us": (last.server_cpu_s - first.server_cpu_s) / measured * 1e6,
        f"backlog_{size}_send_us": sent_s / jobs * 1e6,
        f"backlog_{size}_send_redis_cpu_us": send_cpu_s / jobs * 1e6,
    }


def server_cpu_s(place: Place) -> float:
    """Return the processor time of the server so far."""
    cpu = place.info("cpu")
    return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


def processes(place: Place, peer: Peer, number: int) -> Figures:
    """How fast so many worker processes drain one queue together."""
    jobs = place.scaled(WORKERS_JOBS, 500)
    with contextlib.ExitStack() as running:
        running.enter_context(place.client(peer)).ask("bulk", n=jobs, kind="x")
        workers = [running.enter_context(place.worker(peer)) for _ in range(number)]
        for worker in workers:
            worker.ask("go")
        wait_for_all(workers, jobs)
        stamps = [stamp for worker in workers for stamp in worker.ask("dump")["stamps"]]
    return {f"workers_{number}_per_s": (jobs - 1) / span_s(stamps)}


def wait_for_all(workers: list[Process], jobs: int) -> None:
    """Wait until workers have run so many jobs together. Raises PeerFailed."""
    give_up_at = time.monotonic() + WAIT_S
    while sum(worker.ask("count")["done"] for worker in workers) < jobs:
        if time.monotonic() > give_up_at:
            message = f"{len(workers)} workers did not run {jobs:,} jobs in {WAIT_S} s"
            raise PeerFailed(message)
        time.sleep(0.02)


def spread(place: Place, peer: Peer, variant: str) -> Figures:
    """How fast jobs drain that are spread over 100 queues, over 10 priorities, or not at all."""
    chosen = peer._replace(variant=variant)
    jobs = place.scaled(SPREAD_JOBS, 500)
    with place.client(chosen) as client, place.worker(chosen) as worker:
        client.ask("bulk", n=jobs, kind="x")
        worker.ask("go")
        worker.wait(jobs, WAIT_S)
        stamps = worker.ask("dump")["stamps"]
    return {f"spread_{variant or 'plain'}_per_s": (jobs - 1) / span_s(stamps)}


CURVES: dict[str, Callable[[Place, Peer], Figures]] = {
    **{f"backlog_{size}": partial(backlog, size=size) for size in BACKLOGS},
    **{f"workers_{number}": partial(processes, number=number) for number in WORKERS},
    **{f"spread_{variant or 'plain'}": partial(spread, variant=variant) for variant in ("", "queues", "priorities")},
}
