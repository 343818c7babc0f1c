"""What may happen to a fleet, and how likely each is: the steps of which the state machine draws histories.

A draft is drawn by one choice among all of its kinds, since Hypothesis cuts histories short that take many choices.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final, Literal, NamedTuple

import hypothesis.strategies as st

LEASE_MS: Final = 10_000
QUEUES: Final = ("q", "q2")
FLOWS: Final = 8
WORKERS: Final = ("w1", "w2", "w1x")  # one name begins with another: what one holds must not be taken for the other's
ACTORS: Final = ("a", "b", "c")

WINDOW_MS: Final = 10_000
KEYED: Final = "a.k"
"""Rules, without their queue: so many at a time for each key, so many of the whole queue, a rate with a cost for each key, one without."""
WHOLE: Final = "all"
DEAR: Final = "a.k/10s"
RATE: Final = "all/10s"
LIMITED: Final = (KEYED, WHOLE, DEAR, RATE)
DECLARED: Final = {f"{KEYED}@q": "1", f"{WHOLE}@q": "2", f"{DEAR}@q": "4 10000 4", f"{RATE}@q": "3 10000 2"}
SPECS: Final = {
    KEYED: ("1", "2", "3", ""),
    WHOLE: ("1", "2", "4", ""),
    DEAR: ("4 10000 4", "2 10000 2", "9 10000 9", ""),
    RATE: ("3 10000 2", "1 10000 1", "8 10000 3", "5 10000 5", ""),
}
PAUSES: Final = ("qq", "aa", "ab", f"g{KEYED}@q=1", f"g{RATE}@q=", f"g{DEAR}@q=1")
DRAINS: Final = ("qq", "aa", f"g{KEYED}@q=1")
THEMES: Final[dict[str, tuple[str, ...]]] = {
    "places": ("", "ck1", "ck1", "ck2", "cw", "cw,ck1", "ck1,cw", "ck1,x5000"),
    "tokens": ("", "rk*1", "rk*1", "rk*2", "rk*3", "rk*3", "rk*4", "rk*9"),
    "rates": ("", "rw", "rw", "rw", "rk*3,rw", "rk*1", "rw,x5000", "rk*4,x40"),
    "all": ("", "x40", "ck1", "cw", "rk*2", "rw", "ck1,rk*2", "rw,cw"),
    "same": ("uk*f*e", "uk*f*r", "uk*f*j", "us*s*r", "us*s*e,x5000", "um*5000*e", "um*5000*r,ck1", "us*s*r,ck1"),
    "nothing": ("",) * 8,
}
"""What may hold the jobs of one history back, in short; `xMS` is so many milliseconds from now. Few kinds, so that jobs meet."""
TURNS: Final[dict[str, tuple[str, ...]]] = {
    "turns": ("", "tann", "tann", "tbob", "tbob", "teve", "tann", "teve"),
    "shared": ("tann,cw", "tbob", "tbob,cw", "tann", "teve,cw", "", "tann,cw", "cw"),
    "ages": ("", "", "tann", "tbob", "ck1", "x5000", "us*s*r", "tann,x5000"),
    "lanes": (*(f"ck{key}" for key in range(1, 13)), "ck1", "ck2", "cw", "tann"),
    "mixed": ("ck1", "tann,ck1", "uk*f*r,tbob", "us*s*r,cw", "tann,x5000", "ck2,tbob", "cw,ck1", ""),
    "same": THEMES["same"],
    "places": THEMES["places"],
}
"""The same for histories in which tenants take turns and scripts break off."""
_RULES_OF_TURNS: Final = {"weight q bob": "3", "weight q eve": "0.5", "weight q2 ann": "2"}
MORE_RULES: Final = {"turns": _RULES_OF_TURNS, "shared": _RULES_OF_TURNS, "mixed": _RULES_OF_TURNS, "ages": {"aging q": "5000"}}
SHARED: Final = {"turns": (), "shared": (f"tann,c{WHOLE}@q=", f"tbob,c{WHOLE}@q=", f"c{WHOLE}@q=")}
"""Histories in which nothing is held back but by gates and turns, and who waits at a gate at first."""
_ITEMS: Final = {
    **{f"ck{key}": f"c{KEYED}@%s={key}" for key in range(1, 13)},
    "cw": f"c{WHOLE}@%s=",
    "rk": f"r{DEAR}@%s=1",
    "rw": f"r{RATE}@%s=",
}


def kind_of(theme: str, pick: int, number: int) -> str:
    """Return what may hold the job of this number back, in short."""
    kinds = (THEMES | TURNS)[theme]
    return kinds[(pick + FLOWS * (number % 2)) % len(kinds)]


def flow_of(short: str, queue: str, now_ms: float) -> str:
    """Return the flow of a job of a queue."""
    items: list[str] = []
    for item in filter(None, short.split(",")):
        name, star, cost = item.partition("*")
        if item[0] == "x":
            items.append(f"x{now_ms + int(item[1:]):.0f}")
        elif item[0] in "tp":
            items.append(item)
        else:
            items.append((_ITEMS.get(name) or f"{name}@%s") % queue + star + cost)
    return ",".join(items)


Fate = Literal["", "request lost", "reply lost"] | int
"""What becomes of the next call; a number is the command before which its script breaks off, and then it is sent again."""
Step = tuple[str, dict[str, Any]]


class JobDraft(NamedTuple):
    """A job to be sent: its id begins with the letter; `flow` is one of those of the theme."""

    letter: str
    queue: str
    actor: str
    priority: int | None
    when: str
    is_long: bool
    flow: int


class VerdictDraft(NamedTuple):
    """A verdict on one of the leases of a worker, what it says of its gates, and whether a note comes before it."""

    code: str
    delay_ms: int
    is_long: bool
    has_note: bool
    has_begun: bool
    gates: str


picks = st.integers(0, 999)
fates = st.sampled_from(("", "", "", "", "request lost", "reply lost"))
workers = st.sampled_from(WORKERS)
queue_lists = st.sampled_from((QUEUES, QUEUES[::-1], QUEUES[:1], QUEUES[1:]))
pauses_ms = st.sampled_from((-40.0, 0.125, 1.0, 50.0, 3_000.0, LEASE_MS + 0.125, 63_000.0, 65_000.0))
job_drafts = st.sampled_from(
    [
        JobDraft(*parts)
        for parts in product(
            ("m", "a", "z", "\N{SNOWMAN} ", "="),
            ("q", "q", "q2"),
            ACTORS,
            (None, None, None, 0, 3, 9),
            ("", "", "", "+0", "+40", "+5000", "+12000", "at past", "at soon"),
            (False, False, False, True),
            range(FLOWS),
        )
    ]
)
_verdicts = [
    VerdictDraft(*parts)
    for parts in product(
        "cccfgkrrrdsxxw",
        (0, 0, 1, 5_000),
        (False, True),
        (False, False, True),
        (False, True, True),
        ("", "", "u0", "u1", "u5", "h", "h", "u1h"),
    )
]
verdict_drafts = st.tuples(picks, st.sampled_from(_verdicts))

ARGUMENTS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "inspect": {},  # first: what a failure does not need becomes this step, which takes few choices and is then easily left out
    "enqueue": {
        "drafts": st.lists(job_drafts, min_size=1, max_size=4),
        "twice": st.sampled_from(("", "", "same", "other")),
        "fate": fates,
    },
    "enqueue_again": {"some": st.lists(st.tuples(picks, st.booleans(), job_drafts), min_size=1, max_size=3), "fate": fates},
    "explain": {"actors": st.sampled_from(("abc", "abc", "a", "bc"))},
    "watch": {"client": st.sampled_from(("c1", "c2")), "chosen": st.lists(picks, min_size=1, max_size=4), "fate": fates},
    "beat": {"worker": workers, "processed": st.integers(0, 2), "actors": st.sampled_from(("", "a", "bc", "abc")), "fate": fates},
    "claim": {
        "worker": workers,
        "queues": queue_lists,
        "capacity": st.integers(0, 5),
        "free": st.sampled_from((9, 9, 9, 0, 1)),
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
    "cancel": {"chosen": st.lists(picks, min_size=1, max_size=3), "running": st.booleans(), "fate": fates},
    "control": {
        "change": st.sampled_from(
            [("pause", what) for what in PAUSES]
            + [("pause", f"d{what}") for what in DRAINS]
            + [("resume", what) for what in PAUSES] * 2
            + [(verb, f"{rule}@{queue}") for verb in ("declare", "limit") for rule in LIMITED for queue in ("q", "q", "q2")]
        ),
        "pick": picks,
        "fate": fates,
    },
    "renew": {"chosen": st.lists(picks, min_size=1, max_size=4), "fate": fates},
    "pass_time": {
        "pause_ms": pauses_ms | st.sampled_from(("until due", "until just before", "until a gate opens")),
        "then": st.sampled_from(("nothing", "tick", "forget")),
        "queues": queue_lists,
        "fate": fates,
    },
    "replay": {
        "chosen": st.lists(st.tuples(picks, st.sampled_from(("as it is", "as it is", "edited")), job_drafts), min_size=1, max_size=3),
        "is_late": st.sampled_from((False, False, False, True)),
        "fate": fates,
    },
    "purge": {"chosen": st.lists(picks, min_size=1, max_size=3), "is_late": st.sampled_from((False, False, True)), "fate": fates},
    "schedule": {
        "change": st.sampled_from(("go on", "go on", "go on", "pause", "remove", "too late")),
        "occurrences": st.lists(st.tuples(st.integers(0, 5), job_drafts), max_size=3),
        "previous": st.lists(st.integers(0, 5), min_size=1, max_size=3),
        "how": st.sampled_from(("", "", "d", "once")),
        "fate": fates,
    },
    "expire_worker": {
        "worker": workers,
        "died": st.booleans(),
        "since": st.sampled_from(("anything", "this beat", "another beat")),
        "fate": fates,
    },
}
WEIGHTS: Final = {
    "claim": 6,
    "explain": 2,
    "settle": 4,
    "enqueue": 3,
    "beat": 2,
    "cancel": 2,
    "control": 2,
    "pass_time": 3,
    "replay": 2,
    "schedule": 2,
}
BREAKS: Final = st.sampled_from(("", "", "", "", "", "request lost", "reply lost", *range(1, 41)))


def _any_step(fates: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    of_name = {
        name: st.tuples(st.just(name), st.fixed_dictionaries(arguments | ({"fate": fates} if "fate" in arguments else {})))
        for name, arguments in ARGUMENTS.items()
    }
    return st.sampled_from([name for name in ARGUMENTS for _ in range(WEIGHTS.get(name, 1))]).flatmap(of_name.__getitem__)


steps: st.SearchStrategy[Step] = _any_step(fates)
steps_that_break: st.SearchStrategy[Step] = _any_step(BREAKS)
