"""Photographs through the queue: one job per file, then one job for the report.

An ordinary user of the public API: `Actors`, an actor that runs in a process, one that runs in a thread, and `Fail`. Include the
group and send:

    rt.include(photo_processing.group)
    jobs = await rt.send_many(process_photo.message(str(path), "out") for path in paths)

Paths are read and written by the worker, so worker and sender share the folders. A job may run twice (a worker can die after its
files are written and before its outcome is): every file is written under a temporary name and renamed, and the second run
writes the same content again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from angelrt import Actors, Fail

from .photo_image import Photo, describe, record_path
from .photo_report import Failure, Report, write_report_files

__all__ = ["QUEUE", "Failure", "Photo", "Report", "group", "process_photo", "write_report"]

QUEUE: Final = "photos"

group = Actors(queue=QUEUE)


@group.process_actor(timeout=60)
def process_photo(path: str, output: str) -> Photo:
    """Make thumbnails of the photograph at `path` under `output`, measure it, and return its record.

    In a process, not a thread, because a decoder that hangs or crashes on a hostile file can then be killed and takes nothing
    else along. Raises Fail, with words for people, when the file can never be read; any other error is retried.
    """
    return describe(Path(path), Path(output))


@group.thread_actor()
def write_report(output: str, files: list[str], failures: list[Failure]) -> Report:
    """Write the inventory and the contact sheet of the photographs named `files` that `process_photo` described under `output`.

    Takes names and reads the records from disk, because the arguments of a job are limited to 1 MiB and a folder is not.
    Raises Fail when a record is missing.
    """
    folder = Path(output)
    return write_report_files(folder, [_read_record(folder, name) for name in files], failures)


def _read_record(output: Path, name: str) -> Photo:
    try:
        return Photo.model_validate_json(record_path(output, name).read_bytes())
    except FileNotFoundError as error:
        message = f"there is no record of {name} in {output}: run process_photo for it first, with the same output"
        raise Fail(message) from error
