"""The main job from end to end: the command, its worker in a process of its own, a real server, files in and files out."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHOTOS = 5
BAD = {"empty.jpg": "empty file", "notes.jpg": "text file", "truncated.jpg": "damaged"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    gradient = Image.radial_gradient("L")
    for number in range(PHOTOS):
        gradient.rotate(72 * number, fillcolor=40 * number).resize((320, 240)).save(folder / f"{number}.jpg")
    return folder


def command(*arguments: object) -> list[str]:
    """Return the command as a person types it."""
    return [sys.executable, "-m", "angelrt", "demo", *map(str, arguments)]


def run_demo(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; one that hangs is asked to stop, so that its worker stops too."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as demo:
        try:
            stdout, stderr = demo.communicate(timeout=50)
        except BaseException:
            demo.terminate()
            raise
    return subprocess.CompletedProcess(demo.args, demo.returncode, stdout, stderr)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, f"not within 40 s: {what}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether no process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_unused(server: Path) -> bool:
    """Tell whether no process uses the embedded server of a directory any more."""
    with (server / "users.lock").open("rb+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_photographs_go_in_and_an_inventory_comes_out(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    ended = run_demo("--photos", photos, "--output", out, "--json")
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout.splitlines()[-1])
    timed = {name: outcome.pop(name) for name in ("pickup_p50_ms", "pickup_p99_ms", "seconds")}
    assert outcome == {
        "jobs": PHOTOS + len(BAD) + 1,
        "completed": PHOTOS + 1,
        "failed": len(BAD),
        "completion_rate": 1.0,
        "output": str(out),
    }
    assert all(value > 0 for value in timed.values())
    inventory = json.loads((out / "inventory.json").read_bytes())
    assert [photo["file"] for photo in inventory["photos"]] == [f"{number}.jpg" for number in range(PHOTOS)]
    assert [failure["file"] for failure in inventory["failures"]] == list(BAD)
    assert all(BAD[failure["file"]] in failure["error"] for failure in inventory["failures"])
    for photo in inventory["photos"]:
        for thumbnail in photo["thumbnails"]:
            with Image.open(out / thumbnail["file"]) as image:
                assert (image.format, *image.size) == ("WEBP", thumbnail["width"], thumbnail["height"])
    with Image.open(out / "contact-sheet.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_a_person_is_told_what_failed_and_where_the_report_is(tmp_path: Path, photos: Path) -> None:
    ended = run_demo("--photos", photos, "--output", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    for name in BAD:
        assert name in ended.stdout
    told = "".join(ended.stdout.split())
    assert "inventory.json" in told
    assert "contact-sheet.jpg" in told


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    ended = run_demo("--photos", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert ended.returncode == 2
    assert "there is no such folder" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_a_worker_that_ends_by_itself_ends_the_demo_with_its_last_words(tmp_path: Path, photos: Path) -> None:
    ended = run_demo("--photos", photos, "--output", tmp_path / "out", ANGELRT_LOG_LEVEL="loud")
    assert ended.returncode == 1
    told = " ".join(ended.stderr.split())
    assert "the worker process ended by itself with exit code 2" in told
    assert "loud" in told


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path, photos: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command("--photos", photos, "--output", out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as demo:
        wait_for((out / "worker.log").is_file, "the worker's log")
        demo.send_signal(how)
        assert demo.wait(50) != 0
    wait_for(lambda: is_unused(out / "server"), "the end of every user of the server")


STOPPED_AT_ITS_WORKERS_START = """
import os, pathlib, signal, subprocess, sys
from angelrt import demo

start = subprocess.Popen.__init__

def start_and_be_stopped(process, args, *others, **options):
    start(process, args, *others, **options)
    if "worker" in args:
        print(process.pid, flush=True)
        signal.raise_signal(signal.SIGTERM)

subprocess.Popen.__init__ = start_and_be_stopped
demo.main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), None)
"""


def test_a_demo_that_is_stopped_in_the_moment_in_which_its_worker_starts_leaves_none_behind(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    argv = [sys.executable, "-c", STOPPED_AT_ITS_WORKERS_START, photos, out]
    demo = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=50)
    assert demo.returncode != 0
    worker = int(demo.stdout)
    wait_for(lambda: is_gone(worker), "the end of the worker")
    wait_for(lambda: is_unused(out / "server"), "the end of every user of the server")
