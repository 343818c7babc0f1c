"""What may happen to a fleet, and how likely each is: the steps of which the state machine draws histories.

A draft is drawn by one choice among all of its kinds, since Hypothesis cuts histories short that take many choices.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final, Literal, NamedTuple

import hypothesis.strategies as st

LEASE_MS: Final = 10_000
QUEUES: Final = ("q", "q2")
WORKERS: Final = ("w1", "w2", "w1x")  # one name begins with another: what one holds must not be taken for the other's
ACTORS: Final = ("a", "b", "c")

Fate = Literal["", "request lost", "reply lost"]
Step = tuple[str, dict[str, Any]]


class JobDraft(NamedTuple):
    """A job to be sent: its id begins with the letter."""

    letter: str
    queue: str
    actor: str
    priority: int | None
    when: str
    is_long: bool


class VerdictDraft(NamedTuple):
    """A verdict on one of the leases of a worker, and whether a note comes before it."""

    code: str
    delay_ms: int
    is_long: bool
    has_note: bool


picks = st.integers(0, 999)
fates = st.sampled_from(("", "", "", "", "request lost", "reply lost"))
workers = st.sampled_from(WORKERS)
queue_lists = st.sampled_from((QUEUES, QUEUES[::-1], QUEUES[:1], QUEUES[1:]))
pauses_ms = st.sampled_from((0.125, 1.0, 50.0, 3_000.0, LEASE_MS + 0.125, 63_000.0, 65_000.0))
job_drafts = st.sampled_from(
    [
        JobDraft(*parts)
        for parts in product(
            ("m", "a", "z", "\N{SNOWMAN} ", "="),
            QUEUES,
            ACTORS,
            (None, None, None, 0, 3, 9),
            ("", "", "", "+0", "+40", "+5000", "+12000", "at past", "at soon"),
            (False, False, False, True),
        )
    ]
)
_verdicts = [VerdictDraft(*parts) for parts in product("cccfgkrrrsx", (0, 0, 1, 5_000), (False, True), (False, False, True))]
verdict_drafts = st.tuples(picks, st.sampled_from(_verdicts))

ARGUMENTS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "inspect": {},  # first: what a failure does not need becomes this step, which takes few choices and is then easily left out
    "enqueue": {
        "drafts": st.lists(job_drafts, min_size=1, max_size=4),
        "twice": st.sampled_from(("", "", "same", "other")),
        "fate": fates,
    },
    "enqueue_again": {"some": st.lists(st.tuples(picks, st.booleans(), job_drafts), min_size=1, max_size=3), "fate": fates},
    "watch": {"client": st.sampled_from(("c1", "c2")), "chosen": st.lists(picks, min_size=1, max_size=4), "fate": fates},
    "beat": {"worker": workers, "processed": st.integers(0, 2), "actors": st.sampled_from(("", "a", "bc", "abc")), "fate": fates},
    "claim": {
        "worker": workers,
        "queues": queue_lists,
        "capacity": st.integers(0, 5),
        "known": st.sampled_from(("abc", "abc", "a", "bc", "")),
        "block": st.sampled_from((True, True, False)),
        "fate": fates,
        "pause_ms": pauses_ms,
    },
    "claim_again": {"pick": picks},
    "settle": {
        "pick": picks,
        "drafts": st.lists(verdict_drafts, min_size=1, max_size=3),
        "children": st.lists(job_drafts, max_size=2),
        "fate": fates,
    },
    "settle_late": {
        "pick": picks,
        "drafts": st.lists(verdict_drafts, min_size=1, max_size=3),
        "children": st.lists(job_drafts, max_size=2),
        "fate": fates,
    },
    "settle_again": {"pick": picks},
    "renew": {"chosen": st.lists(picks, min_size=1, max_size=4), "fate": fates},
    "pass_time": {
        "pause_ms": pauses_ms | st.sampled_from(("until due", "until just before")),
        "then": st.sampled_from(("nothing", "tick", "forget")),
        "queues": queue_lists,
        "fate": fates,
    },
    "expire_worker": {
        "worker": workers,
        "died": st.booleans(),
        "since": st.sampled_from(("anything", "this beat", "another beat")),
        "fate": fates,
    },
}
WEIGHTS: Final = {"claim": 5, "settle": 4, "enqueue": 2, "beat": 2, "pass_time": 2}
_of_name: Final = {name: st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for name, arguments in ARGUMENTS.items()}
steps: st.SearchStrategy[Step] = st.sampled_from([name for name in ARGUMENTS for _ in range(WEIGHTS.get(name, 1))]).flatmap(
    _of_name.__getitem__
)
