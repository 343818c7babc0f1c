"""The demonstration: a folder of real photographs goes through the queue and comes out as thumbnails and an inventory.

`rt` below is what an application's own `jobs.py` looks like. `main` prepares a folder, starts `python -m angelrt worker
angelrt.demo:rt` as a process of its own, sends one job per file and one for the report, and tells what became of each.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from angelrt import Runtime

from .errors import AngelError, ConfigError, JobFailed

try:
    from PIL import ExifTags, Image

    from .actors import photo_processing
except ModuleNotFoundError as missing:
    message = f"the demo needs {missing.name}, which is not installed: pip install 'angelrt[demo]'"
    raise ConfigError(message) from missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from anyio.abc import Process

SAMPLE_PACKAGE: Final = "skimage"
SAMPLE_REQUIREMENT: Final = "scikit-image"
SAMPLE_NAMES: Final = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
"""Photographs in the wheel of scikit-image that its documentation names as public domain or CC0, by people and by NASA."""

COPIED_NAMES: Final = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
"""Samples of which the demo also sends a sideways and a recompressed copy, so that there are near-duplicates to find."""

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif"})
CONCURRENCY: Final = 8
FAILURES_SHOWN: Final = 20
REGISTER_PAUSE_S: Final = 0.05
PATIENCE_S: Final = 300.0
"""A job without an outcome this long after the one before it counts as lost."""
STOP_S: Final = 40.0
"""The worker's own grace is 25 s; after this it is killed."""

_MARKER: Final = ".angelrt-demo"
_NAME_MAX_BYTES: Final = 180

rt = Runtime()
rt.include(photo_processing.group)


@dataclass
class Outcome:
    """What became of one run of the demo; times in the unit of their names.

    `completion_rate` is the share of the sent jobs that ended, completed or failed by their own verdict: anything below 1 is lost
    work. A file that can never be read ends as failed, and that is the right end for it.
    """

    jobs: int
    completed: int
    failed: int
    completion_rate: float
    pickup_p50_ms: float | None
    pickup_p99_ms: float | None
    seconds: float
    output: str


@dataclass
class Tally:
    """The outcomes so far: the names of the described photographs, the files that failed, and what became of the report."""

    described: list[str] = field(default_factory=list[str])
    failures: list[photo_processing.Failure] = field(default_factory=list[photo_processing.Failure])
    report: photo_processing.Report | None = None
    report_error: str = ""

    @property
    def completed(self) -> int:
        """Jobs that returned a result, the report among them."""
        return len(self.described) + (self.report is not None)

    @property
    def failed(self) -> int:
        """Jobs that ended as failed, the report among them."""
        return len(self.failures) + bool(self.report_error)


def sample_photos() -> list[Path]:
    """Return the photographs that scikit-image carries in its wheel, without importing it.

    Raises ConfigError, naming the remedies, when it is not installed or carries none of them.
    """
    spec = importlib.util.find_spec(SAMPLE_PACKAGE)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"
    found = [] if folder is None else [folder / name for name in SAMPLE_NAMES if (folder / name).is_file()]
    if not found:
        message = (
            f"no sample photographs: they come inside the package {SAMPLE_REQUIREMENT} (pip install 'angelrt[demo]'); "
            "or give a folder of your own with --photos DIR"
        )
        raise ConfigError(message)
    return found


def prepare(output: Path, photos: Path | None) -> Path:
    """Fill the folder `output/input` and return it: the photographs, and three files that only look like some.

    `photos` is a folder, searched with its subfolders and linked, not copied, so that a large collection costs no space; None
    takes the samples, with some copies of them. Raises ConfigError when there are no photographs or the folder is not the demo's own.
    """
    sources = sample_photos() if photos is None else _photos_below(photos, output)
    folder = _empty_folder(output / "input")
    for source in sources:
        root = source.parent if photos is None else photos
        _link(source, _free(folder / _flat_name(source.relative_to(root))))
    if photos is None:
        for source in sources:
            if source.name in COPIED_NAMES:
                _add_copies(source, folder)
    _add_unreadable(sources, folder)
    return folder


