"""Where the project's files are, and its Python read as syntax trees: what the tidy tests look at."""

from __future__ import annotations

import ast
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "angelrt"
LUA = PACKAGE / "lua"
VALUE = "\N{BULLET}"  # stands for each value in an f-string
ROOMS = ("src", "tests", "bench", "proofs", "docs", ".ci")


class Source:
    """One Python file: its dotted module name below `src`, and its tree."""

    def __init__(self, module: str, text: str, *, package: bool = False) -> None:
        """Keep the text; it is parsed when first needed."""
        self.module = module
        self.text = text
        self.package = package

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, self.module)

    @property
    def folder(self) -> str:
        """The package against which this file's relative imports are resolved."""
        return self.module if self.package else self.module.rpartition(".")[0]


class Literal(NamedTuple):
    """A string in the code: each value of an f-string is replaced by `VALUE`."""

    line: int
    text: str


def read_sources() -> list[Source]:
    """Read every module of the package."""
    found: list[Source] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        package = parts[-1] == "__init__"
        found.append(Source(".".join(parts[:-1] if package else parts), path.read_text(encoding="utf-8"), package=package))
    return found


def project_files(*suffixes: str) -> list[Path]:
    """List the project's own files that end so, at the top and in its rooms; caches and environments are in none of them."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for room in ROOMS:
        found += [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path for path in found if path.suffix in suffixes)


def literals(tree: ast.Module) -> Iterator[Literal]:
    """Yield every string but the docstrings (any statement that is only a string)."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = [str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values]
            yield Literal(node.lineno, "".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in skipped:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield Literal(node.lineno, text)
