"""The shipped scripts with one thing wrong, each with the world in which the explorer must see it.

A mutant names a file of `lua`, a text in it, and another text in its place. A text that is not there exactly once is an error, so that
none of them is forgotten when the scripts change.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from angelrt import scripts
from tests.scripts.faults import load_anew

from ..world import (
    ACTOR_OF_ONE,
    ACTOR_OF_THE_LAST,
    BREAKS,
    LIMITS,
    LINE,
    PAUSES,
    PLAIN_ONES,
    RENEWALS,
    THREE,
    TOO_LATE,
    TWO_OF_AN_ACTOR,
    TWO_OF_ONE_KEY,
    World,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Generator


class Broken(NamedTuple):
    """What is wrong, in which file, where it must show, and what stands in place of what; `broken` are verbs that are broken, too."""

    what: str
    file: str
    world: World
    old: str
    new: str
    broken: tuple[str, ...] = ()


@contextmanager
def applied(mutant: Broken) -> Generator[None]:
    """Let the package load the wrong text. Raises ValueError where the right one is not there exactly once."""
    right = scripts.text_of

    def wrong(file: str) -> str:
        return right(file).replace(mutant.old, mutant.new) if file == mutant.file else right(file)

    if (times := right(mutant.file).count(mutant.old)) != 1:
        message = f"{mutant.what}: {mutant.file} has the text {times} times: {mutant.old!r}"
        raise ValueError(message)
    scripts.text_of = wrong
    load_anew()
    try:
        yield
    finally:
        scripts.text_of = right
        load_anew()


_CLAIM = (
    Broken(
        "claim does not ask the gates", "claim.lua", TWO_OF_ONE_KEY,
        "if why then return hold_back(", "if why and why ~= 'gate' then return hold_back(",
    ),
    Broken("claim that is sent again loses what it leased", "claim.lua", TWO_OF_ONE_KEY, "if resend then take_up_all() end\n", ""),
    Broken("claim never sets the marker again", "claim.lua", LIMITS, "    again = 1\n    wake(queue)\n", "    again = 1\n"),
    Broken("claim does not say that more is claimable", "claim.lua", LIMITS, "    again = 1\n", ""),
    Broken("claim takes from a paused queue", "claim.lua", PAUSES, "  if is_paused('q', queue.name) then return false end\n", ""),
    Broken(
        "claim marks no lane for an actor that it lacks", "claim.lua", ACTOR_OF_THE_LAST,
        "    call('ZADD', queue.opens, -now, lane_of(actor))\n", "",
    ),
    Broken("claim hands no marker on", "claim.lua", ACTOR_OF_THE_LAST, "  if not queue.is_plain then lines().hand_on(queue) end\n", ""),
    Broken("claim hands the marker on for ever", "claim.lua", ACTOR_OF_THE_LAST, "string.format('(%.8f', -looked)", "'(0'"),
    Broken(
        "claim takes the mark from a lane with waiters", "claim.lua", LIMITS,
        "elseif closed[lane] or not has_waiters(queue, lane) then", "elseif true then",
    ),
    Broken(
        "claim leaves the mark on a lane that is closed", "claim.lua", LIMITS,
        "elseif closed[lane] or not has_waiters(queue, lane) then", "elseif not has_waiters(queue, lane) then",
    ),
    Broken("claim notes no holder", "claim.lua", TWO_OF_ONE_KEY, "  write('ZADD', HOLDERS, change.holders)\n", ""),
    Broken("claim does not note what the worker holds", "claim.lua", RENEWALS, "  write('ZADD', HELD, change.held)\n", ""),
    Broken(
        "claim leaves in ready what it leases", "claim.lua", PAUSES,
        "  if from_ready > 0 then call('ZREMRANGEBYRANK', queue.ready, '0', from_ready - 1) end\n", "",
    ),
    Broken(
        "claim takes from ready before it writes the lease", "claim.lua", BREAKS,
        "  write('ZADD', HELD, change.held)\n  write('ZADD', queue.leased, change.leased)\n",
        "  if from_ready > 0 then call('ZREMRANGEBYRANK', queue.ready, '0', from_ready - 1) end\n  from_ready = 0\n"
        "  write('ZADD', HELD, change.held)\n  write('ZADD', queue.leased, change.leased)\n",
        ("claim",),
    ),
)  # fmt: skip

_GATES = (
    Broken("a paused actor runs", "_holds.lua", PAUSES, " or is_paused('a', actor) and 'paused'\n", "\n"),
    Broken("a paused gate is open", "_gates.lua", PAUSES, "    if is_paused('g', gate.name) then return math.huge end\n", ""),
    Broken("one more than the limit", "_gates.lua", TWO_OF_ONE_KEY, "(gate) >= limit.most and", "(gate) > limit.most and"),
    Broken(
        "a mark is set and nobody is woken", "_gates.lua", TWO_OF_ONE_KEY,
        "    queue.is_plain = false\n    wake(queue)\n", "    queue.is_plain = false\n",
    ),
    Broken("whoever leaves a gate marks nothing", "_gates.lua", TWO_OF_ONE_KEY, "        mark_open(queue, lane, now)\n", ""),
    Broken(
        "only the first gate is asked", "_gates.lua", THREE,
        "crowd_of(queue, gate.lane).id == '' and free_of(gate, now) or 0\n",
        "crowd_of(queue, gate.lane).id == '' and free_of(gate, now) or 0\n        do return nil end\n",
    ),
    Broken(
        "who comes later passes those who wait", "_gates.lua", LINE,
        "return comes_before(crowd.rank, crowd.id, rank, id) and crowd.at or nil", "return nil",
    ),
)  # fmt: skip

_MOVES = (
    Broken("a lease that ends is never taken back", "_holds.lua", TWO_OF_ONE_KEY, "if #lost > 0 then moves()", "if false then moves()"),
    Broken(
        "a lease that ends keeps its gates", "_moves.lua", TWO_OF_ONE_KEY,
        "      if run.flow ~= '-' then gates().leave(queue, id, run.flow, now, holders) end\n      local is_valid",
        "      local is_valid",
    ),
    Broken("what was asked to stop runs again", "_moves.lua", TWO_OF_ONE_KEY, "        if is_stopped then\n", "        if false then\n"),
    Broken(
        "a lost lease is answered as settled before", "_moves.lua", TWO_OF_ONE_KEY,
        "        close_run(run, how, now)\n        run.token = '!'", "        close_run(run, how, now)\n        run.token = run.token",
    ),
    Broken(
        "a lease goes before the job waits again", "_moves.lua", BREAKS,
        "    local lost, held, stopped = give_back(queue, ids, 'l', now, counts)\n",
        "    write('ZREM', queue.leased, ids)\n    local lost, held, stopped = give_back(queue, ids, 'l', now, counts)\n",
        ("tick", "claim"),
    ),
    Broken(
        "a record is written before its place", "_moves.lua", BREAKS,
        "    write('HSET', RUNS, stubs)\n    placed.commit()\n",
        "    write('HSET', JOBS, records)\n    write('HSET', RUNS, stubs)\n    placed.commit()\n",
        ("enqueue",),
    ),
    Broken(
        "cancel takes a job away before it has ended", "_moves.lua", BREAKS,
        "    write_cancelled({ id }, { parsed }, now)\n    if item",
        "    call('ZREM', queue[state], member)\n    write_cancelled({ id }, { parsed }, now)\n    if item",
        ("cancel",),
    ),
    Broken(
        "send wakes nobody", "_moves.lua", PAUSES,
        "        if place.is_claimable or #place.expires > 0 or is_first then wake(queue) end\n", "",
    ),
    Broken("a timer moves jobs and wakes nobody", "_holds.lua", TWO_OF_ONE_KEY, "if wakes and #due + #lost > 0 then", "if false then"),
)  # fmt: skip

_VERBS = (
    Broken(
        "no fence at settle", "settle.lua", TWO_OF_ONE_KEY,
        "  if run and string.sub(run, 1, #token + 1) == token .. ' ' then return judged",
        "  if run and string.sub(run, 1, 1) ~= '!' then return judged",
    ),
    Broken(
        "a settle that is sent again counts twice", "settle.lua", TWO_OF_ONE_KEY,
        "'!' .. token .. ' ' then return 2 end", "'!' .. token .. ' ' then return 1 end",
    ),
    Broken(
        "settle gives the token up before the result is written", "settle.lua", BREAKS,
        "write('HSET', RESULTS, results)\n", "write('HDEL', RUNS, gone)\nwrite('HSET', RESULTS, results)\n", ("settle",),
    ),
    Broken("settle puts a job back and wakes nobody", "settle.lua", TOO_LATE, "(ready) do\n  wake(queues[q])\n", "(ready) do\n"),
    Broken("settle leaves holders behind", "settle.lua", TWO_OF_ONE_KEY, "write('ZREM', HOLDERS, holders)\n", ""),
    Broken(
        "a stale renewal is accepted", "renew.lua", RENEWALS,
        "if runs[k] and string.sub(runs[k], 1, #token + 1) == token .. ' ' then", "if runs[k] then",
    ),
    Broken("a renewal does not tell who was asked to stop", "renew.lua", RENEWALS, "if is_asked_to_stop(flow_of(runs[k]))", "if false"),
    Broken("cancel forgets that a run was asked", "cancel.lua", TWO_OF_ONE_KEY, "    call('HSET', RUNS, id, format_run(parsed))\n", ""),
    Broken("the dead are struck off and nobody is woken", "expire_worker.lua", TWO_OF_ONE_KEY, "  if #ids > 0 then wake(queue) end\n", ""),
    Broken("a worker comes and its lanes stay as they are", "beat.lua", ACTOR_OF_ONE, "      call('ZADD', queue.opens, -now, lane)\n", ""),
    Broken("resume of a gate marks nothing", "control.lua", PAUSES, "    open_all(gates().lane_of_gate(name), now)\n", ""),
    Broken("a queue that is resumed has no news for its lanes", "control.lua", TWO_OF_AN_ACTOR, "'-inf', '(0')) do", "'(0', '(0')) do"),
    Broken(
        "a changed limit marks nothing", "control.lua", LIMITS,
        "  return sweep(what, gates().lanes_of_rule(what))\n", "  call('HDEL', RULES, what .. '~')\n  return ''\n",
    ),
)  # fmt: skip

_SHORT_WAYS = (
    Broken(
        "the short way of enqueue wakes nobody", "enqueue_plain.lua", PLAIN_ONES,
        "  call('ZADD', KEYS[before + WAKE], '0', 'm')\n", "",
    ),
    Broken(
        "the short way of claim takes from a paused queue", "claim_plain.lua", PLAIN_ONES,
        "call('EXISTS', CONTROL, expires,", "call('EXISTS', expires,",
    ),
    Broken(
        "the short way of claim passes lanes by", "claim_plain.lua", PAUSES,
        "call('EXISTS', CONTROL, expires, opens,", "call('EXISTS', CONTROL, expires,",
    ),
    Broken("the short way of claim does not look for what is late", "claim_plain.lua", PLAIN_ONES, "earliest > now", "true"),
    Broken("the short way of claim takes any actor", "claim_plain.lua", PLAIN_ONES, " and knows[actor or '']", ""),
    Broken(
        "the short way of claim leaves in ready what it leases", "claim_plain.lua", PLAIN_ONES,
        "    call('ZREMRANGEBYRANK', KEYS[line.before + READY], '0', line.taken - 1)\n", "",
    ),
    Broken(
        "the short way of claim does not note what the worker holds", "claim_plain.lua", PLAIN_ONES,
        "  write('ZADD', HELD, line.held)\n", "",
    ),
    Broken(
        "the short way of claim hands no marker on", "claim_plain.lua", PLAIN_ONES,
        "    call('ZADD', KEYS[line.before + WAKE], '0', 'm')\n", "",
    ),
)  # fmt: skip

MUTANTS = (*_CLAIM, *_GATES, *_MOVES, *_VERBS, *_SHORT_WAYS)