def main(photos: Path | None, output: Path, url: str | None, *, as_json: bool = False) -> int:
    """Run the demo and print what came of it; return the exit code: 0 when every job ended and the report stands, else 1.

    `url` names a server; without one a private server runs in `output/server`. Raises ConfigError for a setting that cannot work
    and AngelError when the worker process does not stay.
    """
    output = output.absolute()
    folder = prepare(output, photos)
    address = url or f"embedded://{output / 'server'}"
    console = Console(stderr=as_json)
    paths = sorted(path for path in folder.iterdir() if path.name != _MARKER)
    with _stoppable():
        outcome, tally = anyio.run(run_demo, paths, output, address, Console(stderr=True, quiet=as_json))
    if as_json:
        sys.stdout.write(orjson.dumps(asdict(outcome)).decode() + "\n")
    else:
        _print(console, outcome, tally)
    return 0 if outcome.completion_rate == 1 and tally.report is not None else 1


async def run_demo(paths: Sequence[Path], output: Path, url: str, console: Console) -> tuple[Outcome, Tally]:
    """Send one job per path and one for the report through the server at `url`; return what became of them.

    A progress bar goes to `console`. Raises AngelError when the worker process ends by itself.
    """
    started = time.monotonic()
    tally = Tally()
    rt.url = url
    async with rt, _worker(url, output / "worker.log") as process:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("photographs", total=len(paths) + 1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_at_exit, process, tasks.cancel_scope)
                await _process(paths, output, tally, lambda: progress.advance(bar))
                tasks.cancel_scope.cancel()
        if process.returncode is not None:
            raise _worker_gone(process.returncode, output / "worker.log")
        stats = await rt.stats()
    jobs = len(paths) + 1
    outcome = Outcome(
        jobs=jobs,
        completed=tally.completed,
        failed=tally.failed,
        completion_rate=(tally.completed + tally.failed) / jobs,
        pickup_p50_ms=stats.pickup_p50_ms,
        pickup_p99_ms=stats.pickup_p99_ms,
        seconds=round(time.monotonic() - started, 3),
        output=str(output),
    )
    return outcome, tally


async def _process(paths: Sequence[Path], output: Path, tally: Tally, advance: Callable[[], None]) -> None:
    """Send everything and wait for every outcome; stop waiting at the first job that stays without one for `PATIENCE_S`."""
    await _worker_registered()
    jobs = await rt.send_many(photo_processing.process_photo.message(str(path), str(output)) for path in paths)
    try:
        for path, job in zip(paths, jobs, strict=True):
            try:
                tally.described.append((await job.result(timeout=PATIENCE_S)).file)
            except JobFailed as failed:
                tally.failures.append(photo_processing.Failure(file=path.name, error=failed.error_message))
            advance()
        report = await photo_processing.write_report.send(str(output), tally.described, tally.failures)
        tally.report = await report.result(timeout=PATIENCE_S)
        advance()
    except JobFailed as failed:
        tally.report_error = failed.error_message
    except TimeoutError:
        return  # what has no outcome by now is counted as lost


async def _worker_registered() -> None:
    """Wait for a worker of the queue, so that the pickup that is measured is the queue's and not the start of a process."""
    while not any(photo_processing.QUEUE in worker.queues for worker in await rt.workers()):  # noqa: ASYNC110 - another process registers
        await anyio.sleep(REGISTER_PAUSE_S)


@contextmanager
def _stoppable() -> Generator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, or its worker would go on without it.

    What asyncio makes of SIGINT is a cancellation, which waits for a process that is just being started; an exception would not.
    """

    def interrupt(_number: int, _frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def _worker(url: str, log: Path) -> AsyncGenerator[Process]:
    """Run a worker in a process of its own, writing to `log`; ask it to stop at the end, and kill it when it does not."""
    command = [sys.executable, "-m", "angelrt", "worker", "angelrt.demo:rt", "--url", url, "--concurrency", str(CONCURRENCY)]
    with log.open("wb") as sink:
        process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    with anyio.move_on_after(STOP_S):
        await process.wait()
        return
    process.kill()
    await process.wait()


async def _cancel_at_exit(process: Process, scope: anyio.CancelScope) -> None:
    await process.wait()
    scope.cancel()


def _worker_gone(code: int, log: Path) -> AngelError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
    return AngelError(f"the worker process ended by itself with exit code {code}; the end of {log}:\n" + "\n".join(lines))


def _photos_below(photos: Path, output: Path) -> list[Path]:
    """Return the files below `photos` that are named like photographs, but for those that an earlier run wrote."""
    if not photos.is_dir():
        text = f"--photos {photos}: there is no such folder"
        raise ConfigError(text)
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    found = [path for path in found if output not in path.absolute().parents]
    if not found:
        text = f"--photos {photos}: no file in it or below ends in {', '.join(sorted(SUFFIXES))}"
        raise ConfigError(text)
    return found


def _empty_folder(folder: Path) -> Path:
    """Return the folder, empty; only one that an earlier demo made is emptied. Raises ConfigError for any other that has files."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARKER).is_file():
            text = f"{folder} has files that the demo did not write: choose another folder with --output"
            raise ConfigError(text)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_bytes(b"")
    return folder


