"""Each Lua script says what it takes, gives and keeps true; its header, its first lines and its binding agree.

The names of a script's keys stand before its text, written from its binding: all in the order of `angelrt.keys`, or those of a short way.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from angelrt.keys import QUEUE_KEYS
from tests.tidy.project import LUA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECTIONS = ("KEYS", "ARGV", "RETURNS", "INVARIANT")
SECTION = re.compile(r"^-- (KEYS|ARGV|RETURNS|INVARIANT)\s+(\S.*)$")
MORE = re.compile(r"^--\s{3,}(\S.*)$")
ASIDE = re.compile(r"\([^()]*\)")
NOTHING = {"", "-", "none"}
OWN = "the partition's"
INDEX = re.compile(r"\bARGV\[(\d+)\]")
PLACED = re.compile(r"KEYS\[[^\[\]]* \+ [A-Z]+\]|#KEYS")
"""How a short way takes the keys of queues: by their names, behind those of the queues before."""
FIELD = re.compile(r"\b(\w+) = KEYS\[i \+ (\w+)\]")
VERBS = sorted(path for path in LUA.glob("*.lua") if not path.name.startswith("_"))
SHARED = sorted(path for path in LUA.glob("*.lua") if path.name.startswith("_"))
CORE = LUA / "_core.lua"


@dataclass
class Header:
    """The comment on top of a script."""

    sentence: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    lines: int = 0

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names before the first `|`: what there is once, not for each queue or job; what is in brackets explains."""
        first = self._bare(section).partition("|")[0].strip()
        return () if first in NOTHING or ":" in first else tuple(first.split())

    def per(self, section: str, what: str) -> tuple[str, ...] | None:
        """Return the names after `per <what>:`, or None where the section has no such part."""
        for part in self._bare(section).split("|"):
            head, colon, rest = part.strip().partition(":")
            if colon and head == f"per {what}":
                return tuple(rest.split())
        return None

    def _bare(self, section: str) -> str:
        return ASIDE.sub("", self.sections.get(section, ""))


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


def code_of(text: str) -> str:
    """Return a text without its comments."""
    return re.sub(r"--.*", "", text)


def header_problems(name: str, text: str) -> list[str]:
    """Find what a header lacks."""
    header = read_header(text)
    found = [] if header.sentence.endswith(".") else [f"{name}: the header does not begin with a sentence that ends in a full stop"]
    if tuple(header.sections) != SECTIONS:
        found.append(f"{name}: the sections are {' '.join(header.sections) or 'missing'}, not {' '.join(SECTIONS)}")
    return found


def keys_problems(name: str, text: str) -> list[str]:
    """Find a header whose keys are not those of the binding, and code that counts keys itself or takes queues unannounced."""
    stated, script = read_header(text).sections.get("KEYS", ""), importlib.import_module("angelrt.scripts").SCRIPTS.get(name)
    whole = f"{OWN} | per queue: {' '.join(QUEUE_KEYS)}"
    right = (OWN, whole)
    if script is not None and script.is_short:
        right = (f"{' '.join(script.own_keys)} | per queue: {' '.join(script.queue_keys)}",)
    found = [] if stated in right else [f"{name}: KEYS are {stated!r} in the header, not {' or '.join(map(repr, right))}"]
    code = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not line.lstrip().startswith("--")]
    numbered = [number for number, line in code if re.search(r"\bKEYS\b", PLACED.sub("", line))]
    found += [f"{name}:{number}: takes a key by its number; those of a call have names" for number in numbered]
    if any(re.search(r"given_queues\(\)|\bQUEUE_KEYS\b", line) for _, line in code) != (stated != OWN):
        found.append(f"{name}: the header and the code differ on whether there are keys of queues")
    return found


def field_problems(text: str, per_queue: Sequence[str]) -> list[str]:
    """Find where the fields of a queue in the prelude differ from the names of its keys in the core."""
    fields = FIELD.findall(text)
    return [] if fields == [(name, name.upper()) for name in per_queue] else [f"the fields of a queue are {fields}, not {per_queue}"]


def binding_problems(name: str, header: Header, arguments: Sequence[str]) -> list[str]:
    """Find names or their order where header and binding differ."""
    stated = header.names("ARGV")
    return [] if stated == tuple(arguments) else [f"{name}: ARGV are {stated} in the header and {tuple(arguments)} in the binding"]


