"""What `angelrt` exports exists, is in order, and explains itself."""

from __future__ import annotations

import ast
import importlib
import inspect
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from angelrt.job import View
from tests.tidy.project import LUA, Source, read_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWERING = ("angelrt.control", "angelrt.dead_letters", "angelrt.schedules", "angelrt.usage")
"""The modules behind `rt.control`, `rt.dead_letters` and `rt.schedules`."""


def in_order(names: Sequence[str]) -> list[str]:
    """Sort as ruff does: constants, then classes, then functions."""
    return sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[:1].isupper() else 2, name))


def export_problems(names: Sequence[str], module: Mapping[str, object]) -> list[str]:
    """Find exports that are missing, unordered, doubled, or without a docstring of their own."""
    found = [] if list(names) == in_order(names) else [f"__all__ is not sorted: {in_order(names)}"]
    found += [f"{name}: twice in __all__" for name in sorted(set(names)) if list(names).count(name) > 1]
    for name in names:
        if name not in module:
            found.append(f"{name}: in __all__, and not there")
            continue
        value = module[name]
        if inspect.isclass(value) or inspect.isroutine(value):
            text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
            if not text or text.startswith(f"{name}("):  # a dataclass writes its signature where nobody wrote a docstring
                found.append(f"{name}: has no docstring")
    return found


def undocumented(source: Source) -> list[str]:
    """Find public classes, functions and methods without a docstring; overloads and setters speak through their originals."""
    found: list[str] = []
    scopes: list[tuple[str, list[ast.stmt]]] = [(source.module, source.tree.body)]
    for where, body in scopes:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            name = f"{where}.{node.name}"
            marks = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if not ast.get_docstring(node) and not marks & {"overload", "setter", "override"}:
                found.append(f"{name}:{node.lineno}: has no docstring")
            if isinstance(node, ast.ClassDef):
                scopes.append((name, node.body))
    return found


def test_exports_are_sorted_importable_and_documented() -> None:
    module = importlib.import_module("angelrt")
    assert module.__all__
    assert export_problems(module.__all__, {name: getattr(module, name) for name in module.__all__ if hasattr(module, name)}) == []


def test_what_answers_is_exported_and_has_json_names_in_camel_case() -> None:
    module = importlib.import_module("angelrt")
    answers = [view for view in View.__subclasses__() if view.__module__ in ANSWERING]
    assert len(answers) >= len(ANSWERING)
    assert [view.__name__ for view in answers if getattr(module, view.__name__, None) is not view] == []
    exported = [value for value in map(vars(module).get, module.__all__) if inspect.isclass(value) and issubclass(value, BaseModel)]
    names = [name for view in exported for name in view.model_json_schema(mode="serialization")["properties"]]
    assert {"nextAt", "pausedBy", "failedAt", "lastDueAt"} <= {*names}
    assert [name for name in names if "_" in name] == []


def test_every_public_name_has_a_docstring() -> None:
    assert [problem for source in read_sources() for problem in undocumented(source)] == []


def test_installed_package_holds_its_data() -> None:
    installed = resources.files("angelrt")
    assert installed.joinpath("py.typed").is_file()
    assert sorted(entry.name for entry in installed.joinpath("lua").iterdir()) == sorted(path.name for path in LUA.iterdir())


class Silent: ...


def documented() -> None:
    """Say something."""


BROKEN = {
    "unsorted": (("documented", "Documented"), {"documented": documented, "Documented": 1}),
    "missing": (("documented",), {}),
    "twice": (("documented", "documented"), {"documented": documented}),
    "silent-class": (("Silent",), {"Silent": Silent}),
    "silent-function": (("quiet",), {"quiet": lambda: None}),
}
UNDOCUMENTED = {
    "function": "def f(): ...",
    "class": "class A: ...",
    "method": 'class A:\n    """A."""\n    async def run(self): ...',
    "property": 'class A:\n    """A."""\n    @property\n    def size(self): return 1',
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_exports_are_found(name: str) -> None:
    names, module = BROKEN[name]
    assert len(export_problems(names, module)) == 1


def test_sound_exports_pass() -> None:
    names = ("LIMIT", "Path", "documented")
    assert export_problems(names, {"LIMIT": 1, "Path": LUA.__class__.__base__, "documented": documented}) == []


@pytest.mark.parametrize("name", UNDOCUMENTED)
def test_undocumented_name_is_found(name: str) -> None:
    assert len(undocumented(Source("angelrt.actor", UNDOCUMENTED[name]))) == 1


def test_private_and_overloaded_names_need_no_docstring() -> None:
    assert undocumented(Source("angelrt.actor", "def _f(): ...\n@typing.overload\ndef f(x): ...\nclass _A:\n    def g(self): ...")) == []
