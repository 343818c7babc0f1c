"""Each Lua script says what it takes, gives and keeps true; its header, its first lines and its binding agree."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.tidy.project import LUA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECTIONS = ("KEYS", "ARGV", "RETURNS", "INVARIANT")
SECTION = re.compile(r"^-- (KEYS|ARGV|RETURNS|INVARIANT)\s+(\S.*)$")
MORE = re.compile(r"^--\s{3,}(\S.*)$")
NOTHING = {"", "-", "none"}
KEY_LOCALS = re.compile(r"^local ([\w, ]+) = (KEYS\[\d+\](?:, KEYS\[\d+\])*)$")
INDEX = re.compile(r"\b(?:KEYS|ARGV)\[\d+\]")
VERBS = sorted(path for path in LUA.glob("*.lua") if not path.name.startswith("_"))


@dataclass
class Header:
    """The comment on top of a script."""

    sentence: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    lines: int = 0

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names before the first `|`: what there is once, not for each queue or job."""
        first = self.sections.get(section, "").partition("|")[0].strip()
        return () if first in NOTHING or ":" in first else tuple(first.split())

    def per(self, section: str, what: str) -> tuple[str, ...] | None:
        """Return the names after `per <what>:`, or None where the section has no such part."""
        for part in self.sections.get(section, "").split("|"):
            head, colon, rest = part.strip().partition(":")
            if colon and head == f"per {what}":
                return tuple(rest.split())
        return None


def read_header(text: str) -> Header:
    """Read the header: a sentence, then sections, each with lines that continue it; a `#!lua` line may stand before."""
    header, section = Header(), ""
    for line in text.splitlines():
        if line.startswith("#!lua") and header.lines == 0:
            continue
        if not line.startswith("--"):
            break
        header.lines += 1
        if match := SECTION.match(line):
            section = match[1]
            header.sections[section] = match[2].strip()
        elif section and (match := MORE.match(line)):
            header.sections[section] += " " + match[1].strip()
        elif not section:
            header.sentence = f"{header.sentence} {line.removeprefix('--').strip()}".strip()
        else:
            break
    return header


def header_problems(name: str, text: str) -> list[str]:
    """Find what a header lacks."""
    header = read_header(text)
    found = [] if header.sentence.endswith(".") else [f"{name}: the header does not begin with a sentence that ends in a full stop"]
    if tuple(header.sections) != SECTIONS:
        found.append(f"{name}: the sections are {' '.join(header.sections) or 'missing'}, not {' '.join(SECTIONS)}")
    return found


def binding_problems(name: str, header: Header, keys: Sequence[str], arguments: Sequence[str], queue_keys: Sequence[str]) -> list[str]:
    """Find names or their order where header and binding differ."""
    found: list[str] = []
    for section, bound in (("KEYS", tuple(keys)), ("ARGV", tuple(arguments))):
        if header.names(section) != bound:
            found.append(f"{name}: {section} are {header.names(section)} in the header and {bound} in the binding")
    per_queue = header.per("KEYS", "queue")
    if per_queue is not None and per_queue != tuple(queue_keys):
        found.append(f"{name}: KEYS per queue are {per_queue} in the header and {tuple(queue_keys)} in angelrt.keys")
    return found


def local_problems(name: str, text: str) -> list[str]:
    """Find keys bound to other names than the header's, and numbered keys or arguments below the lines that name them all."""
    header, bound, named = read_header(text), dict[int, str](), True
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        starts_code = line[:1].strip() != "" and not line.startswith(("--", "}", "#!lua"))
        if starts_code and not re.match(r"local (?!function)", line):
            named = False
        if not named and INDEX.search(line):
            found.append(f"{name}:{number}: a number of a key or argument below the first lines; name it there")
        if match := KEY_LOCALS.match(line):
            indexes = [int(index) for index in re.findall(r"\d+", match[2])]
            bound.update(zip(indexes, match[1].lower().split(", "), strict=False))
    taken = tuple(bound[index] for index in sorted(bound))
    if taken != header.names("KEYS") or sorted(bound) != list(range(1, len(bound) + 1)):
        found.append(f"{name}: KEYS are {header.names('KEYS')} in the header and {taken} in the first lines")
    return found


def test_there_are_scripts() -> None:
    assert VERBS


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.stem)
def test_header_is_whole(path: Path) -> None:
    assert header_problems(path.name, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.stem)
def test_first_lines_name_the_keys_of_the_header(path: Path) -> None:
    assert local_problems(path.name, path.read_text(encoding="utf-8")) == []


