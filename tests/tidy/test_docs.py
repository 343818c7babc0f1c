"""The README shows both commands, and no link in the documents leads nowhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.tidy.project import ROOT, project_files

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("pip install tox && tox -e demo", "pip install tox && tox")
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"(?<!\\)\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]^]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
ABROAD = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def missing_commands(text: str) -> list[str]:
    """Find commands that stand on no line alone (a prompt before or a comment after them does not count)."""
    shown = {re.sub(r"\s+#.*$", "", line).strip().removeprefix("$ ").strip("`") for line in text.splitlines()}
    return [command for command in COMMANDS if command not in shown]


def anchors_of(text: str) -> set[str]:
    """List the anchors that headings get: small letters, no punctuation, a hyphen for each space, a number when repeated."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeated = sum(1 for other in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other))
        found.add(f"{anchor}-{repeated}" if repeated else anchor)
    return found


def dead_links(path: Path) -> list[str]:
    """Find links to files that are not there, and to headings that their file does not have; other sites are not asked."""
    text = CODE.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))
    found: list[str] = []
    for link in [*LINK.findall(text), *REFERENCE.findall(text)]:
        if ABROAD.match(link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = path.parent / name if name else path
        if not target.exists():
            found.append(f"{path.name}: {link}: there is no {name}")
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target.read_text(encoding="utf-8")):
            found.append(f"{path.name}: {link}: {target.name} has no such heading")
    return found


def test_readme_shows_both_commands() -> None:
    assert missing_commands((ROOT / "README.md").read_text(encoding="utf-8")) == []


def test_links_lead_somewhere() -> None:
    documents = project_files(".md")
    assert documents
    assert [problem for path in documents for problem in dead_links(path)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_command_is_found(command: str) -> None:
    text = "\n".join(f"    $ {other}   # why" for other in COMMANDS if other != command)
    assert missing_commands(text) == [command]


DEAD = (
    "[a](gone.md)",
    "[a](docs/gone.md#there)",
    "![a](gone.png)",
    "[a](#gone)",
    "[a](here.md#gone)",
    "[a]: gone.md",
    '[a](<gone.md> "b")',
)
LIVE = ("[a](here.md)", "[a](here.md#is-it-there)", "[a](here.md#twice-1)", "[a](#top)", "[a](https://example.com/gone)", "`[a](gone.md)`")


@pytest.mark.parametrize("link", DEAD)
def test_dead_link_is_found(link: str, tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("# There\n", encoding="utf-8")
    (tmp_path / "README.md").write_text(f"# Top\n\nText\n\n{link}\n", encoding="utf-8")
    assert len(dead_links(tmp_path / "README.md")) == 1


@pytest.mark.parametrize("link", LIVE)
def test_live_link_passes(link: str, tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("# Is it `there`?\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    (tmp_path / "README.md").write_text(f"# Top\n\n```\n[a](gone.md)\n```\n\n{link}\n", encoding="utf-8")
    assert dead_links(tmp_path / "README.md") == []
