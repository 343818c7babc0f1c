"""The floor under the runtime: its own shipped scripts over one plain connection, without tasks, actors, leases to renew or clients.

`python -m bench.compare.bare PORT JOBS` enqueues in batches of 200, then claims and settles in batches of 100, a settle and the next claim
in one packet as the worker sends them, and prints the rates as one JSON line.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import hiredis

from angelrt import scripts
from angelrt.config import BATCH_MAX_JOBS, EVENTS_MAX, Retention
from angelrt.job import IdMaker, write_record
from angelrt.keys import Keys
from angelrt.new_jobs import NewJob, packed
from angelrt.stats import run_words
from angelrt.store import told_retention
from angelrt.worker.claim import TOKEN_CHARS
from bench.compare.adapter import data_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.scripts import Script

BATCH = 100
LEASE_MS = 60_000
CLAIM_HEAD, JOB_FIELDS = 4, 5
WORKER = "worker"
READ_BYTES = 1 << 20


def token(claim: int) -> str:
    """Return a token as long as those of workers."""
    return f"{claim:0{TOKEN_CHARS}}"


class Bare:
    """One connection to a server, and the scripts."""

    def __init__(self, port: int) -> None:
        """Connect and load the scripts."""
        self.keys = Keys("bare")
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        self.call(*(("SCRIPT", "LOAD", script.source) for script in (scripts.ENQUEUE_PLAIN, scripts.CLAIM_PLAIN, scripts.SETTLE_PLAIN)))
        self.claims = 0

    def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one packet and return their replies."""
        self.connection.sendall(b"".join(hiredis.pack_command(tuple(command)) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self.reader.gets()
            if reply is False:
                self.reader.feed(self.connection.recv(READ_BYTES))
            elif isinstance(reply, Exception):
                raise reply
            else:
                replies.append(reply)
        return replies

    def script(self, script: Script, arguments: Sequence[Any]) -> list[Any]:
        """Return the command of a script on the default queue."""
        return scripts.evalsha(self.keys, script, ["default"], arguments, time.time() * 1000)

    def enqueue(self, jobs: int) -> None:
        """Send jobs with 100 bytes of argument each."""
        ids = IdMaker()
        records = [write_record("job", ids.nonce, {}, b'{"data":"%b"}' % data_of(number).encode()) for number in range(jobs)]
        for first in range(0, jobs, BATCH_MAX_JOBS):
            new = [NewJob("default", ids.next(), record) for record in records[first : first + BATCH_MAX_JOBS]]
            argument, *_ = packed(scripts.QueueIndex(), new)
            self.call(self.script(scripts.ENQUEUE_PLAIN, ["", EVENTS_MAX, argument]))

    def claim(self) -> list[Any]:
        """Return the command that leases the next jobs."""
        self.claims += 1
        return self.script(scripts.CLAIM_PLAIN, ["", EVENTS_MAX, WORKER, token(self.claims), LEASE_MS, BATCH, b"\0job\0", "-"])

    def settle(self, under: str, ids: Sequence[bytes]) -> list[Any]:
        """Return the command that completes jobs."""
        arguments: list[Any] = ["", EVENTS_MAX, WORKER, told_retention(Retention()), len(ids)]
        told = f"{under} 1 c\0default|job{run_words(1, 0.01)}"
        for job_id in ids:
            arguments += (job_id, b"null", told)
        return self.script(scripts.SETTLE_PLAIN, arguments)

    def drain(self, jobs: int) -> None:
        """Claim and settle all."""
        settled = 0
        [claimed] = self.call(self.claim())
        while ids := claimed[CLAIM_HEAD::JOB_FIELDS]:
            settle = self.settle(token(self.claims), ids)
            codes, claimed = self.call(settle, self.claim())
            settled += sum(codes)
        assert settled == jobs, f"{settled} of {jobs}"


def main(port: int, jobs: int) -> None:
    """Measure and print."""
    bare = Bare(port)
    begun_s = time.perf_counter()
    bare.enqueue(jobs)
    sent_s = time.perf_counter()
    bare.drain(jobs)
    drained_s = time.perf_counter()
    print(json.dumps({"bare_enqueue_per_s": jobs / (sent_s - begun_s), "bare_drain_per_s": jobs / (drained_s - sent_s)}))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