def _flat_name(relative: Path) -> str:
    """Return one file name for a path: printable text, at most `_NAME_MAX_BYTES` long, its suffix kept."""
    name = "__".join(relative.parts).encode(errors="surrogateescape").decode(errors="replace")
    if len(name.encode()) <= _NAME_MAX_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: _NAME_MAX_BYTES - 20].decode(errors='ignore')}-{digest}{relative.suffix}"


def _free(path: Path) -> Path:
    """Return `path`, or with a number in its name when that is taken: a/b.jpg and a__b.jpg would meet."""
    number = 1
    candidate = path
    while candidate.is_symlink() or candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.absolute())
    except OSError:
        shutil.copyfile(source, target)  # Windows lets only some users make links


def _add_copies(source: Path, folder: Path) -> None:
    """Add the two copies that people keep beside an original: turned by the camera's EXIF tag alone, and sent by a messenger."""
    with Image.open(source) as image:
        picture = image.convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / f"{source.stem}-sideways.jpg", quality=92, exif=exif)
    picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(folder / f"{source.stem}-recompressed.jpg", quality=45)


def _add_unreadable(sources: Sequence[Path], folder: Path) -> None:
    """Add a photograph cut off in the middle, a text that is named like a photograph, and an empty file."""
    jpegs = [source for source in sources if source.suffix.lower() in (".jpg", ".jpeg")]
    victim = (jpegs or list(sources))[0]
    content = victim.read_bytes()
    _free(folder / f"truncated{victim.suffix.lower()}").write_bytes(content[: len(content) // 2])
    _free(folder / "notes.jpg").write_text("Shopping list: film, batteries, a new lens cap.\n", encoding="utf-8")
    _free(folder / "empty.jpg").write_bytes(b"")


def _print(console: Console, outcome: Outcome, tally: Tally) -> None:
    """Tell people what happened: the figures, the files that failed and why, and where the report is."""
    if tally.failures:
        failures = Table(title="Files that failed", title_justify="left", show_edge=False)
        failures.add_column("file", style="bold", no_wrap=True)
        failures.add_column("why")
        for failure in tally.failures[:FAILURES_SHOWN]:
            failures.add_row(Text(failure.file), Text(failure.error))
        if len(tally.failures) > FAILURES_SHOWN:
            failures.add_row("…", f"and {len(tally.failures) - FAILURES_SHOWN:,} more: see the inventory")
        console.print(failures)
        console.print()
    figures = Table(title="Photographs through the queue", title_justify="left", show_edge=False, show_header=False)
    figures.add_column(style="bold")
    figures.add_column()
    for name, value in _figures(outcome, tally):
        figures.add_row(name, Text(value, overflow="fold"))
    console.print(figures)


def _figures(outcome: Outcome, tally: Tally) -> list[tuple[str, str]]:
    lost = outcome.jobs - outcome.completed - outcome.failed
    rows = [
        ("jobs", f"{outcome.jobs:,}: one per file and one for the report"),
        ("completed", f"{outcome.completed:,}"),
        ("failed", f"{outcome.failed:,}, each by its own verdict" if outcome.failed else "0"),
        ("completion rate", f"{outcome.completion_rate:.2%} ended, {lost:,} lost"),
        ("pickup", f"p50 {_milliseconds(outcome.pickup_p50_ms)}, p99 {_milliseconds(outcome.pickup_p99_ms)}, waiting in line included"),
        ("seconds", f"{outcome.seconds:,.1f}, the start of the worker included"),
    ]
    if tally.report is None:
        return [*rows, ("report", tally.report_error or f"none: a job had no outcome after {PATIENCE_S:.0f} s; see worker.log")]
    duplicates = f"{tally.report.near_duplicate_groups:,} groups" if tally.report.near_duplicate_groups else "none"
    rows += [("near-duplicates", duplicates), ("inventory", tally.report.inventory)]
    return [*rows, *(("contact sheet", sheet) for sheet in tally.report.contact_sheets)]


def _milliseconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f} ms"
