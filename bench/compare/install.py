"""An environment of its own for each peer, in a cache: a venv, or node_modules for one on Node. Made once for each set of pins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from .catalog import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .catalog import Peer

ADAPTERS = ROOT / "bench" / "compare" / "peers"
INSTALL_S = 300


class NotInstalled(Exception):  # noqa: N818 - reads as what happened
    """A peer has no environment, with the reason."""


class Environment(NamedTuple):
    """How a peer's adapter is started: its command, and what the process needs to know."""

    command: tuple[str, ...]
    variables: dict[str, str]


def here(peer: Peer) -> Environment:
    """Return the environment of this very interpreter, for whatever is installed in it. Raises NotInstalled."""
    if peer.node:
        message = "it runs on Node, not in this interpreter"
        raise NotInstalled(message)
    return Environment((sys.executable, "-m", f"bench.compare.peers.{peer.name}"), {"PYTHONPATH": os.pathsep.join(sys.path)})


def prepared(peer: Peer, cache: Path) -> Environment:
    """Return the environment of a peer, made now if it is not there. Raises NotInstalled."""
    folder = cache / peer.name
    mark = folder / "installed.json"
    wanted = json.dumps([sys.version, *peer.requirements])
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for command in node_commands(peer, folder) if peer.node else python_commands(peer, folder):
            run(command, folder)
        mark.write_text(wanted, encoding="utf-8")
    if peer.node:
        return Environment((found("node"), str(ADAPTERS / f"{peer.name}.mjs")), {"COMPARE_MODULES": str(folder)})
    return Environment((str(folder / "bin" / "python"), "-m", f"bench.compare.peers.{peer.name}"), {})


def python_commands(peer: Peer, folder: Path) -> list[list[str]]:
    """Return the commands that make a venv of the interpreter that runs this, so that all of Python run on the same."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return [[sys.executable, "-m", "venv", str(folder)], [*pip, *peer.requirements]]


def node_commands(peer: Peer, folder: Path) -> list[list[str]]:
    """Return the command that fills node_modules."""
    return [[found("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--fetch-retries", "1", *peer.requirements]]


def found(program: str) -> str:
    """Return the path of a program. Raises NotInstalled."""
    path = shutil.which(program)
    if path is None:
        message = f"no {program} on PATH"
        raise NotInstalled(message)
    return path


def run(command: list[str], folder: Path) -> None:
    """Run one step; raises NotInstalled with the last words of the program."""
    try:
        done = subprocess.run(command, check=False, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} took over {INSTALL_S} s"
        raise NotInstalled(message) from error
    if done.returncode:
        words = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        message = " | ".join(words[-2:]) or f"{command[0]} ended with {done.returncode}"
        raise NotInstalled(message)
