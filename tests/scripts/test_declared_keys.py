"""Every key that a script touches is one of its KEYS, as Redis Cluster demands; seen on a real server by MONITOR."""

from __future__ import annotations

import re
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from angelrt.link import connector
from angelrt.scripts import SCRIPTS
from tests.scripts.partition import Partition
from tests.scripts.scenarios import RETENTION
from tests.scripts.schedule_scenarios import EVERY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.scripts.scenarios import Scenario

LINE: Final = re.compile(rb"^[\d.]+ \[\d+ ([^\]]*)\] (.*)$", re.DOTALL)
WORD: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
LUA: Final = b"lua"


class Call(NamedTuple):
    """A script's call, and the commands that it ran."""

    keys: list[bytes]
    commands: list[list[bytes]]


@asynccontextmanager
async def monitored(part: Partition) -> AsyncGenerator[list[Call]]:
    """Collect the calls of scripts made inside the block; they are there when it has ended."""
    connection: Any = connector(part.store.url)()
    await connection.connect()
    calls: list[Call] = []
    last_word = secrets.token_hex(16).encode()
    try:
        await connection.send_command("MONITOR")
        assert await connection.read_response() == b"OK"
        yield calls
        await part.store.command("ECHO", last_word)
        while last_word not in (line := await connection.read_response()):
            match = LINE.match(line)
            assert match, line
            words: list[bytes] = WORD.findall(match[2])
            if match[1] == LUA:
                calls[-1].commands.append(words)
            elif words[0].upper() in (b"EVALSHA", b"EVAL"):
                calls.append(Call(words[3 : 3 + int(words[2])], []))
    finally:
        await connection.disconnect()


async def undeclared(part: Partition, calls: list[Call]) -> list[str]:
    """Name the keys that a script touched and that were not among its KEYS."""
    found: list[str] = []
    places: dict[bytes, tuple[int, int, int]] = {}
    for call in calls:
        for words in call.commands:
            name = words[0].upper()
            if name not in places:
                places[name] = await positions(part, name)
            first, last, step = places[name]
            keys = words[first : len(words) + last + 1 if last < 0 else last + 1 : step] if first else []
            found += [f"{name.decode()} {key.decode()}" for key in keys if key not in call.keys]
    return found


async def positions(part: Partition, command: bytes) -> tuple[int, int, int]:
    """Ask the server where a command has its keys: the first, the last (from the end when below 0) and the step."""
    [info] = await part.store.command("COMMAND", "INFO", command)
    return info[3], info[4], info[5]


async def run(part: Partition, scenario: Scenario) -> Any:
    """Play a scenario, none of its calls broken."""
    await scenario.arrange(part)
    part.link.fail(scenario.script, *scenario.first)
    return await scenario.act(part)


@pytest.mark.parametrize("scenario", EVERY, ids=lambda scenario: scenario.name)
async def test_every_key_is_declared(server_url: str, namespace: str, scenario: Scenario) -> None:
    part = Partition(server_url, namespace, RETENTION)
    try:
        async with monitored(part) as calls:
            await run(part, scenario)
        assert await undeclared(part, calls) == []
        assert any(call.commands for call in calls), "nothing was seen, so nothing was checked"
        tag = part.store.keys.key("").encode()
        assert {key for call in calls for key in call.keys if not key.startswith(tag)} == set(), "not in the slot of the partition"
    finally:
        await part.remove()


async def test_every_script_is_in_a_scenario() -> None:
    assert {scenario.script.name for scenario in EVERY} == set(SCRIPTS)


async def test_undeclared_key_is_found(part: Partition) -> None:
    declared, other = part.store.keys.key("jobs"), part.store.keys.key("notes")
    script = "redis.call('HSET', KEYS[1], 'a', 'b') redis.call('HDEL', KEYS[1], 'a') return redis.call('HLEN', ARGV[1])"
    async with monitored(part) as calls:
        await part.store.command("EVAL", script, 1, declared, other)
    assert await undeclared(part, calls) == [f"HLEN {other}"]


async def test_undeclared_key_among_several_is_found(part: Partition) -> None:
    script = "return redis.call('EXISTS', KEYS[1], ARGV[1], ARGV[2])"
    async with monitored(part) as calls:
        await part.store.command("EVAL", script, 1, "{a}1", "{a}2", "{a}3")
    assert await undeclared(part, calls) == ["EXISTS {a}2", "EXISTS {a}3"]
