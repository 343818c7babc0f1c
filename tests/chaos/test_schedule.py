"""The schedule of faults: one for each seed, with every kind of fault in it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from tests.chaos.schedule import OF_SERVER, ROUND, VERBS, Fault, plan

WORKERS = ["worker 0", "worker 1", "worker 2", "worker 3"]
SENDERS = ["sender 0", "sender 1"]
LEASE_S = 15.0


def planned(seed: int) -> list[Fault]:
    return plan(seed, span_s=300, every_s=1, workers=WORKERS, senders=SENDERS, lease_s=LEASE_S)


def test_a_seed_has_one_schedule_and_another_seed_another() -> None:
    assert planned(7) == planned(7)
    assert planned(7) != planned(8)


def test_every_kind_of_fault_and_every_verb_comes() -> None:
    faults = planned(7)
    assert {fault.kind for fault in faults} == ROUND.keys()
    assert {fault.verb for fault in faults if fault.kind == "lost reply"} == set(VERBS)
    assert Counter(fault.kind for fault in faults)["kill"] > 30


def test_faults_come_in_order_and_meet_whom_they_can() -> None:
    faults = planned(7)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert all((fault.target == "server") == (fault.kind in OF_SERVER) for fault in faults)
    assert all(fault.target in SENDERS for fault in faults if fault.kind == "sender kill" or fault.verb == "enqueue")
    assert all(fault.target in WORKERS for fault in faults if fault.kind in ("kill", "stop"))


def test_no_target_has_two_faults_at_a_time() -> None:
    for target in (*WORKERS, *SENDERS, "server"):
        own = [fault for fault in planned(7) if fault.target == target]
        assert all(later.at_s >= earlier.at_s + earlier.lasts_s for earlier, later in pairwise(own))


def test_a_worker_is_stopped_for_longer_than_its_lease() -> None:
    assert all(fault.lasts_s > LEASE_S for fault in planned(7) if fault.kind == "stop")
