"""The peers, each with its pinned version and with as many jobs as make it work for some seconds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
OURS = "angelrt"


class Peer(NamedTuple):
    """One contestant. `requirements` are pip's, or npm's for one on Node; `variant` is a word for its adapter."""

    name: str
    requirements: tuple[str, ...]
    drain_jobs: int
    asynchronous: bool = True
    node: bool = False
    variant: str = ""

    @property
    def key(self) -> str:
        """The name under which its figures stand."""
        return f"{self.name} {self.variant}".strip()


PEERS = (
    Peer(OURS, ("-e", str(ROOT)), 100_000),
    Peer("bullmq", ("bullmq@6.7.0", "ioredis@5.11.1"), 50_000, node=True),
    Peer("ardiq", ("ardiq==1.2.0", "uvloop==0.23.0"), 50_000),
    Peer("taskiq", ("taskiq-redis==1.2.4", "taskiq==0.13.0", "hiredis==3.5.0", "uvloop==0.23.0"), 10_000),
    Peer("arq", ("arq==0.28.0", "hiredis==3.5.0", "uvloop==0.23.0"), 10_000),
    Peer("saq", ("saq[redis,hiredis]==0.26.4", "typing-extensions==4.16.0", "uvloop==0.23.0"), 10_000),
    Peer("streaq", ("streaq==7.2.0", "uvloop==0.23.0"), 5_000),
    Peer("docket", ("pydocket==0.27.0", "hiredis==3.5.0", "uvloop==0.23.0"), 5_000),
    Peer("huey", ("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"), 10_000, asynchronous=False),
    Peer("dramatiq", ("dramatiq[redis]==2.2.1", "hiredis==3.5.0"), 10_000, asynchronous=False),
    Peer("celery", ("celery[redis]==5.7.0", "hiredis==3.5.0"), 5_000, asynchronous=False),
    Peer("rq", ("rq==3.0.0", "hiredis==3.5.0"), 300, asynchronous=False),
)
