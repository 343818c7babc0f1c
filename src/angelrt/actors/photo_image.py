"""One photograph: read it upright, measure it, write its thumbnails and its record.

Plain functions without a queue, so that they can be called, tested and reused anywhere; `photo_processing` makes actors of them.
Every file appears under its name complete or not at all, and a second run writes the same bytes again.
"""

from __future__ import annotations

import codecs
import io
import os
import struct
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import imagehash
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from angelrt import Fail

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS: Final = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")
"""What is read. Pillow knows more, but some of its readers start other programs (EPS runs Ghostscript)."""

THUMBNAIL_EDGES: Final = (160, 320, 640)
"""Longest edges of the thumbnails in pixels; a smaller photograph is never enlarged."""

WORKING_EDGE: Final = 1024
"""Longest edge, in pixels, of the copy on which colours, sharpness and hash are measured."""

COLOURS_KEPT: Final = 5
PALETTE_SIZE: Final = 32
SHADE_DISTANCE: Final = 48.0
"""Distance in RGB, 0..255 a channel, below which two shades pass for one colour."""

THUMBNAIL_QUALITY: Final = 82

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright (EXIF 2.32, tag 0x0112); 1 needs nothing."""

_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType] - Pillow leaves this one untyped

_SIDEWAYS: Final = (5, 6, 7, 8)
"""The orientations that exchange width and height."""

_BROKEN_DATA: Final = (SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, struct.error, zlib.error)
"""What Pillow's readers let through when the bytes of a file contradict each other."""

_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\x00", b"MM\x00*", b"BM")


class UnreadablePhoto(Fail):
    """The file can never become a photograph, so running the job again would not help; the text is for people."""


class Thumbnail(BaseModel):
    """A thumbnail: its file, relative to the output folder, and its size in pixels."""

    model_config = ConfigDict(frozen=True)

    file: str
    width: int
    height: int


class Colour(BaseModel):
    """A dominant colour as `#rrggbb` and its share of the picture, from 0 to 1."""

    model_config = ConfigDict(frozen=True)

    hex: str
    share: float