def test_headers_agree_with_their_bindings() -> None:
    queue_keys = importlib.import_module("angelrt.keys").QUEUE_KEYS
    texts = {path.stem: path.read_text(encoding="utf-8") for path in VERBS}
    problems: list[str] = []
    unbound = set(texts)
    for name, script in importlib.import_module("angelrt.scripts").SCRIPTS.items():
        assert script.name == name
        [stem] = [stem for stem in texts if script.source.endswith(texts[stem])]
        unbound.discard(stem)
        problems += binding_problems(name, read_header(texts[stem]), script.keys, script.arguments, queue_keys)
    assert problems == []
    assert unbound == set(), "scripts without a binding"


GOOD = """\
-- Extend leases.
-- KEYS      runs held | per queue: ready leased
-- ARGV      now_ms
--           lease_ms | per job: id token
-- RETURNS   the ids whose lease is lost,
--           in their order
-- INVARIANT no job changes place
local RUNS, HELD = KEYS[1], KEYS[2]
local now, lease_ms = clock(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV, 2 do call('HGET', RUNS, ARGV[i]) end
"""
BROKEN_HEADERS = {
    "no-full-stop": GOOD.replace("leases.", "leases"),
    "no-sentence": GOOD.removeprefix("-- Extend leases.\n"),
    "no-invariant": GOOD.replace("-- INVARIANT no job changes place\n", ""),
    "other-order": GOOD.replace("-- KEYS ", "-- SWAP ").replace("-- ARGV ", "-- KEYS ").replace("-- SWAP ", "-- ARGV "),
    "empty-section": GOOD.replace("-- INVARIANT no job changes place", "-- INVARIANT"),
}
BROKEN_LOCALS = {
    "other-name": GOOD.replace("local RUNS, HELD", "local RUNS, LEASED"),
    "other-order": GOOD.replace("KEYS[1], KEYS[2]", "KEYS[2], KEYS[1]"),
    "left-out": GOOD.replace("local RUNS, HELD = KEYS[1], KEYS[2]", "local RUNS = KEYS[1]"),
    "number-below": GOOD + "call('HSET', RUNS, ARGV[3], '')\n",
    "number-in-a-function": GOOD.replace("for i", "local function f() return ARGV[1] end\nfor i"),
}


def test_header_is_read() -> None:
    header = read_header("#!lua flags=allow-oom\n" + GOOD)
    assert header.sentence == "Extend leases."
    assert (header.names("KEYS"), header.per("KEYS", "queue")) == (("runs", "held"), ("ready", "leased"))
    assert (header.names("ARGV"), header.per("ARGV", "job")) == (("now_ms", "lease_ms"), ("id", "token"))
    assert header.per("KEYS", "job") is None
    assert header.sections["RETURNS"] == "the ids whose lease is lost, in their order"


def test_sound_script_passes() -> None:
    assert header_problems("renew", GOOD) == local_problems("renew", GOOD) == []
    assert binding_problems("renew", read_header(GOOD), ("runs", "held"), ("now_ms", "lease_ms"), ("ready", "leased")) == []


@pytest.mark.parametrize("arguments", ["per job: id", "none", "-"])
def test_section_may_be_empty_before_its_repeated_part(arguments: str) -> None:
    assert read_header(f"-- Show.\n-- KEYS      jobs\n-- ARGV      {arguments}\n").names("ARGV") == ()


@pytest.mark.parametrize("name", BROKEN_HEADERS)
def test_broken_header_is_found(name: str) -> None:
    assert len(header_problems("renew", BROKEN_HEADERS[name])) == 1


@pytest.mark.parametrize("name", BROKEN_LOCALS)
def test_broken_first_lines_are_found(name: str) -> None:
    assert len(local_problems("renew", BROKEN_LOCALS[name])) == 1


@pytest.mark.parametrize(
    ("keys", "arguments", "queue_keys"),
    [
        (("held", "runs"), ("now_ms", "lease_ms"), ("ready", "leased")),
        (("runs",), ("now_ms", "lease_ms"), ("ready", "leased")),
        (("runs", "held"), ("now_ms",), ("ready", "leased")),
        (("runs", "held"), ("now_ms", "lease_ms"), ("ready", "delayed", "leased")),
    ],
    ids=["keys-swapped", "key-missing", "argument-missing", "queue-keys-differ"],
)
def test_broken_binding_is_found(keys: Sequence[str], arguments: Sequence[str], queue_keys: Sequence[str]) -> None:
    assert len(binding_problems("renew", read_header(GOOD), keys, arguments, queue_keys)) == 1
