"""What is measured of every peer: each workload is a function from the place and a peer to named figures."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .process import PeerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .catalog import Peer
    from .place import Place
    from .process import Process

    Figures = dict[str, float | str]

WAIT_S = 120
SENDS = 5_000
WARM_SENDS = 500
"""Enough to open as many connections as 100 senders use."""
IDLE_SENDS = 1_000
"""Of fewer, the 99th percentile would be the one or two that a busy machine held up."""
DELAYED = 200
OPEN_LOOP_S = 8
LOAD = 0.7
"""The share of its own rate at which each peer is to pick up."""
LATE_MS = 250
"""A producer that issues its last send later than this, or a worker that has not begun the last job by then, does not carry the load."""
SLOW_JOBS = 200
RECOVERY_S = 60
FLEET_S = 5
"""How long two workers have known each other before one of them is killed."""
IO_CONCURRENCY = 1_000
IO_JOBS_MAX = 50_000
FEWEST = 2


def go(worker: Process, client: Process) -> None:
    """Let a worker start, and wait until it has run one job, which is forgotten."""
    worker.ask("go")
    client.ask("single", n=1)
    worker.wait(1, 60)
    worker.ask("clear")


def span_s(stamps: Sequence[Sequence[int]]) -> float:
    """Return the time from the first job to the last. Raises PeerFailed where fewer than two ran."""
    begun = sorted(began_us for began_us, _ in checked(stamps))
    return max(begun[-1] - begun[0], 1) / 1e6


def percentiles_ms(stamps: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the median and the 99th percentile of what passed from the number in the argument to the begin, in milliseconds."""
    waits_ms = [(began_us - from_us) / 1000 for began_us, from_us in checked(stamps)]
    cuts = statistics.quantiles(waits_ms, n=100, method="inclusive")
    return cuts[49], cuts[98]


