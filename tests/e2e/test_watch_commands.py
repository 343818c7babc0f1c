"""`top`, `jobs`, `retry` and `events`, as people start them, in a terminal and out of one."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.processes import END_S, Application
from tests.worker.waiting import until, until_ended

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.servers import Server

ROWS, COLUMNS = 40, 100
NEXT_SCREEN: Final = "\x1b[H"
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
STYLE: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, app: Application, *arguments: str) -> None:
        """Start the command."""
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.settings = termios.tcgetattr(self._slave)
        unwanted = ("ANGELRT_URL", "ANGELRT_NAMESPACE", "COLUMNS", "LINES", "NO_COLOR")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "angelrt", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=app.folder,
            env={**environment, "TERM": "xterm-256color", "ANGELRT_URL": app.url, "ANGELRT_NAMESPACE": app.namespace},
            start_new_session=True,
        )
        self.text = ""
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        self.text += os.read(self._master, 65_536).decode(errors="replace")

    @property
    def screen(self) -> str:
        """What stands on the screen: the last frame that was written whole, without colours."""
        return STYLE.sub("", self.text.split(NEXT_SCREEN)[-1])

    async def shows(self, words: str) -> None:
        """Return when the words stand on the screen."""
        await until(lambda: words in self.screen, f"{words!r} on the screen:\n{self.text[-4_000:]}")

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    async def ends(self) -> int:
        """Return the exit code when the command has ended, its terminal being as it was before."""
        await until(lambda: self.process.poll() is not None, f"it ends:\n{self.text[-4_000:]}")
        assert termios.tcgetattr(self._slave) == self.settings
        return self.process.returncode

    def close(self) -> None:
        """Kill what still runs and close the terminal."""
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(END_S)
        os.close(self._master)
        os.close(self._slave)


@asynccontextmanager
async def in_terminal(app: Application, *arguments: str) -> AsyncGenerator[Terminal]:
    """Run a command in a terminal while the block lasts."""
    terminal = Terminal(app, *arguments)
    try:
        yield terminal
    finally:
        terminal.close()


# -- top ------------------------------------------------------------------------------------------------------------------------------


async def test_top_shows_what_happens_while_it_runs_and_q_ends_it(one_app: Application) -> None:
    async with one_app.runtime() as rt, in_terminal(one_app, "top", "--interval", "0.2") as terminal:
        await terminal.shows("No job has been sent to this namespace yet.")
        await terminal.shows("No worker is running.")
        await rt.send("double", {"number": 1})
        await terminal.shows("default")
        await one_app.worker()
        await terminal.shows("1 live worker, 0 of 100 slots taken")
        await terminal.shows("100.00%")
        await terminal.shows("double")
        assert len(terminal.screen.splitlines()) <= ROWS
        terminal.types("q")
        assert await terminal.ends() == 0
    assert terminal.text.index(OTHER_SCREEN) < terminal.text.index(FIRST_SCREEN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_top_is_ended_by_a_signal_and_leaves_the_terminal_as_it_was(one_app: Application, number: signal.Signals) -> None:
    async with in_terminal(one_app, "top") as terminal:
        await terminal.shows("q ends")
        terminal.process.send_signal(number)
        assert await terminal.ends() == 0
    assert FIRST_SCREEN in terminal.text


async def test_top_waits_for_a_server_that_goes_away(own_server: Server, namespace: str, tmp_path: Path) -> None:
    app = Application(tmp_path, own_server.url, namespace)
    async with in_terminal(app, "top", "--interval", "0.2") as terminal:
        await terminal.shows("q ends")
        own_server.kill()
        await terminal.shows("no answer from the server since")
        assert "q ends" in terminal.screen
        own_server.start()
        await until(lambda: "no answer" not in terminal.screen and "q ends" in terminal.screen, "it goes on")
        terminal.types("q")
        assert await terminal.ends() == 0
    assert "Traceback" not in terminal.text


def test_top_writes_a_line_for_each_look(one_app: Application) -> None:
    process = one_app.run("top", "--json", "--count", "2", "--interval", "0.2")
    assert (process.code, process.err) == (0, "")
    assert [json.loads(line)["workers"] for line in process.out.splitlines()] == [[], []]


# -- jobs and retry -------------------------------------------------------------------------------------------------------------------


async def test_failed_job_is_found_and_retried(one_app: Application) -> None:
    await one_app.worker()
    async with one_app.runtime() as rt:
        job = await rt.send("breaks")
        await until_ended(job)
        text = one_app.run("jobs", "--state", "failed", "--text", "no such customer").out
        assert f"{job.id}  failed 0 s ago" in re.sub(r"failed \d+ s ago", "failed 0 s ago", text)
        assert "LookupError: no such customer" in text
        again = one_app.run("retry", job.id, "--json")
        assert (again.code, json.loads(again.out)["id"]) == (0, job.id)
        await until_ended(job)
        assert [run.ended_as for run in (await job.info()).timeline] == ["failed"]


# -- events ---------------------------------------------------------------------------------------------------------------------------


async def test_events_are_followed_until_ctrl_c(one_app: Application) -> None:
    async with one_app.runtime() as rt:
        first = await rt.send("double", {"number": 1})
        process = one_app.start("events", "--follow", "--json")
        await until(lambda: first.id in process.out, "what has happened is shown")
        second = await rt.send("double", {"number": 2})
        await until(lambda: second.id in process.out, "what happens is shown")
        process.send_signal(signal.SIGINT)
        assert await process.ends() == 0
    events = [json.loads(line) for line in process.out.splitlines()]
    assert [(event["verb"], event["ids"]) for event in events] == [("enqueue", [first.id]), ("enqueue", [second.id])]
    assert process.err == ""


# -- what goes wrong ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "words"), [("retry", "no job 'nobody': it was never sent"), ("jobs", "did not answer within 5 s")])
def test_error_is_one_line_and_ends_with_1(one_app: Application, command: str, words: str) -> None:
    arguments = (command, "nobody") if command == "retry" else (command, "--url", f"unix://{one_app.folder}/nowhere.sock")
    process = one_app.run(*arguments)
    assert (process.code, process.out) == (1, "")
    assert process.err.startswith("error: ")
    assert words in process.err
    assert len(process.err.splitlines()) == 1


def test_state_that_there_is_not_is_refused(one_app: Application) -> None:
    process = one_app.run("jobs", "--state", "lost")
    assert process.code == 2
    assert "'lost' is not one of 'leased', 'ready'" in process.err
