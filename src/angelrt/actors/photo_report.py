"""The report on many photographs: an inventory in JSON and a contact sheet to look at.

Plain functions: the same records give the same bytes, so writing the report twice changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import orjson
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict

from .photo_image import Photo, encode, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NEAR_DUPLICATE_BITS: Final = 8
"""Two photographs are near-duplicates when at most this many of the 64 bits of their perceptual hashes differ."""

PHOTOS_PER_SHEET: Final = 60
FAILURES_LISTED: Final = 20
SHEET_QUALITY: Final = 90

_COLUMNS: Final = 4
_MARGIN: Final = 48
_GAP: Final = 20
_CARD_WIDTH: Final = 330
_PICTURE_HEIGHT: Final = 248
_CAPTION_HEIGHT: Final = 96
_CARD_HEIGHT: Final = _PICTURE_HEIGHT + _CAPTION_HEIGHT
_HEADER_HEIGHT: Final = 140
_FAILURE_LINE: Final = 30
_WIDTH: Final = 2 * _MARGIN + _COLUMNS * _CARD_WIDTH + (_COLUMNS - 1) * _GAP

_PAPER: Final = "#f4f2ee"
_CARD: Final = "#ffffff"
_MAT: Final = "#e8e5de"
_INK: Final = "#23211e"
_FAINT: Final = "#79746a"
_ALARM: Final = "#a8322a"
_GROUP_COLOURS: Final = ("#2f6f8f", "#a65a2e", "#4d7c3a", "#7b4b94", "#b0863a", "#3f5fa8", "#9c3f5f", "#2f7f6f")

_TITLE_SIZE: Final = 34
_NAME_SIZE: Final = 18
_SMALL_SIZE: Final = 15


class Failure(BaseModel):
    """A file that did not become a photograph, and why."""

    model_config = ConfigDict(frozen=True)

    file: str
    error: str


class Report(BaseModel):
    """What the report counts and where it lies; `near_duplicate_groups` are sets of two or more photographs of one motif."""

    model_config = ConfigDict(frozen=True)

    photos: int
    failures: int
    near_duplicate_groups: int
    inventory: str
    contact_sheets: list[str]


def near_duplicates(photos: Sequence[Photo]) -> dict[str, list[str]]:
    """Return, for each file, the files whose perceptual hash differs in at most `NEAR_DUPLICATE_BITS` bits, in order of name."""
    names = np.array([photo.file for photo in photos])
    hashes: NDArray[np.uint64] = np.array([int(photo.phash, 16) for photo in photos], dtype=np.uint64)
    found: dict[str, list[str]] = {}
    for position, photo in enumerate(photos):
        near = np.bitwise_count(hashes ^ hashes[position]) <= NEAR_DUPLICATE_BITS
        near[position] = False
        found[photo.file] = sorted(str(name) for name in names[near])
    return found


def duplicate_groups(neighbours: dict[str, list[str]]) -> list[list[str]]:
    """Return the near-duplicates as groups of files: whoever is linked through others belongs to the same group."""
    groups: list[list[str]] = []
    seen: set[str] = set()
    for start in sorted(neighbours):
        if start in seen or not neighbours[start]:
            continue
        group, waiting = {start}, [start]
        while waiting:
            fresh = set(neighbours[waiting.pop()]) - group
            group |= fresh
            waiting.extend(fresh)
        seen |= group
        groups.append(sorted(group))
    return groups


def write_report_files(output: Path, photos: Sequence[Photo], failures: Sequence[Failure]) -> Report:
    """Write `inventory.json` and the contact sheets to `output`; raises OSError when the disk refuses."""
    ordered = sorted(photos, key=lambda photo: photo.file)
    troubles = sorted(failures, key=lambda failure: failure.file)
    neighbours = near_duplicates(ordered)
    groups = duplicate_groups(neighbours)
    inventory = {
        "photos": [photo.model_dump(mode="json") | {"near_duplicates": neighbours[photo.file]} for photo in ordered],
        "failures": [failure.model_dump() for failure in troubles],
    }
    write_atomically(output / "inventory.json", orjson.dumps(inventory, option=orjson.OPT_INDENT_2))
    return Report(
        photos=len(ordered),
        failures=len(troubles),
        near_duplicate_groups=len(groups),
        inventory=str(output / "inventory.json"),
        contact_sheets=_write_sheets(output, ordered, troubles, groups),
    )


def _write_sheets(output: Path, photos: list[Photo], failures: list[Failure], groups: list[list[str]]) -> list[str]:
    pages = [photos[start : start + PHOTOS_PER_SHEET] for start in range(0, len(photos), PHOTOS_PER_SHEET)] or [[]]
    letters = {file: number for number, group in enumerate(groups) for file in group}
    summary = " · ".join(
        [
            _counted(len(photos), "photograph"),
            _counted(len(groups), "group") + " of near-duplicates",
            _counted(len(failures), "file") + " not readable",
        ]
    )
    sheets: list[str] = []
    for number, page in enumerate(pages, start=1):
        heading = summary if len(pages) == 1 else f"{summary} · sheet {number} of {len(pages)}"
        last = number == len(pages)
        path = output / ("contact-sheet.jpg" if number == 1 else f"contact-sheet-{number}.jpg")
        sheet = draw_sheet(output, page, failures if last else [], letters, heading)
        write_atomically(path, encode(sheet, "JPEG", quality=SHEET_QUALITY))
        sheets.append(str(path))
    return sheets


def draw_sheet(
    output: Path, photos: Sequence[Photo], failures: Sequence[Failure], group_numbers: dict[str, int], heading: str
) -> Image.Image:
    """Return one contact sheet: a card per photograph, then the files that could not be read, each with its reason."""
    rows = -(-len(photos) // _COLUMNS)
    grid_height = rows * (_CARD_HEIGHT + _GAP)
    listed = failures[:FAILURES_LISTED]
    lines = len(listed) + (len(failures) > len(listed))
    footer_height = (lines + 1) * _FAILURE_LINE + 2 * _GAP if failures else 0
    sheet = Image.new("RGB", (_WIDTH, _HEADER_HEIGHT + grid_height + footer_height + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), "Contact sheet", fill=_INK, font=_font(_TITLE_SIZE))
    draw.text((_MARGIN, _MARGIN + 46), heading, fill=_FAINT, font=_font(_NAME_SIZE))
    for position, photo in enumerate(photos):
        row, column = divmod(position, _COLUMNS)
        corner = (_MARGIN + column * (_CARD_WIDTH + _GAP), _HEADER_HEIGHT + row * (_CARD_HEIGHT + _GAP))
        _draw_card(sheet, draw, corner, output, photo, group_numbers.get(photo.file))
    if failures:
        _draw_failures(draw, _HEADER_HEIGHT + grid_height, listed, len(failures))
    return sheet


def _draw_card(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], output: Path, photo: Photo, group: int | None
) -> None:
    left, top = corner
    right, bottom = left + _CARD_WIDTH, top + _CARD_HEIGHT
    draw.rounded_rectangle((left, top, right, bottom), radius=8, fill=_CARD)
    draw.rounded_rectangle((left, top, right, top + _PICTURE_HEIGHT), radius=8, fill=_MAT, corners=(True, True, False, False))
    with Image.open(output / photo.thumbnails[1].file) as thumbnail:
        picture = thumbnail.convert("RGB")
    picture.thumbnail((_CARD_WIDTH - 20, _PICTURE_HEIGHT - 20), Image.Resampling.LANCZOS)
    sheet.paste(picture, (left + (_CARD_WIDTH - picture.width) // 2, top + (_PICTURE_HEIGHT - picture.height) // 2))
    if group is not None:
        _draw_group(draw, right - 14, top + 14, group)
    _draw_caption(draw, left + 14, top + _PICTURE_HEIGHT + 12, photo)


def _draw_group(draw: ImageDraw.ImageDraw, right: int, top: int, group: int) -> None:
    text = f"near-duplicates {group + 1}"
    font = _font(_SMALL_SIZE)
    width = round(font.getlength(text)) + 20
    colour = _GROUP_COLOURS[group % len(_GROUP_COLOURS)]
    draw.rounded_rectangle((right - width, top, right, top + 26), radius=13, fill=colour, outline="white", width=2)
    draw.text((right - width / 2, top + 13), text, fill="white", font=font, anchor="mm")


def _draw_caption(draw: ImageDraw.ImageDraw, left: int, top: int, photo: Photo) -> None:
    room = _CARD_WIDTH - 28
    name_font, small_font = _font(_NAME_SIZE), _font(_SMALL_SIZE)
    draw.text((left, top), _shortened(photo.file, name_font, room), fill=_INK, font=name_font)
    taken = "" if photo.taken_at is None else f" · {photo.taken_at:%Y-%m-%d %H:%M}"
    facts = f"{photo.width} x {photo.height} {photo.format} · sharpness {photo.sharpness:,.0f}{taken}"
    draw.text((left, top + 26), _shortened(facts, small_font, room), fill=_FAINT, font=small_font)
    total = sum(colour.share for colour in photo.colours) or 1.0
    start = 0.0
    for colour in photo.colours:
        end = start + room * colour.share / total
        draw.rectangle((left + round(start), top + 54, left + round(end), top + 68), fill=colour.hex)
        start = end
    draw.rectangle((left, top + 54, left + room, top + 68), outline=_MAT)


def _draw_failures(draw: ImageDraw.ImageDraw, top: int, listed: Sequence[Failure], total: int) -> None:
    font = _font(_NAME_SIZE)
    room = _WIDTH - 2 * _MARGIN
    draw.line((_MARGIN, top + _GAP // 2, _WIDTH - _MARGIN, top + _GAP // 2), fill=_MAT, width=2)
    top += 2 * _GAP - 8
    draw.text((_MARGIN, top), "Not readable", fill=_ALARM, font=font)
    for failure in listed:
        top += _FAILURE_LINE
        draw.text((_MARGIN, top), _shortened(failure.error, font, room), fill=_INK, font=font)
    if total > len(listed):
        text = f"and {total - len(listed)} more: see inventory.json"
        draw.text((_MARGIN, top + _FAILURE_LINE), text, fill=_FAINT, font=font)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """Return `text`, or its two ends around an ellipsis when it is wider than `room` pixels: a file's suffix stays visible."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text

    def ends(dropped: int) -> str:
        tail = (len(text) - dropped) // 3
        return f"{text[: len(text) - dropped - tail]}…{text[len(text) - tail :]}"

    return ends(bisect_left(range(len(text)), True, lo=1, key=lambda dropped: font.getlength(ends(dropped)) <= room))  # noqa: FBT003 - the value sought


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow carries, so that a sheet looks the same on every machine."""
    return ImageFont.load_default(size)