def checked(stamps: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """Return stamps that something can be told from. Raises PeerFailed."""
    if len(stamps) < FEWEST:
        message = f"only {len(stamps)} jobs ran"
        raise PeerFailed(message)
    return stamps


def drain(place: Place, peer: Peer) -> Figures:
    """Send many in bulk, then let one worker run them all: rates, memory, and what each job costs."""
    jobs = place.scaled(peer.drain_jobs)
    empty_bytes = place.memory_bytes()
    with place.client(peer) as client:
        bulk_s = client.ask("bulk", n=jobs, kind="x")["seconds"]
    pending_bytes = place.memory_bytes() - empty_bytes
    with place.worker(peer) as worker:
        worker.ask("go")
        worker.wait(1, 60)
        first = place.read(worker)
        worker.wait(jobs, WAIT_S)
        last = place.read(worker)
        memory_mib = worker.memory_mib()
        stamps = worker.ask("dump")["stamps"]
        place.settle_down()
    kept_bytes = place.memory_bytes() - empty_bytes
    measured = max(last.done - first.done, 1)
    return {
        "drain_per_s": (jobs - 1) / span_s(stamps),
        "bulk_per_s": jobs / bulk_s,
        "pending_bytes": pending_bytes / jobs,
        "kept_bytes": kept_bytes / jobs,
        "redis_cpu_us": (last.server_cpu_s - first.server_cpu_s) / measured * 1e6,
        "redis_commands": (last.commands - first.commands) / measured,
        "worker_cpu_us": (last.worker_cpu_s - first.worker_cpu_s) / measured * 1e6,
        "worker_mib": memory_mib,
    }


def end_to_end(place: Place, peer: Peer) -> Figures:
    """Send in bulk while a worker runs: from the first send to the last job."""
    jobs = place.scaled(peer.drain_jobs)
    with place.client(peer) as client, place.worker(peer) as worker:
        go(worker, client)
        begun_us = time.monotonic_ns() // 1000
        client.ask("bulk", n=jobs, kind="x")
        worker.wait(jobs, WAIT_S)
        last_us = max(began_us for began_us, _ in worker.ask("dump")["stamps"])
    return {"end_to_end_per_s": jobs / (last_us - begun_us) * 1e6}


def send(place: Place, peer: Peer) -> Figures:
    """Send alone, each awaited, and then from 100 senders, for about as long; no worker runs."""
    alone, at_once = place.scaled(SENDS, 100), place.scaled(peer.drain_jobs, 100)
    with place.client(peer) as client:
        client.ask("concurrent", n=WARM_SENDS)
        alone_s = client.ask("single", n=alone)["seconds"]
        at_once_s = client.ask("concurrent", n=at_once)["seconds"]
    return {"single_per_s": alone / alone_s, "concurrent_per_s": at_once / at_once_s}


def idle(place: Place, peer: Peer) -> Figures:
    """From a send in one process to the begin of the job in an idle worker."""
    sends = place.scaled(IDLE_SENDS)
    with place.client(peer) as client, place.worker(peer) as worker:
        go(worker, client)
        client.ask("idle", n=sends, least_s=0.01, most_s=0.03)
        worker.wait(sends, 30)
        p50_ms, p99_ms = percentiles_ms(worker.ask("dump")["stamps"])
    return {"idle_p50_ms": p50_ms, "idle_p99_ms": p99_ms}


def pickup(place: Place, peer: Peer, rate: int, word: str) -> Figures:
    """From a send to the begin of the job while a producer in its own process sends at a rate, open loop; figures begin with `word`."""
    seconds = max(OPEN_LOOP_S * place.scale, 0.5)
    jobs = int(rate * seconds)
    with place.client(peer) as client, place.worker(peer) as worker:
        go(worker, client)
        producer = client.ask("open_loop", 60 + 20 * seconds, rate=rate, seconds=seconds)
        worker.ask("wait", n=jobs, timeout_s=2 + seconds / 2 if producer["sent"] == jobs else 0)
        stamps = worker.ask("dump")["stamps"]
    late_ms = max(producer["late_ms"], (producer["seconds"] - seconds) * 1000)
    p50_ms, p99_ms = percentiles_ms(stamps)
    if late_ms > LATE_MS or len(stamps) < jobs or span_s(stamps) > seconds + LATE_MS / 1000:
        carried_per_s = min(producer["sent"] / producer["seconds"], len(stamps) / span_s(stamps))
        return {"carried": f"no: {carried_per_s:,.0f}/s", f"{word}_not_carried_p99_ms": p99_ms}
    return {"carried": "yes", f"{word}_p50_ms": p50_ms, f"{word}_p99_ms": p99_ms}


def pickup_1000(place: Place, peer: Peer) -> Figures:
    """1,000 jobs/s."""
    return pickup(place, peer, 1_000, "pickup_1000")


def pickup_5000(place: Place, peer: Peer) -> Figures:
    """5,000 jobs/s."""
    return pickup(place, peer, 5_000, "pickup_5000")


def pickup_70(place: Place, peer: Peer) -> Figures:
    """70% of the rate that this peer has carried end to end right before."""
    rate = max(int(LOAD * float(end_to_end(place, peer)["end_to_end_per_s"])), 1)
    place.empty()
    return {"load_per_s": float(rate), **pickup(place, peer, rate, "pickup_70")}


def delayed(place: Place, peer: Peer) -> Figures:
    """From the time at which a delayed job is due to its begin, in an otherwise idle worker."""
    jobs = place.scaled(DELAYED)
    with place.client(peer) as client, place.worker(peer) as worker:
        go(worker, client)
        client.ask("delayed", n=jobs, least_s=1.0, most_s=5.0)
        worker.wait(jobs, 30)
        stamps = worker.ask("dump")["stamps"]
    p50_ms, p99_ms = percentiles_ms(stamps)
    earliest_ms = min((began_us - due_us) / 1000 for began_us, due_us in stamps)
    return {"delayed_p50_ms": p50_ms, "delayed_p99_ms": p99_ms, "delayed_least_ms": earliest_ms}


def recovery(place: Place, peer: Peer) -> Figures:
    """200 jobs of 50 ms, two workers; one is killed in mid-run. Until all have run, in the other or before the kill."""
    most_s = max(RECOVERY_S * min(place.scale, 1), 20)
    with place.client(peer) as client, place.worker(peer) as killed, place.worker(peer) as other:
        go(killed, client)
        other.ask("go")
        time.sleep(FLEET_S)
        client.ask("bulk", n=SLOW_JOBS, kind="s")
        session = str(killed.pid)
        wait_until(lambda: bool(in_flight(place, session)), 30)
        killed_at_s = time.monotonic()
        killed.kill()
        held = in_flight(place, session)
        if not held:
            message = "nothing was in flight when it was killed"
            raise PeerFailed(message)
        wait_until(lambda: len(ended(place)) == SLOW_JOBS, most_s, patient=True)
        took_s, missing = time.monotonic() - killed_at_s, SLOW_JOBS - len(ended(place))
    figures: Figures = {"in_flight": len(held)}
    if not missing:
        return {**figures, "recovery_s": took_s}
    return {**figures, "not_recovered": f"{missing} {other.about['loses'] or f'not within {most_s:g} s'}"}


def in_flight(place: Place, session: str) -> set[str]:
    """Return the numbers of the slow jobs that began in a worker and have ended nowhere."""
    return {number for mark, number, worker in place.traces() if mark == "b" and worker == session} - ended(place)


def ended(place: Place) -> set[str]:
    """Return the numbers of the slow jobs that ran to their end."""
    return {number for mark, number, _ in place.traces() if mark == "e"}


def wait_until(holds: Callable[[], bool], timeout_s: float, *, patient: bool = False) -> None:
    """Wait for a condition; raises PeerFailed after a while, or returns if `patient`."""
    give_up_at = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > give_up_at:
            if patient:
                return
            message = f"not begun within {timeout_s:g} s"
            raise PeerFailed(message)
        time.sleep(0.01)


def io(place: Place, peer: Peer) -> Figures:
    """Jobs that wait for 10 ms, at concurrency 1,000."""
    if not peer.asynchronous:
        return {"not_asynchronous": "no: a thread or a process for each job"}
    jobs = place.scaled(min(peer.drain_jobs, IO_JOBS_MAX))
    with place.client(peer) as client, place.worker(peer, IO_CONCURRENCY) as worker:
        client.ask("bulk", n=jobs, kind="i")
        client.kill()
        worker.ask("go")
        worker.wait(jobs, WAIT_S)
        stamps: Any = worker.ask("dump")["stamps"]
    return {"io_per_s": (jobs - 1) / span_s(stamps)}


class Workload(NamedTuple):
    """A row of the table: `rounds_max` keeps what takes long from being repeated as often as the rest."""

    name: str
    run: Callable[[Place, Peer], Figures]
    rounds_max: int = 100


WORKLOADS = (
    Workload("drain", drain),
    Workload("end_to_end", end_to_end, 3),
    Workload("send", send),
    Workload("idle", idle),
    Workload("pickup_1000", pickup_1000, 3),
    Workload("pickup_5000", pickup_5000, 3),
    Workload("pickup_70", pickup_70, 3),
    Workload("delayed", delayed, 2),
    Workload("io", io, 3),
    Workload("recovery", recovery, 3),
)