def local_problems(name: str, text: str) -> list[str]:
    """Find arguments of the header that the first lines do not name, and numbered arguments below the lines that name them all."""
    named, seen = True, list[int]()
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        starts_code = line[:1].strip() != "" and not line.startswith(("--", "}", "#!lua"))
        if starts_code and not re.match(r"local (?!function)", line):
            named = False
        indexes = [int(index) for index in INDEX.findall(line)]
        if not named and indexes:
            found.append(f"{name}:{number}: a number of an argument below the first lines; name it there")
        seen += indexes if named else []
    if sorted(seen) != list(range(1, len(read_header(text).names("ARGV")) + 1)):
        found.append(
            f"{name}: ARGV are {read_header(text).names('ARGV')} in the header, and the first lines take the numbers {sorted(seen)}"
        )
    return found


def test_there_are_scripts() -> None:
    assert VERBS


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.stem)
def test_header_is_whole(path: Path) -> None:
    assert header_problems(path.name, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.stem)
def test_keys_of_a_verb_are_those_of_all(path: Path) -> None:
    assert keys_problems(path.stem, path.read_text(encoding="utf-8")) == []


def test_the_fields_of_a_queue_are_named_as_its_keys() -> None:
    assert field_problems((LUA / "_prelude.lua").read_text(encoding="utf-8"), QUEUE_KEYS) == []


def test_every_text_that_is_no_verb_has_its_place_in_the_scripts() -> None:
    scripts = importlib.import_module("angelrt.scripts")
    assert CORE.name == scripts.CORE
    beside = {script.beside for script in scripts.SCRIPTS.values()} - {""}
    assert sorted([scripts.CORE, scripts.PRELUDE, scripts.HOLDS, *scripts.LIBRARY, *beside]) == [path.name for path in SHARED]


def test_a_script_has_the_library_where_its_verb_uses_it() -> None:
    scripts = importlib.import_module("angelrt.scripts")
    names = [*re.findall(r"^local function (\w+)", scripts.text_of(scripts.HOLDS), re.MULTILINE), "gates", "turns", "suspects", "moves"]
    uses = re.compile(rf"(?<![.\w])(?:{'|'.join(names)})\(")
    texts = {name: code_of(scripts.text_of(f"{script.file or name}.lua")) for name, script in scripts.SCRIPTS.items()}
    has_library = {name for name, script in scripts.SCRIPTS.items() if script.has_library and not script.is_short}
    assert {name for name, text in texts.items() if uses.search(text)} == has_library
    assert not uses.search(
        code_of("".join(scripts.text_of(path.name) for path in SHARED if path.name not in (scripts.HOLDS, *scripts.LIBRARY)))
    )


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.stem)
def test_first_lines_name_the_arguments_of_the_header(path: Path) -> None:
    assert local_problems(path.name, path.read_text(encoding="utf-8")) == []


def test_headers_agree_with_their_bindings() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in VERBS}
    problems: list[str] = []
    unbound = set(texts)
    for name, script in importlib.import_module("angelrt.scripts").SCRIPTS.items():
        assert script.name == name
        end = "" if script.is_short else "\nend\nreturn verb()"
        [stem] = [stem for stem in texts if script.source.endswith(f"\n{texts[stem]}{end}")]
        unbound.discard(stem)
        problems += binding_problems(name, read_header(texts[stem]), script.arguments)
    assert problems == []
    assert unbound == set(), "scripts without a binding"


