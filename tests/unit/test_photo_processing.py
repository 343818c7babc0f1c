"""The photograph actors as plain functions: what they measure, what they write, and what they say about files that are none."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFilter, ImageOps

from angelrt import Fail
from angelrt.actors import photo_report
from angelrt.actors.photo_image import Photo, UnreadablePhoto, dominant_colours, perceptual_hash, read_picture, sharpness, write_atomically
from angelrt.actors.photo_processing import Failure, group, process_photo, write_report

if TYPE_CHECKING:
    from pathlib import Path

RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 180, 20), (20, 20, 220), (128, 128, 128)


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Draw soft blotches that no other seed draws: different motifs to a perceptual hash."""
    blotches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC)


def quarters() -> Image.Image:
    """Draw an upright picture of 60 x 40 that looks different in each of the eight orientations."""
    image = Image.new("RGB", (60, 40), GREY)
    image.paste(RED, (0, 0, 30, 20))
    image.paste(GREEN, (30, 0, 60, 20))
    image.paste(BLUE, (0, 20, 30, 40))
    return image


def exif_with(orientation: int = 1, **details: str) -> Image.Exif:
    """Make EXIF with an orientation and entries of the camera's own block, by their names."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    block = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in details.items():
        block[ExifTags.Base[name]] = value
    return exif


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    """Save a picture in the format that its name says."""
    image.save(path, **options)
    return path


def listed(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- reading -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_read_upright(tmp_path: Path, orientation: int) -> None:
    turned = next(
        candidate
        for turn in [None, *Image.Transpose]
        for candidate in [quarters() if turn is None else quarters().transpose(turn)]
        if is_upright_after(candidate, orientation)
    )
    picture = read_picture(saved(turned, tmp_path / "a.png", exif=exif_with(orientation)))
    assert (picture.width, picture.height) == (60, 40)
    assert np.array_equal(np.asarray(picture.image), np.asarray(quarters()))


def is_upright_after(turned: Image.Image, orientation: int) -> bool:
    """Tell by Pillow's own function whether a viewer that honours the tag shows `quarters()`."""
    turned = turned.copy()
    turned.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(turned).tobytes() == quarters().tobytes()


def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    picture = read_picture(saved(quarters(), tmp_path / "a.png", exif=exif_with(77)))
    assert np.array_equal(np.asarray(picture.image), np.asarray(quarters()))


def test_a_large_jpeg_keeps_its_true_size_and_is_measured_small(tmp_path: Path) -> None:
    picture = read_picture(saved(scene(1, 3000, 2000), tmp_path / "a.jpg", exif=exif_with(6)))
    assert (picture.width, picture.height, picture.format) == (2000, 3000, "JPEG")
    assert picture.image.size == (683, 1024)


@pytest.mark.parametrize(
    ("details", "taken_at"),
    [
        ({"DateTimeOriginal": "2024:05:17 18:03:09"}, datetime(2024, 5, 17, 18, 3, 9)),  # noqa: DTZ001 - a camera's clock has no zone
        ({"DateTimeDigitized": "2024:05:17 18:03:09"}, datetime(2024, 5, 17, 18, 3, 9)),  # noqa: DTZ001 - as above
        (
            {"DateTimeOriginal": "2024:05:17 18:03:09", "OffsetTimeOriginal": "+02:00"},
            datetime(2024, 5, 17, 18, 3, 9, tzinfo=timezone(timedelta(hours=2))),
        ),
        ({"DateTimeOriginal": "2024:05:17 18:03:09", "OffsetTimeOriginal": "Z"}, datetime(2024, 5, 17, 18, 3, 9, tzinfo=UTC)),
        ({"DateTimeOriginal": "0000:00:00 00:00:00"}, None),
        ({"DateTimeOriginal": "    :  :     :  :  "}, None),
        ({}, None),
    ],
)
def test_the_time_of_the_shot_is_the_cameras(tmp_path: Path, details: dict[str, str], taken_at: datetime | None) -> None:
    found = read_picture(saved(scene(1), tmp_path / "a.jpg", exif=exif_with(**details))).taken_at
    assert found == taken_at
    assert found is None or taken_at is None or found.utcoffset() == taken_at.utcoffset()


