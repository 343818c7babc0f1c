"""What the demo puts into its input folder, and what it refuses."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from angelrt import demo
from angelrt.actors.photo_image import UnreadablePhoto, read_picture
from angelrt.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BAD = ["empty.jpg", "notes.jpg", "truncated.jpg"]


def collection(folder: Path) -> Path:
    """Make a small collection with sub-folders, of real JPEG files."""
    for name in ("a.jpg", "b/a.JPG", "b/c/d.jpeg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").save(folder / name, "JPEG")
    (folder / "b" / "readme.txt").write_text("no photograph", encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    """List what the demo would send."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_collection_is_linked_flat_with_three_bad_files(tmp_path: Path) -> None:
    folder = demo.prepare(tmp_path / "out", collection(tmp_path / "photos"))
    assert folder == tmp_path / "out" / "input"
    assert names(folder) == sorted([*BAD, "a.jpg", "b__a.JPG", "b__c__d.jpeg"])
    assert (folder / "b__a.JPG").resolve() == tmp_path / "photos" / "b" / "a.JPG"
    for name in names(folder):
        if name in BAD:
            with pytest.raises(UnreadablePhoto):
                read_picture(folder / name)
        else:
            assert read_picture(folder / name).width == 256


def test_preparing_again_starts_afresh_and_leaves_out_what_the_demo_wrote(tmp_path: Path) -> None:
    photos = collection(tmp_path)
    first = names(demo.prepare(tmp_path / "out", photos))
    (tmp_path / "out" / "thumbnails").mkdir()
    Image.linear_gradient("L").save(tmp_path / "out" / "thumbnails" / "a.webp")
    (photos / "a.jpg").unlink()
    assert names(demo.prepare(tmp_path / "out", photos)) == [name for name in first if name != "a.jpg"]
    assert (photos / "b" / "a.JPG").is_file()


def test_names_that_meet_are_kept_apart(tmp_path: Path) -> None:
    photos = collection(tmp_path / "photos")
    for name in ("b__a.JPG", "notes.jpg", f"{'long' * 60}.jpg"):
        Image.linear_gradient("L").save(photos / name, "JPEG")
    found = names(demo.prepare(tmp_path / "out", photos))
    assert {"b__a.JPG", "b__a-2.JPG", "notes.jpg", "notes-2.jpg"} < set(found)
    assert len(found) == len(BAD) + 6
    assert max(map(len, found)) <= 180


def test_a_folder_that_is_not_the_demos_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out" / "input").mkdir(parents=True)
    (tmp_path / "out" / "input" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"input has files that the demo did not write: choose another folder with --output"):
        demo.prepare(tmp_path / "out", collection(tmp_path / "photos"))
    assert (tmp_path / "out" / "input" / "thesis.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_without_photographs_is_named(tmp_path: Path, *, empty: bool) -> None:
    folder = tmp_path / "photos"
    if empty:
        folder.mkdir()
    with pytest.raises(ConfigError, match=r"--photos .*photos: (no file in it|there is no such folder)"):
        demo.prepare(tmp_path / "out", folder)


def test_without_samples_the_error_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SAMPLE_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(ConfigError, match=r"pip install 'angelrt\[demo\]'.*--photos DIR"):
        demo.sample_photos()


def test_samples_are_real_photographs_with_near_duplicates_beside_them(tmp_path: Path) -> None:
    if importlib.util.find_spec(demo.SAMPLE_PACKAGE) is None:
        with pytest.raises(ConfigError, match="no sample photographs"):
            demo.prepare(tmp_path, None)
        return
    folder = demo.prepare(tmp_path, None)
    copies = [f"{name.partition('.')[0]}-{kind}.jpg" for name in demo.COPIED_NAMES for kind in ("sideways", "recompressed")]
    assert names(folder) == sorted([*BAD, *demo.SAMPLE_NAMES, *copies])
    with Image.open(folder / "chelsea-sideways.jpg") as image:
        assert image.height > image.width
    assert read_picture(folder / "chelsea-sideways.jpg").width == read_picture(folder / "chelsea.png").width
