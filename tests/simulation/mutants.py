"""The package broken on purpose, each time in one way: `python -m tests.simulation.mutants` shows that the simulation notices.

Each mutant is a copy of the package with some words replaced, played by the same command as the package itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import angelrt

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = Path(angelrt.__file__).parent
SEEDS: Final = 300


class Mutant(NamedTuple):
    """Words in a file of the package, and what stands in their place."""

    name: str
    file: str
    words: str
    instead: str


MUTANTS: Final = (
    Mutant(
        "settle asks for no token",
        "lua/settle.lua",
        "if run and string.sub(run, 1, #token + 1) == token .. ' ' then",
        "if run and string.sub(run, 1, 1) ~= '!' then",
    ),
    Mutant(
        "renew asks for no token",
        "lua/renew.lua",
        "if runs[k] and string.sub(runs[k], 1, #token + 1) == token .. ' ' then",
        "if runs[k] then",
    ),
    Mutant(
        "a settle that is repeated counts again",
        "lua/settle.lua",
        "'!' .. token .. ' ' then return 2 end",
        "'!' .. token .. ' ' then return 1 end",
    ),
    Mutant(
        "children of a refused verdict are sent",
        "lua/settle.lua",
        "  codes[i] = verdict_code(i, id, token)\n",
        "  codes[i] = verdict_code(i, id, token)\n"
        "  if codes[i] == 0 and children > 0 then accepted_children[#accepted_children + 1] = { children_first, children_last } end\n",
    ),
    Mutant(
        "a job that is to be tried again wakes nobody",
        "lua/settle.lua",
        "  if not (head and tonumber(head) <= heads[q]) then wake(queues[q]) end\n",
        "",
    ),
    Mutant("a due job wakes nobody", "lua/_holds.lua", "    if wakes and #due + #lost > 0 then wake(queue) end\n", ""),
    Mutant("a send wakes nobody", "lua/_moves.lua", "if place.is_claimable or #place.expires > 0 or is_first then wake(queue) end", ""),
    Mutant(
        "leases that ran out are not taken back",
        "lua/_holds.lua",
        "if #lost > 0 then moves().take_back_expired(queue, lost, now, counts) end",
        "",
    ),
    Mutant("a gate lets everybody through", "lua/_holds.lua", "if gate then return 'gate', gate, at, lane end", ""),
    Mutant(
        "a freed gate is not marked",
        "lua/_gates.lua",
        "        holders[#holders + 1] = member\n        mark_open(queue, lane, now)",
        "        holders[#holders + 1] = member",
    ),
    Mutant("leases are never renewed", "worker/lease.py", "self._renew(link)\n                wait_s", "pass\n                wait_s"),
    Mutant(
        "the lease thread does not survive a lost connection", "worker/lease.py", "except LinkLost as error:", "except KeyError as error:"
    ),
    Mutant("a claim that is repeated asks for new jobs", "store.py", "            is_resent = True\n", "            is_resent = False\n"),
    Mutant(
        "verdicts are not written again",
        "worker/settle.py",
        "            codes = await self._store.settle(self._worker, batch)\n        except RedisFull as error:",
        "            codes = await self._store.settle(self._worker, batch, deadline_s=0)\n"
        "        except __import__('angelrt').RedisUnavailable:\n            return\n        except RedisFull as error:",
    ),
    Mutant(
        "a send returns before it is stored",
        "client.py",
        "        (code,) = await self._sends.submit([job], len(arguments))\n",
        "        asyncio.ensure_future(self._sends.submit([job], 0))\n        code = 1\n",
    ),
    Mutant("news that was missed is not asked for", "inbox.py", "            self._on_news(None)\n", ""),
    Mutant("a connection that is silent is waited for", "link.py", "        if left_s <= 0:", "        if False:"),
    Mutant(
        "a worker that leaves keeps what it holds",
        "worker/__init__.py",
        "await self._client.store.expire_worker(self.id, self.queues, died=False, deadline_s=FLUSH_WAIT_S)",
        "pass",
    ),
    Mutant("a closed connection is no death", "worker/deaths.py", "if of == server and client not in there]", "if False]"),
    Mutant("a worker that stands still is taken for dead", "worker/deaths.py", "if of == server and client not in there]", "]"),
    Mutant("suspects run beside others", "lua/claim.lua", "'(' .. worker .. '\\1') > 0 then", "'(' .. worker .. '\\1') < 0 then"),
    Mutant("others run beside suspects", "worker/running.py", "if self._apart or self._makes_room:", "if self._makes_room:"),
    Mutant("a worker that has beaten since has died", "lua/_suspects.lua", "if beat > tonumber(ended) - BEAT_MS then", "if false then"),
    Mutant("a death uses up an attempt", "lua/_suspects.lua", "if is_new then run.attempts", "if false then run.attempts"),
    Mutant("a job is failed after two deaths", "worker/running.py", "DEATHS_MAX: Final = 3", "DEATHS_MAX: Final = 2"),
    Mutant("claims go on without a pause", "worker/claim.py", "block=not self.more and not was_full", "block=False"),
)


def broken(mutant: Mutant) -> str:
    """Return the text of the mutant's file. Raises ValueError unless the file holds the words once."""
    text = (PACKAGE / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.words) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} holds its words {text.count(mutant.words)} times")
    return text.replace(mutant.words, mutant.instead)


def play(mutant: Mutant, seeds: int = SEEDS) -> str:
    """Play a mutant until a history has a problem; return what was found, '' for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "angelrt"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / mutant.file).write_text(broken(mutant), encoding="utf-8")
        command = [sys.executable, "-m", "tests.simulation", "--seeds", str(seeds), "--until-problem"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
        return next((line for line in done.stdout.splitlines() if line.startswith("seed ")), "" if done.returncode == 0 else done.stderr)


def main() -> int:
    """Play all mutants, or those whose names hold a word that is given; 1 when one is not caught."""
    escaped = 0
    for mutant in MUTANTS:
        if any(word in mutant.name for word in sys.argv[1:] or ("",)):
            found = play(mutant)
            is_caught = found.startswith("seed ")
            escaped += not is_caught
            sys.stdout.write(f"{'caught' if is_caught else 'ESCAPED'}: {mutant.name}: {found}\n")
            sys.stdout.flush()
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
