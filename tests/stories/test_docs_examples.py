"""README and docs tell what is true: their examples run, their commands and flags exist, the tests that they name are there.

The first line of a fenced block says what it is:

    ```python run                            a whole program, run in an empty directory; a `text` block right below is its output
    ```python file=jobs.py                   a file that later programs of the same document import
    ```python file=send.py run worker=jobs:rt   both, while `python -m angelrt worker jobs:rt` runs
    ```python fragment                       a part of a program: it must compile, and what it imports from angelrt must be there

A `console` block of the document that shows `$ python send.py` shows its output, too. One that begins with

    ```console run after=jobs.py worker=jobs:rt

is run itself, command by command, after that program and while that worker runs, and must print what it shows, times and ids of workers
aside. Documents are read in the folders below `docs`, too.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from typer.testing import CliRunner

from angelrt.cli import app
from tests.tidy.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m angelrt\b([^\n`#]*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
VARIABLE = re.compile(r"\bANGELRT_[A-Z_]+\b")
TEST_LINK = re.compile(r"\[(test_\w+)\]\(([^)#]+)\)")
CHANGING = {
    "TIME": re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(\.\d+)?"),
    "SPAN": re.compile(r"(?<=in )\d+ (ms|s|min|h|d)( \d+ (s|min|h))?(?!\w)"),
    "WORKER": re.compile(r"(?<=worker )[-\w]{6}(?=\s)"),
}
"""What differs from run to run in the output of a command."""
DATABASE = 13
PROGRAM_S = 40
WORKER_S = 20


@dataclass(frozen=True)
class Block:
    """One fenced block: `words` are those after the language, `output` is what the document says that it prints."""

    document: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str
    output: str | None = None

    def __str__(self) -> str:
        """Name the place, as test ids show it."""
        return f"{self.document}:{self.line}"

    def value(self, name: str) -> str | None:
        """Return what stands after `name=`, or None."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)

    @property
    def kind(self) -> str:
        """What the first line says of a block: run, file or fragment; '' for nothing that is known."""
        known = [word for word in self.words if word in ("run", "fragment") or re.fullmatch(r"(file|worker|after)=\S+", word)]
        if len(known) != len(self.words) or not known:
            return ""
        return "run" if "run" in known else known[0].partition("=")[0]


def read_blocks(document: str, text: str) -> list[Block]:
    """Return the fenced blocks of a document in their order."""
    found = list(FENCE.finditer(text))
    blocks: list[Block] = []
    for match, below in zip_longest(found, found[1:]):
        language, *words = match["info"].split() or [""]
        block = Block(document, text.count("\n", 0, match.start()) + 1, language, tuple(words), match["text"])
        output = shown_output(text, block.value("file"))
        if below is not None and below["info"].strip() == "text" and not text[match.end() : below.start()].strip():
            output = below["text"]
        blocks.append(replace(block, output=output))
    return blocks


def shown_output(text: str, file: str | None) -> str | None:
    """Return what a console of the document shows below `$ python FILE`, or None where there is no such line."""
    consoles = (match["text"] for match in FENCE.finditer(text) if match["info"].strip() == "console")
    shown = re.search(rf"^\$ python {re.escape(file)}\n((?:(?!\$ ).*\n)*)", "".join(consoles), re.MULTILINE) if file else None
    return shown[1] if shown else None


def name_of(path: Path) -> str:
    """Return a document's path in the project."""
    return path.relative_to(ROOT).as_posix()


BLOCKS = {name_of(path): read_blocks(name_of(path), path.read_text(encoding="utf-8")) for path in DOCUMENTS}
PYTHON = [block for blocks in BLOCKS.values() for block in blocks if block.language == "python"]
PROGRAMS = [block for block in PYTHON if block.kind == "run"]
FRAGMENTS = [block for block in PYTHON if block.kind == "fragment"]
CONSOLES = [block for blocks in BLOCKS.values() for block in blocks if block.language == "console" and block.words]


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A database of the shared server that holds nothing before and after: the examples use the default namespace."""
    url = f"{server_url}?db={DATABASE}"
    with Redis.from_url(url) as redis:
        redis.flushdb()
        yield url
        redis.flushdb()


@contextmanager
def worker(target: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a worker while the block lasts; it must stop in order."""
    log = folder / "worker.log"
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "angelrt", "worker", target]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + WORKER_S
        while "angelrt worker" not in (said := log.read_text(encoding="utf-8")):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(WORKER_S) == 0, log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()