def test_broken_exif_spoils_no_photograph(tmp_path: Path) -> None:
    picture = read_picture(saved(quarters(), tmp_path / "a.png", exif=b"Exif\0\0nonsense"))
    assert (picture.width, picture.height, picture.taken_at) == (60, 40, None)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    assert read_picture(saved(clear, tmp_path / "a.png")).image.getpixel((5, 5)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((10, 20), 0x8000, dtype=np.uint16))
    assert read_picture(saved(grey, tmp_path / "a.png")).image.getpixel((5, 5)) == (127, 127, 127)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("P", "gif"), ("1", "png"), ("LA", "png"), ("CMYK", "jpg"), ("F", "tiff")])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = read_picture(saved(Image.new("RGB", (20, 10), "white").convert(mode), tmp_path / f"a.{suffix}"))
    assert picture.image.mode == "RGB"
    assert picture.image.getpixel((5, 5)) == (255, 255, 255)


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = plain.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"----", b"bXYZ", 1)
    image = Image.new("RGB", (20, 10), (255, 0, 0))
    assert read_picture(saved(image, tmp_path / "plain.png", icc_profile=plain)).image.getpixel((5, 5)) == (255, 0, 0)
    assert read_picture(saved(image, tmp_path / "swapped.png", icc_profile=swapped)).image.getpixel((5, 5)) == (0, 0, 255)


@pytest.mark.parametrize("profile", [b"no profile at all", ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()])
def test_a_profile_that_does_not_fit_spoils_no_photograph(tmp_path: Path, profile: bytes) -> None:
    assert read_picture(saved(Image.new("RGB", (20, 10), RED), tmp_path / "a.png", icc_profile=profile)).image.getpixel((5, 5)) == RED


# -- files that are no photographs -------------------------------------------------------------------------------------------------


def half(path: Path) -> None:
    """Write the first half of a real JPEG."""
    buffer = BytesIO()
    scene(3, 800, 600).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def half_png(path: Path) -> None:
    """Write the first half of a real PNG."""
    buffer = BytesIO()
    scene(3).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


UNREADABLE = {
    "empty": (lambda path: path.write_bytes(b""), r"^a\.jpg is an empty file \(0 bytes\)$"),
    "text": (lambda path: path.write_text("Zwölf Filme\n" * 60, encoding="utf-8"), r"^a\.jpg is a text file, not a photograph"),
    "cut": (half, r"^a\.jpg is damaged \(image file is truncated.*\): copy it again"),
    "cut-png": (half_png, r"^a\.jpg is damaged"),
    "header": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF"), r"^a\.jpg is damaged"),
    "zeros": (lambda path: path.write_bytes(bytes(1000)), r"^a\.jpg is no picture in a format that is read here \(JPEG, PNG"),
    "eps": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n\x80"), r"^a\.jpg is no picture"),
    "missing": (lambda _path: None, r"^there is no file .*a\.jpg"),
    "folder": (lambda path: path.mkdir(), r"^there is no file .*a\.jpg"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_can_never_be_read_fails_in_words(tmp_path: Path, kind: str) -> None:
    write, words = UNREADABLE[kind]
    write(tmp_path / "a.jpg")
    with pytest.raises(UnreadablePhoto, match=words) as raised:
        process_photo(str(tmp_path / "a.jpg"), str(tmp_path / "out"))
    assert isinstance(raised.value, Fail)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [599, 301, 299])
def test_more_pixels_than_the_limit_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = saved(Image.new("RGB", (30, 20)), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadablePhoto, match=r"^bomb\.png claims more than .* million pixels"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert read_picture(path).width == 30


def test_a_disk_that_fails_is_no_verdict_on_the_photograph(tmp_path: Path) -> None:
    path = saved(scene(1), tmp_path / "a.png")
    (tmp_path / "out").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(OSError, match="out"):
        process_photo(str(path), str(tmp_path / "out"))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "bmp"])
def test_any_damage_is_either_read_or_named(tmp_path: Path, suffix: str) -> None:
    good = saved(scene(5, 64, 48), tmp_path / f"a.{suffix}", exif=exif_with(6, DateTimeOriginal="2024:05:17 18:03:09")).read_bytes()
    chance = np.random.default_rng(11)
    for _ in range(150):
        bad = bytearray(good)
        for position in chance.integers(0, min(len(bad), 400), 4):
            bad[position] = int(chance.integers(0, 256))
        path = tmp_path / f"b.{suffix}"
        path.write_bytes(bad)
        with suppress(UnreadablePhoto):
            assert read_picture(path).image.mode == "RGB"


# -- measuring ---------------------------------------------------------------------------------------------------------------------


def test_dominant_colours_come_by_the_space_they_cover() -> None:
    image = Image.new("RGB", (100, 100), RED)
    image.paste(BLUE, (0, 70, 100, 100))
    assert [(colour.hex, colour.share) for colour in dominant_colours(image)] == [("#dc1414", 0.7), ("#1414dc", 0.3)]


def test_shades_of_one_colour_count_as_one() -> None:
    image = Image.new("RGB", (100, 100), RED)
    image.paste((210, 30, 30), (0, 0, 100, 30))
    assert [colour.share for colour in dominant_colours(image)] == [1.0]


