"""Files and functions that fit on a screen, with names that say what is in them."""

from __future__ import annotations

import ast
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from tests.tidy.project import ROOT, project_files

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTION_MAX_LINES = 60
FILE_MAX_LINES = 499
NAMES_FOR_ANYTHING = {"util", "utils", "common", "types", "helpers", "misc"}
MARKS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")  # in pieces, or this file would hold them
POSTPONED = re.compile(rf"\b({'|'.join(MARKS)})\b")


def long_functions(path: str, text: str) -> list[str]:
    """Find functions over the limit, from `def` to the last line."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_MAX_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_MAX_LINES}")
    return found


def long_file(path: str, text: str) -> list[str]:
    """Find a file over the limit."""
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, more than {FILE_MAX_LINES}"] if lines > FILE_MAX_LINES else []


def empty_name(path: str, _text: str) -> list[str]:
    """Find a file or folder whose name would fit any content."""
    found = {PurePath(part).stem for part in PurePath(path).parts} & NAMES_FOR_ANYTHING
    return [f"{path}: {name!r} says nothing about the content" for name in sorted(found)]


def postponed(path: str, text: str) -> list[str]:
    """Find marks of work put off."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{path}:{number}: {match[1]}: do it, or file it" for number, line in lines if (match := POSTPONED.search(line))]


CHECKS = {
    long_functions: (".py",),
    long_file: (".py", ".lua"),
    empty_name: (".py", ".lua", ".md"),
    postponed: (".py", ".lua", ".md", ".toml", ".ini"),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_files_are_tidy(check: Callable[[str, str], list[str]]) -> None:
    paths = project_files(*CHECKS[check])
    assert paths
    assert [problem for path in paths for problem in check(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))] == []


BROKEN = {
    "long-function": (long_functions, "a.py", "def f():\n" + "    x = 1\n" * 60),
    "long-method": (long_functions, "a.py", "class A:\n    async def f(self):\n" + "        x = 1\n" * 60),
    "long-file": (long_file, "a.lua", "\n" * 500),
    "utils": (empty_name, "src/angelrt/utils.py", ""),
    "types": (empty_name, "src/angelrt/worker/types.py", ""),
    "common-package": (empty_name, "src/angelrt/common/keys.py", ""),
    "put-off": (postponed, "a.lua", f"-- {MARKS[0]}: later"),
}
SOUND = {
    "function-at-the-limit": (long_functions, "a.py", "def f():\n" + "    x = 1\n" * 59),
    "file-at-the-limit": (long_file, "a.lua", "\n" * 499),
    "typing": (empty_name, "tests/typing/options.py", ""),
    "word-inside": (postponed, "a.py", f"AUTO{MARKS[0]}S = 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_found(name: str) -> None:
    check, path, text = BROKEN[name]
    assert len(check(path, text)) == 1


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_pass(name: str) -> None:
    check, path, text = SOUND[name]
    assert check(path, text) == []