def write_files(block: Block, folder: Path) -> None:
    """Write the files that a document has shown before a block."""
    for other in BLOCKS[block.document]:
        name = other.value("file")
        if name is not None and other.line <= block.line:
            (folder / name).write_text(other.text, encoding="utf-8")


def run_program(name: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a program to its end and return what it prints."""
    command = [sys.executable, "-W", "error", name]
    ran = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=PROGRAM_S)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program_runs_and_prints_what_the_document_says(block: Block, database_url: str, tmp_path: Path) -> None:
    write_files(block, tmp_path)
    program = block.value("file") or "example.py"
    (tmp_path / program).write_text(block.text, encoding="utf-8")
    environment = {**os.environ, "ANGELRT_URL": database_url}
    target = block.value("worker")
    with worker(target, tmp_path, environment) if target else nullcontext():
        printed = run_program(program, tmp_path, environment)
    if block.output is not None:
        assert printed == block.output


def same_for_all_runs(text: str) -> str:
    """Return the output of a command without what differs from run to run."""
    for word, pattern in CHANGING.items():
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("block", CONSOLES, ids=str)
def test_console_shows_what_its_commands_print(block: Block, database_url: str, tmp_path: Path) -> None:
    write_files(block, tmp_path)
    environment = {**os.environ, "ANGELRT_URL": database_url, "ANGELRT_GRACE": "0", "COLUMNS": "130"}
    program, target = block.value("after"), block.value("worker")
    first, *shown = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)
    assert (block.kind, first) == ("run", ""), "the first line says `run`, the text begins with a command"
    with worker(target, tmp_path, environment) if target else nullcontext():
        if program:
            run_program(program, tmp_path, environment)
        for command, output in zip(shown[::2], shown[1::2], strict=True):
            python, *words = shlex.split(command)
            assert python == "python", command
            call = [sys.executable, *words]
            ran = subprocess.run(call, cwd=tmp_path, env=environment, check=False, stdout=PIPE, stderr=STDOUT, text=True, timeout=PROGRAM_S)
            assert same_for_all_runs(ran.stdout) == same_for_all_runs(output), command


@pytest.mark.parametrize("block", FRAGMENTS, ids=str)
def test_fragment_compiles_and_imports_what_is_there(block: Block) -> None:
    tree = compile(block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "angelrt":
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_python_block_says_what_it_is() -> None:
    assert PROGRAMS
    assert [str(block) for block in PYTHON if not block.kind] == []


def uses(block: Block, module: str, imports: re.Pattern[str]) -> bool:
    """Tell whether a program or console needs a file."""
    by_name = block.value("after") == f"{module}.py" or (block.value("worker") or "").startswith(f"{module}:")
    return by_name or imports.search(block.text) is not None


def test_every_file_is_used_by_a_program() -> None:
    unused: list[str] = []
    for block in PYTHON:
        if block.kind == "file":
            module = (block.value("file") or "").removesuffix(".py")
            use = re.compile(rf"\b(from|import) {re.escape(module)}\b")
            programs = [other for other in PROGRAMS if other.document == block.document and other.line > block.line]
            consoles = [other for other in CONSOLES if other.document == block.document and other.line > block.line]
            if not any(uses(other, module, use) for other in (*programs, *consoles)):
                unused.append(str(block))
    assert unused == []


def help_of(*command: str) -> str:
    """Return what `python -m angelrt COMMAND --help` prints."""
    result = CliRunner().invoke(app, [*command, "--help"], prog_name="python -m angelrt")
    assert result.exit_code == 0, result.output
    return result.output


def read_help(*group: str) -> dict[str, str]:
    """Return the help of each command by its name, `failed` and `failed list` alike."""
    listed = help_of(*group).partition("Commands:\n")[2]
    found: dict[str, str] = {}
    for name in re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE):
        found[" ".join((*group, name))] = help_of(*group, name)
        found |= read_help(*group, name)
    return found


HELP = read_help()
VARIABLES = set(VARIABLE.findall(" ".join(HELP.values())))


def command_problems(document: str, text: str) -> list[str]:
    """Find commands and flags of angelrt that its own help does not know."""
    found: list[str] = []
    for rest in COMMAND.findall(text):
        words = rest.split()
        if words[:1] in ([], ["--help"], ["..."]):
            continue
        command = next((name for name in (" ".join(words[:2]), words[0]) if name in HELP), None)
        if command is None:
            found.append(f"{document}: no command `{words[0]}`")
            continue
        if any(name.startswith(f"{command} ") for name in HELP) and len(words) > 1 and words[1] != "--help":
            found.append(f"{document}: `{command}` has no command `{words[1]}`")
        known = set(FLAG.findall(HELP[command]))
        found += [f"{document}: `{command}` has no {flag}" for flag in FLAG.findall(rest) if flag not in known]
    return found


def test_commands_and_their_flags_exist() -> None:
    assert HELP
    problems = [problem for path in DOCUMENTS for problem in command_problems(name_of(path), path.read_text(encoding="utf-8"))]
    assert problems == []


def test_environment_variables_exist() -> None:
    named = {name for path in DOCUMENTS for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert named
    assert named - VARIABLES == set()


def test_readme_lists_every_command() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    assert [name for name in HELP if " " not in name and f"| `{name}" not in text] == []


def test_worker_document_lists_every_flag_and_variable() -> None:
    text = (ROOT / "docs" / "worker.md").read_text(encoding="utf-8")
    flags = set(FLAG.findall(HELP["worker"])) - {"--help"}
    variables = set(VARIABLE.findall(HELP["worker"]))
    assert flags
    assert [name for name in sorted(flags | variables) if f"`{name}" not in text] == []


def test_tests_that_documents_name_are_there() -> None:
    named = [(path, *link) for path in DOCUMENTS for link in TEST_LINK.findall(path.read_text(encoding="utf-8"))]
    assert named
    assert [f"{name_of(path)}: {file}: {name}" for path, name, file in named if not defines(path.parent / file, name)] == []


def defines(file: Path, name: str) -> bool:
    """Tell whether a file defines a test of this name."""
    return file.is_file() and re.search(rf"def {name}\(", file.read_text(encoding="utf-8")) is not None


SAMPLE = """\
```python run
print("a")
```

```text
a
```
```python file=b.py run worker=jobs:rt
```
In another terminal:
```console
$ python b.py
first
second
$ python c.py
```
```python run
```
Not its output:
```text
b
```
```python
```
"""


def test_only_what_changes_from_run_to_run_is_left_out_of_an_output() -> None:
    shown = "due at 2026-11-25 21:20:11 UTC, in 59 s; runs on worker bW-_q1 since 21:20:11 UTC; number 2 of 3"
    printed = "due at 2027-01-02 03:04:05 UTC, in 1 min 2 s; runs on worker AAAAAA since 03:04:05 UTC; number 2 of 3"
    assert same_for_all_runs(shown) == same_for_all_runs(printed)
    assert same_for_all_runs(printed) != same_for_all_runs(printed.replace("2 of 3", "1 of 3"))


def test_blocks_are_read() -> None:
    first, second, third, fourth = [block for block in read_blocks("a.md", SAMPLE) if block.language == "python"]
    assert (str(first), first.kind, first.output) == ("a.md:1", "run", "a\n")
    assert (second.kind, second.value("worker"), second.output) == ("run", "jobs:rt", "first\nsecond\n")
    assert (third.kind, third.output) == ("run", None)
    assert fourth.kind == ""
    assert [block.kind for block in read_blocks("a.md", "```python runs\n```\n```python file=a.py\n```\n")] == ["", "file"]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("`python -m angelrt worker app:rt --queues a`", 0),
        ("$ X=1 python -m angelrt stats --json  # --not-a-flag", 0),
        ("python -m angelrt --help", 0),
        ("python -m angelrt wroker app:rt", 1),
        ("python -m angelrt doctor --queues a --jsn", 2),
        ("python -m angelrt failed list --actor a", 0),
        ("python -m angelrt failed lst --actor a", 2),
    ],
)
def test_wrong_command_is_found(text: str, problems: int) -> None:
    assert len(command_problems("a.md", text)) == problems