class Photo(BaseModel):
    """What is known about one photograph.

    `width` and `height` are in pixels, as a person sees the picture: after its EXIF orientation. `taken_at` is the time on the
    camera's clock, with a zone only where the camera wrote one. `sharpness` has no unit: see `sharpness()`. `phash` is the
    64-bit perceptual hash in hexadecimal.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    width: int
    height: int
    format: str
    taken_at: datetime | None
    thumbnails: list[Thumbnail]
    colours: list[Colour]
    sharpness: float
    phash: str


class Picture(NamedTuple):
    """A decoded photograph: upright, RGB, shrunk to `WORKING_EDGE`, with what only the original file knew."""

    image: Image.Image
    width: int
    height: int
    format: str
    taken_at: datetime | None


def read_picture(path: Path) -> Picture:
    """Decode the photograph at `path`.

    Raises UnreadablePhoto when the file is missing, empty, damaged, no picture, or larger than Pillow's limit against
    decompression bombs; OSError when the disk fails, which may pass.
    """
    _check_file(path)
    decoded = _decode(path)
    working = _to_rgb(decoded.image)
    working.thumbnail((WORKING_EDGE, WORKING_EDGE), Image.Resampling.LANCZOS)
    turn = _UPRIGHT.get(decoded.orientation)
    upright = working if turn is None else working.transpose(turn)
    width, height = decoded.size
    if decoded.orientation in _SIDEWAYS:
        width, height = height, width
    return Picture(upright, width, height, decoded.format, decoded.taken_at)


def sharpness(image: Image.Image) -> float:
    """Return the variance of the Laplacian of the grey picture: the higher, the sharper; about 0 for an even surface.

    The measure LAPV of J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study",
    ICPR 2000. It depends on the resolution, so compare only values taken at one size, as `describe` does with `WORKING_EDGE`.
    """
    grey: NDArray[np.float64] = np.asarray(image.convert("L"), dtype=np.float64)
    if min(grey.shape) < 3:  # noqa: PLR2004 - the kernel is 3 x 3
        return 0.0
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return round(float(laplacian.var()), 2)


def dominant_colours(image: Image.Image, count: int = COLOURS_KEPT) -> list[Colour]:
    """Return up to `count` clearly different colours of an RGB picture, the one that covers most of it first.

    Median cut refined by k-means finds `PALETTE_SIZE` shades; a shade within `SHADE_DISTANCE` of a more common one counts as that.
    """
    small = image.copy()
    small.thumbnail((128, 128))
    reduced = small.quantize(colors=PALETTE_SIZE, method=Image.Quantize.MEDIANCUT, kmeans=2)
    shades: NDArray[np.int64] = np.array(reduced.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
    covered: NDArray[np.int64] = np.bincount(np.asarray(reduced).ravel(), minlength=len(shades))
    kept: dict[int, int] = {}
    for index in (int(index) for index in np.argsort(-covered, kind="stable") if covered[index]):
        like = (other for other in kept if np.linalg.norm(shades[other] - shades[index]) <= SHADE_DISTANCE)
        head = next(like, index)
        kept[head] = kept.get(head, 0) + int(covered[index])
    pixels = reduced.width * reduced.height
    ranked = sorted(kept.items(), key=lambda item: -item[1])
    return [Colour(hex="#{:02x}{:02x}{:02x}".format(*shades[index]), share=round(part / pixels, 4)) for index, part in ranked[:count]]


def perceptual_hash(image: Image.Image) -> str:
    """Return the 64-bit perceptual hash (pHash, by discrete cosine transform) as 16 hexadecimal digits."""
    return str(imagehash.phash(image))


def write_thumbnails(image: Image.Image, name: str, output: Path) -> list[Thumbnail]:
    """Write one WebP per size of `THUMBNAIL_EDGES` to `output/thumbnails/SIZE/NAME.webp`; return them, the smallest first."""
    thumbnails: list[Thumbnail] = []
    for edge in THUMBNAIL_EDGES:
        small = image.copy()
        small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        file = f"thumbnails/{edge}/{name}.webp"
        write_atomically(output / file, encode(small, "WEBP", quality=THUMBNAIL_QUALITY))
        thumbnails.append(Thumbnail(file=file, width=small.width, height=small.height))
    return thumbnails


def describe(path: Path, output: Path) -> Photo:
    """Read the photograph at `path`, write its thumbnails and its record under `output`, and return the record.

    Files are named after `path.name`, so two photographs of the same name need two output folders.
    Raises UnreadablePhoto, or OSError when a file cannot be written.
    """
    picture = read_picture(path)
    photo = Photo(
        file=path.name,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        taken_at=picture.taken_at,
        thumbnails=write_thumbnails(picture.image, path.name, output),
        colours=dominant_colours(picture.image),
        sharpness=sharpness(picture.image),
        phash=perceptual_hash(picture.image),
    )
    write_atomically(record_path(output, path.name), photo.model_dump_json(indent=2).encode())
    return photo


def record_path(output: Path, name: str) -> Path:
    """Return where the record of the photograph `name` lies."""
    return output / "records" / f"{name}.json"


def encode(image: Image.Image, format_name: str, *, quality: int) -> bytes:
    """Return the picture as a file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, quality=quality)
    return buffer.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` shows the old file or the whole new one, also when two runs of one job overlap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic one by its well-known name
    finally:
        temporary.unlink(missing_ok=True)


def _check_file(path: Path) -> None:
    if not path.is_file():
        message = f"there is no file {path}: it was moved or deleted, or this worker does not see its folder"
        raise UnreadablePhoto(message)
    if path.stat().st_size == 0:
        message = f"{path.name} is an empty file (0 bytes)"
        raise UnreadablePhoto(message)


class _Decoded(NamedTuple):
    image: Image.Image
    size: tuple[int, int]
    format: str
    orientation: int
    taken_at: datetime | None


def _decode(path: Path) -> _Decoded:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _load(path, image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise UnreadablePhoto(_unidentified(path)) from error
    except _BROKEN_DATA as error:
        raise _damaged(path, error) from error
    except OSError as error:
        # Only the operating system sets errno; Pillow's decoders raise a bare OSError for bytes that they cannot decode.
        if error.errno is not None:
            raise
        raise _damaged(path, error) from error


def _load(path: Path, image: ImageFile.ImageFile) -> _Decoded:
    size = image.size
    if Image.MAX_IMAGE_PIXELS is not None and size[0] * size[1] > Image.MAX_IMAGE_PIXELS:
        raise _too_large(path)
    orientation, taken_at = _read_exif(image)
    # JPEG decodes at 1/2, 1/4 or 1/8 size for a fraction of the time and memory; other formats ignore this.
    image.draft(None, (WORKING_EDGE, WORKING_EDGE))
    image.load()
    return _Decoded(image, size, image.format or "unknown", orientation, taken_at)


def _read_exif(image: Image.Image) -> tuple[int, datetime | None]:
    """Return the orientation (1 when there is none) and the time of the shot; broken EXIF spoils no readable photograph."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
    except (*_BROKEN_DATA, OSError):
        return 1, None
    orientation: object = exif.get(ExifTags.Base.Orientation, 1)
    shot = details.get(ExifTags.Base.DateTimeOriginal) or details.get(ExifTags.Base.DateTimeDigitized)
    zone = details.get(ExifTags.Base.OffsetTimeOriginal)
    return orientation if isinstance(orientation, int) else 1, _parse_time(str(shot), str(zone))


def _parse_time(shot: str, zone: str) -> datetime | None:
    shot, zone = shot.strip("\0 "), zone.strip("\0 ")
    for text, pattern in ((f"{shot}{zone}", "%Y:%m:%d %H:%M:%S%z"), (shot, "%Y:%m:%d %H:%M:%S")):
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 - EXIF has local time, often without a zone
        except ValueError:
            continue  # cameras without a set clock write blanks or zeros: then the time is unknown
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as 8-bit sRGB; what is transparent becomes white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _to_eight_bits(image).convert("RGB")
    profile: object = image.info.get("icc_profile")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if isinstance(profile, bytes) and image.mode in ("RGB", "CMYK"):
        return _to_srgb(image, profile)
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        converted = None  # a profile that does not fit its picture: the plain colours are the best there is
    return image.convert("RGB") if converted is None else converted


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 0..255, where Pillow's own conversion would clip."""
    pixels: NDArray[np.float64] = np.nan_to_num(np.asarray(image, dtype=np.float64))
    white = 65535.0 if image.mode.startswith("I;16") else max(float(pixels.max()), 1e-9)
    return Image.fromarray(np.clip(pixels * (255.0 / white), 0, 255).astype(np.uint8))


def _too_large(path: Path) -> UnreadablePhoto:
    limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return UnreadablePhoto(
        f"{path.name} claims more than {limit:.0f} million pixels: not opened, because such a file can be made to fill the memory"
    )


def _damaged(path: Path, error: Exception) -> UnreadablePhoto:
    return UnreadablePhoto(f"{path.name} is damaged ({error or type(error).__name__}): copy it again from where it came from")


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_MAGIC):
        return f"{path.name} is damaged (it begins like a picture, but its header is broken or cut off)"
    if _is_text(head):
        return f"{path.name} is a text file, not a photograph, whatever its name says"
    return f"{path.name} is no picture in a format that is read here ({', '.join(FORMATS)})"


def _is_text(head: bytes) -> bool:
    try:
        # Incremental, because the last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