def test_at_most_five_colours_are_kept() -> None:
    colours = dominant_colours(scene(4))
    assert len(colours) == 5
    assert [colour.share for colour in colours] == sorted((colour.share for colour in colours), reverse=True)
    assert sum(colour.share for colour in colours) <= 1


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    point = np.zeros((5, 5), dtype=np.uint8)
    point[2, 2] = 90
    # The inner 3 x 3 of the Laplacian: -360 in the middle, 90 at four sides, 0 at four corners; their mean is 0.
    assert sharpness(Image.fromarray(point)) == round((360**2 + 4 * 90**2) / 9, 2)


def test_sharpness_orders_a_picture_and_its_blurred_copies() -> None:
    noise = Image.fromarray(np.random.default_rng(7).integers(0, 256, (80, 80), dtype=np.uint8))
    values = [sharpness(noise.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


@pytest.mark.parametrize("size", [(50, 50), (2, 50), (1, 1)])
def test_an_even_surface_has_no_sharpness(size: tuple[int, int]) -> None:
    assert sharpness(Image.new("RGB", size, GREEN)) == 0


def test_perceptual_hash_has_64_bits() -> None:
    assert len(bytes.fromhex(perceptual_hash(scene(1)))) == 8


# -- writing -----------------------------------------------------------------------------------------------------------------------


def test_process_photo_writes_thumbnails_and_a_record(tmp_path: Path) -> None:
    exif = exif_with(6, DateTimeOriginal="2024:05:17 18:03:09")
    path = saved(scene(1, 400, 200), tmp_path / "holiday.jpg", exif=exif)
    photo = process_photo(str(path), str(tmp_path / "out"))
    assert (photo.file, photo.width, photo.height, photo.format) == ("holiday.jpg", 200, 400, "JPEG")
    assert photo.taken_at == datetime(2024, 5, 17, 18, 3, 9)  # noqa: DTZ001 - a camera's clock has no zone
    assert [(thumbnail.file, thumbnail.width, thumbnail.height) for thumbnail in photo.thumbnails] == [
        ("thumbnails/160/holiday.jpg.webp", 80, 160),
        ("thumbnails/320/holiday.jpg.webp", 160, 320),
        ("thumbnails/640/holiday.jpg.webp", 200, 400),
    ]
    for thumbnail in photo.thumbnails:
        with Image.open(tmp_path / "out" / thumbnail.file) as image:
            assert (image.format, image.size) == ("WEBP", (thumbnail.width, thumbnail.height))
    assert Photo.model_validate_json((tmp_path / "out/records/holiday.jpg.json").read_bytes()) == photo


def test_a_second_run_writes_the_same_files_again(tmp_path: Path) -> None:
    path = saved(scene(1), tmp_path / "a.jpg")
    out = tmp_path / "out"
    runs = []
    for _ in range(2):
        process_photo(str(path), str(out))
        write_report(str(out), ["a.jpg"], [Failure(file="b.jpg", error="b.jpg is an empty file (0 bytes)")])
        runs.append(listed(out))
    assert runs[0] == runs[1]
    assert sorted(runs[0]) == [
        "contact-sheet.jpg",
        "inventory.json",
        "records/a.jpg.json",
        "thumbnails/160/a.jpg.webp",
        "thumbnails/320/a.jpg.webp",
        "thumbnails/640/a.jpg.webp",
    ]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_bytes(b"old")
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", b"new")
    assert listed(tmp_path) == {"a/old": b"old"}


# -- the report --------------------------------------------------------------------------------------------------------------------


def photo_of(name: str, phash: int) -> Photo:
    """Make a record of a photograph that has a hash and no files."""
    return Photo(
        file=name, width=4, height=3, format="JPEG", taken_at=None, thumbnails=[], colours=[], sharpness=1.5, phash=f"{phash:016x}"
    )


def test_copies_are_near_duplicates_and_other_motifs_are_not(tmp_path: Path) -> None:
    original = scene(1, 480, 360)
    sideways = original.transpose(Image.Transpose.ROTATE_90)
    paths = [
        saved(original, tmp_path / "a.png"),
        saved(original.resize((200, 150)), tmp_path / "a-small.jpg", quality=40),
        saved(sideways, tmp_path / "a-sideways.jpg", exif=exif_with(6)),
        saved(sideways, tmp_path / "a-turned-for-good.jpg"),
        saved(scene(2, 480, 360), tmp_path / "b.png"),
    ]
    photos = [process_photo(str(path), str(tmp_path / "out")) for path in paths]
    assert photo_report.near_duplicates(photos) == {
        "a.png": ["a-sideways.jpg", "a-small.jpg"],
        "a-small.jpg": ["a-sideways.jpg", "a.png"],
        "a-sideways.jpg": ["a-small.jpg", "a.png"],
        "a-turned-for-good.jpg": [],
        "b.png": [],
    }


def test_the_distance_of_near_duplicates_has_an_exact_limit() -> None:
    limit = photo_report.NEAR_DUPLICATE_BITS
    photos = [photo_of("a", 0), photo_of("at the limit", (1 << limit) - 1), photo_of("beyond", ((1 << limit + 1) - 1) << 40)]
    assert photo_report.near_duplicates(photos) == {"a": ["at the limit"], "at the limit": ["a"], "beyond": []}
    assert photo_report.near_duplicates([]) == {}


def test_what_is_linked_through_others_is_one_group() -> None:
    neighbours = {"a": ["b"], "b": ["a", "c"], "c": ["b"], "d": [], "e": ["f"], "f": ["e"]}
    assert photo_report.duplicate_groups(neighbours) == [["a", "b", "c"], ["e", "f"]]


def test_the_inventory_holds_every_photograph_and_every_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, seed in (("b.jpg", 2), ("a.jpg", 1), ("a-copy.jpg", 1)):
        process_photo(str(saved(scene(seed), tmp_path / name)), str(out))
    failures = [Failure(file="z.jpg", error="z.jpg is an empty file (0 bytes)"), Failure(file="y.jpg", error="y.jpg is a text file")]
    report = write_report(str(out), ["b.jpg", "a.jpg", "a-copy.jpg"], failures)
    inventory = json.loads((out / "inventory.json").read_bytes())
    assert [(photo["file"], photo["near_duplicates"]) for photo in inventory["photos"]] == [
        ("a-copy.jpg", ["a.jpg"]),
        ("a.jpg", ["a-copy.jpg"]),
        ("b.jpg", []),
    ]
    assert list(inventory["photos"][0]) == [*Photo.model_fields, "near_duplicates"]
    assert inventory["failures"] == [failure.model_dump() for failure in reversed(failures)]
    assert (report.photos, report.failures, report.near_duplicate_groups) == (3, 2, 1)
    assert report.inventory == str(out / "inventory.json")


def test_a_photograph_without_a_record_fails_the_report_in_words(tmp_path: Path) -> None:
    with pytest.raises(Fail, match=r"^there is no record of a\.jpg in .*: run process_photo for it first"):
        write_report(str(tmp_path), ["a.jpg"], [])


def test_the_contact_sheet_shows_the_photographs_and_what_failed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, colour in (("a.png", RED), ("b.png", BLUE)):
        process_photo(str(saved(Image.new("RGB", (300, 200), colour), tmp_path / name)), str(out))
    plain = sheet_of(write_report(str(out), ["a.png", "b.png"], []).contact_sheets)
    listing = sheet_of(write_report(str(out), ["a.png", "b.png"], [Failure(file="c.jpg", error="c.jpg is empty")]).contact_sheets)
    assert listing.width == plain.width
    assert listing.height > plain.height
    found = {colour.hex for colour in dominant_colours(plain)}
    for red, green, blue in (RED, BLUE):
        wanted = np.array([red, green, blue])
        assert any(np.abs(np.array(list(bytes.fromhex(hexadecimal[1:]))) - wanted).max() < 20 for hexadecimal in found)


def sheet_of(paths: list[str]) -> Image.Image:
    """Open the only sheet."""
    assert len(paths) == 1
    with Image.open(paths[0]) as sheet:
        sheet.load()
    return sheet


def test_many_photographs_take_several_sheets(tmp_path: Path) -> None:
    out = tmp_path / "out"
    photo = process_photo(str(saved(scene(1), tmp_path / "a.jpg")), str(out))
    number = photo_report.PHOTOS_PER_SHEET + 1
    photos = [photo.model_copy(update={"file": f"{position:03}.jpg", "phash": f"{position << 20:016x}"}) for position in range(number)]
    failures = [Failure(file=f"{position}.jpg", error="a name " * 60) for position in range(photo_report.FAILURES_LISTED + 5)]
    report = photo_report.write_report_files(out, photos, failures)
    assert report.contact_sheets == [str(out / "contact-sheet.jpg"), str(out / "contact-sheet-2.jpg")]


def test_a_report_on_nothing_is_a_report(tmp_path: Path) -> None:
    report = write_report(str(tmp_path), [], [])
    assert (report.photos, report.failures, report.near_duplicate_groups) == (0, 0, 0)
    assert json.loads((tmp_path / "inventory.json").read_bytes()) == {"photos": [], "failures": []}


def test_the_group_offers_its_actors_on_the_queue_photos() -> None:
    offered = {name: (actor.definition.kind, actor.definition.queue) for name, actor in group.registered.items()}
    assert offered == {"process_photo": ("process", "photos"), "write_report": ("thread", "photos")}
