"""Keys are spelled in `keys.py` alone, and nobody asks the server to walk through all of them."""

from __future__ import annotations

import ast
import re

import pytest

from angelrt.keys import OWN_KEYS, PAGE_KEYS, QUEUE_KEYS
from tests.tidy.project import LUA, VALUE, Literal, Source, literals, read_sources

SPELLS_KEYS = {"angelrt.keys", "_core"}  # the core reads a queue's name off the key that it was given
CHANNELS = {("_moves", "ended:"), ("cancel", "asked:")}  # read off a key that was given, since whose news it is stands in the data
PER_QUEUE = "|".join((*QUEUE_KEYS, "stats", "minutes", "ended", "asked"))
WHOLE = "|".join((*OWN_KEYS, *PAGE_KEYS))
KEY = re.compile(rf"\}}:\w|(?:^|[:}}{VALUE}])(?:{PER_QUEUE}):\S|^\S+:(?:{PER_QUEUE}|{WHOLE})$|(?:^|[:{VALUE}])(?:{PER_QUEUE}):$")
LUA_STRING = re.compile(r"""'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)\"""")
LUA_COMMENT = re.compile(r"--(?!\[\[).*")
WALKS = {"KEYS", "SCAN"}
WALKING_METHODS = {"scan", "scan_iter"}


def lua_literals(text: str) -> list[Literal]:
    """List the strings of a Lua script; comments hold none."""
    found: list[Literal] = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = LUA_STRING.sub(lambda match: " " * len(match[0]), line)
        comment = LUA_COMMENT.search(bare)
        code = line[: comment.start()] if comment else line
        found += [Literal(number, match[1] or match[2] or "") for match in LUA_STRING.finditer(code)]
    return found


def spelled(name: str, found: list[Literal]) -> list[str]:
    """Find strings that look like a key or like a part of one."""
    if name in SPELLS_KEYS:
        return []
    suspects = [(line, text) for line, text in found if KEY.search(text) and (name, text) not in CHANNELS]
    return [f"{name}:{line}: {text!r} spells a key; ask angelrt.keys for it" for line, text in suspects]


def walking(source: Source) -> list[str]:
    """Find KEYS and SCAN, as method or as command: both visit every key of the server, of all its users."""
    found: list[str] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method = node.func.attr
            if method in WALKING_METHODS or (method == "keys" and (node.args or node.keywords)):
                found.append(f"{source.module}:{node.lineno}: .{method}() walks through every key")
        parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple | ast.List) else []
        if parts and isinstance(parts[0], ast.Constant) and command(parts[0].value) in WALKS:
            found.append(f"{source.module}:{node.lineno}: the command {parts[0].value!r} walks through every key")
    return found


def command(value: object) -> str:
    """Return the first word of a command, in capitals."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return text.partition(" ")[0].upper() if text.partition(" ")[0].isupper() else ""


def walking_lua(name: str, text: str) -> list[str]:
    """Find KEYS and SCAN called from a script."""
    calls = re.findall(r"\b(?:p?call)\s*\(\s*['\"](\w+)", text)
    return [f"{name}: the command {found!r} walks through every key" for found in calls if found.upper() in WALKS]


def test_only_keys_spells_keys() -> None:
    problems = [problem for source in read_sources() for problem in spelled(source.module, list(literals(source.tree)))]
    for path in sorted(LUA.glob("*.lua")):
        problems += spelled(path.stem, lua_literals(path.read_text(encoding="utf-8")))
    assert problems == []


def test_nothing_walks_through_every_key() -> None:
    problems = [problem for source in read_sources() for problem in walking(source)]
    for path in sorted(LUA.glob("*.lua")):
        problems += walking_lua(path.stem, path.read_text(encoding="utf-8"))
    assert problems == []


SPELLED = (
    '"{angelrt}:ready:photos"',
    'f"{{{ns}}}:jobs"',
    'f"{tag}ready:{queue}"',
    'tag + "wake:"',
    'b"{a}:held"',
    'f"{ns}:events"',
    'f"{ns}:gates_void"',
    'tag + "expires:"',
)
NOT_KEYS = ('"jobs"', '("ready", "delayed")', '"state: ready"', 'f"{name}: the jobs"', '"redis://host:6379"', '"priority:high"')
WALKED = ("redis.scan_iter()", "redis.keys('*')", "redis.scan(0)", "redis.execute_command('SCAN', 0)", "send((b'KEYS', b'*'))")
NOT_WALKED = ("settings.keys()", "redis.hscan('x')", "redis.execute_command('ZSCAN', 'x')", "log('keys of the partition')")


@pytest.mark.parametrize("code", SPELLED)
def test_spelled_key_is_found(code: str) -> None:
    assert len(spelled("angelrt.store", list(literals(ast.parse(f"key = {code}"))))) == 1


@pytest.mark.parametrize("code", NOT_KEYS)
def test_other_string_is_no_key(code: str) -> None:
    assert spelled("angelrt.store", list(literals(ast.parse(f'"""{{a}}:ready:b in a docstring."""\nvalue = {code}')))) == []


def test_channel_is_no_key_where_it_is_published_alone() -> None:
    found = lua_literals("call('PUBLISH', tag .. 'asked:' .. worker, id)")
    assert spelled("cancel", found) == []
    assert len(spelled("claim", found)) == 1
    assert len(spelled("cancel", lua_literals("call('HGET', tag .. 'ready:' .. queue)"))) == 1


def test_spelled_key_is_found_in_lua() -> None:
    assert len(spelled("claim", lua_literals("local a = '--' -- '{a}:wake:b'\nlocal b = tag .. 'ready:' .. queue"))) == 1


@pytest.mark.parametrize("code", WALKED)
def test_walk_is_found(code: str) -> None:
    assert len(walking(Source("angelrt.store", code))) == 1


@pytest.mark.parametrize("code", NOT_WALKED)
def test_other_call_is_no_walk(code: str) -> None:
    assert walking(Source("angelrt.store", code)) == []


def test_walk_is_found_in_lua() -> None:
    assert len(walking_lua("claim", "for _, key in ipairs(redis.call('keys', '*')) do call('DEL', key) end")) == 1
