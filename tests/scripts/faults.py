"""Calls that fail where the test says: the answer is lost after the script ran, or the script itself breaks before its k-th command."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import ResponseError

from angelrt import scripts
from angelrt.link import Link, LinkLost
from angelrt.scripts import as_eval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from angelrt.scripts import Script

LOST_ANSWER: Final = 0
"""In place of a k: the script runs to its end, and its answer is lost."""
TRACE: Final = -1
"""In place of a k: the script runs to its end, and tells in which sites each of its commands was."""
TRACED: Final = "test:trace"

SITE: Final = re.compile(r"(?<!function )(?<![.\w])(call|write)\(")
CALLED: Final = re.compile(r"(?<!string\.)(?<!table\.)\b(\w+)\(")
ABORTED: Final = re.compile(r"ABORTED at ([\d ]+);")
GUARD: Final = """\
local redis, __at = (function(server)
  local abort_at, done, sites = tonumber(table.remove(ARGV)), 0, {}
  local function guarded(...)
    done = done + 1
    if abort_at < 0 then server.call('RPUSH', 'test:trace', table.concat(sites, ' ')) end
    if done == abort_at then error({ err = 'ABORTED at ' .. table.concat(sites, ' ') .. ';' }) end
    return server.call(...)
  end
  local function tagged(site, inner)
    return function(...)
      sites[#sites + 1] = site
      local result = inner(...)
      sites[#sites] = nil
      return result
    end
  end
  return setmetatable({ call = guarded }, { __index = server }), tagged
end)(redis)
"""


class Site(NamedTuple):
    """A place in a script's text where it runs a command: `call` itself, or `write`, which calls in turn."""

    function: str
    line: str


class BreakableScript:
    """A script with a guard in front, which breaks it before its k-th command; k is one more argument at the end.

    The error names the sites that the script was in, by number.
    """

    def __init__(self, script: Script) -> None:
        """Put the guard behind the `#!lua` line, and a number at each site."""
        shebang, _, body = script.source.replace("no-writes", "allow-oom", 1).partition("\n")  # the trace is written
        shared = f"{script.key_names}\n{script.shared}\n"
        assert body.startswith(shared), "a script no longer begins with the names of its keys and what it shares with others"
        self._all: dict[int, Site] = {}
        self._lines = body.splitlines()
        self._verb_begins = shared.count("\n")
        self._functions = _functions(self._lines[: self._verb_begins])
        self._numbers: dict[int, list[int]] = {}
        self.source = "\n".join([shebang, GUARD, *map(self._tagged, range(len(self._lines))), ""])

    def sites(self) -> dict[int, Site]:
        """Return the sites that the verb can reach: its own, and those of the functions of all that it uses."""
        own = _functions(self._lines[self._verb_begins :])
        reached = set[int]()
        fresh = {*range(self._verb_begins, len(self._lines))}
        while fresh:
            reached |= fresh
            names = {name for at in fresh for name in CALLED.findall(self._lines[at]) if at < self._verb_begins or name not in own}
            fresh = {at for name in names for at in self._functions.get(name, ())} - reached
        return {number: self._all[number] for at in sorted(reached) for number in self._numbers.get(at, ())}

    def _tagged(self, at: int) -> str:
        line = self._lines[at]
        if line.lstrip().startswith("--"):
            return line

        def tag(match: re.Match[str]) -> str:
            number = len(self._all)
            self._all[number] = Site(match[1], line.strip())
            self._numbers.setdefault(at, []).append(number)
            return f"__at({number}, {match[1]})("

        return SITE.sub(tag, line)


def _functions(lines: list[str]) -> dict[str, range]:
    """Return the lines of each function, of those that are made lazily, too."""
    found: dict[str, range] = {}
    for begin, line in enumerate(lines):
        if match := re.match(r"( *)local function (\w+)\(", line):
            found[match[2]] = range(begin, lines.index(f"{match[1]}end", begin) + 1)
    return found


@cache
def breakable(script: Script) -> BreakableScript:
    """Return the breakable form of a script."""
    return BreakableScript(script)


def load_anew() -> None:
    """Let every script be put together again, from texts that a test has changed or put back."""
    for script in scripts.SCRIPTS.values():
        vars(script).pop("source", None)
        vars(script).pop("sha", None)
    breakable.cache_clear()


class FaultyLink(Link):
    """A connection on which the next calls of one script fail as told.

    A call that broke counts as a lost answer, so that the store sends it again; with `resend` false, the store hears the script's error.
    The answer that is lost may be that of its short way, unless that declines.
    """

    def __init__(self, url: str) -> None:
        """Fail nowhere, until told."""
        super().__init__(url)
        self.url = url
        self._script: Script | None = None
        self._faults: list[int] = []
        self._resend = True
        self.broken_at: list[set[int]] = []
        """For each call that broke, the sites that it was in."""
        self.passed: list[str] = []
        """For each command of the call that was traced, the sites that it was in, the outermost first."""

    def fail(self, script: Script, *faults: int, resend: bool = True) -> None:
        """Let the next calls of a script break before their k-th command (from 1), lose the answer (LOST_ANSWER) or be traced (TRACE)."""
        self._script, self._faults, self._resend = script, list(faults), resend
        self.broken_at = []

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, one of them perhaps to fail. Raises LinkLost."""
        fault, wanted = self._next()
        at, script = next(((i, one) for i, command in enumerate(commands) for one in wanted if one.sha in command[1:2]), (0, None))
        if script is None:
            return await super().call(*commands)
        self._faults.pop(0)
        if fault == LOST_ANSWER:
            replies = await super().call(*commands[:at], as_eval(script, commands[at]), *commands[at + 1 :])
            if replies[at] is None and script.is_short:
                self._faults.insert(0, fault)
                return replies
            message = "the answer was lost on purpose"
            raise LinkLost(message)
        broken = ["EVAL", breakable(script).source, *commands[at][2:], fault]
        replies = await super().call(*commands[:at], broken, *commands[at + 1 :])
        answers: list[Any] = replies[-1] if commands[-1][0] == "EXEC" else replies
        if fault == TRACE:
            sites, _ = await super().call(["LRANGE", TRACED, 0, -1], ["DEL", TRACED])
            self.passed = [site.decode() for site in sites]
        if self._note_abort(answers) and self._resend:
            message = "the script broke on purpose"
            raise LinkLost(message)
        return replies

    def _next(self) -> tuple[int, list[Script]]:
        """Return the next fault, and the scripts one of which is to meet it."""
        if self._script is None or not self._faults:
            return TRACE, []
        short = scripts.SCRIPTS.get(f"{self._script.name}_plain")
        return self._faults[0], [self._script, short] if short and self._faults[0] == LOST_ANSWER else [self._script]

    def _note_abort(self, answers: list[Any]) -> bool:
        for match in filter(None, (ABORTED.search(str(answer)) for answer in answers if isinstance(answer, ResponseError))):
            self.broken_at.append(set(map(int, match[1].split())))
            return True
        return False