GOOD = f"""\
-- Extend leases.
-- KEYS      {OWN} | per queue: {" ".join(QUEUE_KEYS)}
-- ARGV      now_ms
--           lease_ms (how long: in ms) | per job: id token
-- RETURNS   the ids whose lease is lost,
--           in their order
-- INVARIANT no job changes place
local now, lease_ms = clock(ARGV[1]), tonumber(ARGV[2])
local queues = given_queues()
for i = 3, #ARGV, 2 do call('HGET', RUNS, ARGV[i]) end
"""
GOOD_FIELDS = "queues[#queues + 1] = { name = queue_name(i), ready = KEYS[i + READY], leased = KEYS[i + LEASED] }\n"
BROKEN_HEADERS = {
    "no-full-stop": GOOD.replace("leases.", "leases"),
    "no-sentence": GOOD.removeprefix("-- Extend leases.\n"),
    "no-invariant": GOOD.replace("-- INVARIANT no job changes place\n", ""),
    "other-order": GOOD.replace("-- KEYS ", "-- SWAP ").replace("-- ARGV ", "-- KEYS ").replace("-- SWAP ", "-- ARGV "),
    "empty-section": GOOD.replace("-- INVARIANT no job changes place", "-- INVARIANT"),
}
BROKEN_KEYS = {
    "own-names": GOOD.replace(OWN, "runs held"),
    "other-order": GOOD.replace("ready delayed", "delayed ready"),
    "left-out": GOOD.replace(f" {QUEUE_KEYS[-1]}\n", "\n"),
    "number": GOOD + "call('HGET', KEYS[2], 'a')\n",
    "queues-unannounced": GOOD.replace(f" | per queue: {' '.join(QUEUE_KEYS)}", ""),
    "queues-not-taken": GOOD.replace("local queues = given_queues()\n", ""),
}
BROKEN_FIELDS = {
    "swapped": GOOD_FIELDS.replace("i + READY", "i + LEASED"),
    "left-out": GOOD_FIELDS.replace(", leased = KEYS[i + LEASED]", ""),
}
BROKEN_LOCALS = {
    "left-out": GOOD.replace("tonumber(ARGV[2])", "5000"),
    "not-in-the-header": GOOD.replace("tonumber(ARGV[2])", "tonumber(ARGV[2]) + tonumber(ARGV[3])"),
    "twice": GOOD.replace("clock(ARGV[1])", "clock(ARGV[2])"),
    "number-below": GOOD + "call('HSET', RUNS, ARGV[3], '')\n",
    "number-in-a-function": GOOD.replace("for i", "local function f() return ARGV[1] end\nfor i"),
}


def test_header_is_read() -> None:
    header = read_header("#!lua flags=allow-oom\n" + GOOD)
    assert header.sentence == "Extend leases."
    assert (header.names("KEYS"), header.per("KEYS", "queue")) == (tuple(OWN.split()), QUEUE_KEYS)
    assert (header.names("ARGV"), header.per("ARGV", "job")) == (("now_ms", "lease_ms"), ("id", "token"))
    assert header.per("KEYS", "job") is None
    assert header.sections["RETURNS"] == "the ids whose lease is lost, in their order"


def test_sound_script_passes() -> None:
    assert header_problems("renew", GOOD) == keys_problems("renew", GOOD) == local_problems("renew", GOOD) == []
    assert binding_problems("renew", read_header(GOOD), ("now_ms", "lease_ms")) == []
    assert field_problems(GOOD_FIELDS, ("ready", "leased")) == []


def test_script_without_queues_passes() -> None:
    text = BROKEN_KEYS["queues-unannounced"].replace("local queues = given_queues()\n", "")
    assert keys_problems("watch", text) == []


@pytest.mark.parametrize("arguments", ["per job: id", "none", "-"])
def test_section_may_be_empty_before_its_repeated_part(arguments: str) -> None:
    assert read_header(f"-- Show.\n-- KEYS      jobs\n-- ARGV      {arguments}\n").names("ARGV") == ()


@pytest.mark.parametrize("name", BROKEN_HEADERS)
def test_broken_header_is_found(name: str) -> None:
    assert len(header_problems("renew", BROKEN_HEADERS[name])) == 1


@pytest.mark.parametrize("name", BROKEN_KEYS)
def test_broken_keys_are_found(name: str) -> None:
    assert len(keys_problems("renew", BROKEN_KEYS[name])) == 1


@pytest.mark.parametrize("name", BROKEN_FIELDS)
def test_broken_fields_are_found(name: str) -> None:
    assert len(field_problems(BROKEN_FIELDS[name], ("ready", "leased"))) == 1


@pytest.mark.parametrize("name", BROKEN_LOCALS)
def test_broken_first_lines_are_found(name: str) -> None:
    assert len(local_problems("renew", BROKEN_LOCALS[name])) == 1


@pytest.mark.parametrize(
    "arguments", [("lease_ms", "now_ms"), ("now_ms",), ("now_ms", "lease_ms", "more")], ids=["swapped", "missing", "one-more"]
)
def test_broken_binding_is_found(arguments: Sequence[str]) -> None:
    assert len(binding_problems("renew", read_header(GOOD), arguments)) == 1
