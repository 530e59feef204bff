"""Images given as files, folders and links, and names for their pictures."""

from pathlib import Path

import pytest

from adbench.data.image_lists import find_images, picture_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/1.png", "b/deep/er/2.JPG", "a.tif", ".hidden.png", ".h/3.png", "notes.txt", "out/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(*sources: Path, leave_out: Path | None = None) -> list[str]:
    return [str(image.name) for image in find_images(sources, leave_out)]


def test_a_folder_is_walked_in_order(folder: Path) -> None:
    assert names(folder) == ["a.tif", "b/1.png", "b/deep/er/2.JPG", "out/x.png"]


def test_the_output_folder_is_skipped(folder: Path) -> None:
    assert names(folder, leave_out=folder / "out") == ["a.tif", "b/1.png", "b/deep/er/2.JPG"]


def test_an_image_named_twice_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(Path("b/1.png"), Path("b"), folder / "b" / "1.png") == ["1.png", "deep/er/2.JPG"]


def test_a_file_may_have_any_suffix(folder: Path) -> None:
    assert names(folder / "notes.txt") == ["notes.txt"]


def test_links_are_followed_once(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "z").symlink_to(folder / "b" / "deep")
    assert names(folder / "b") == ["1.png", "deep/er/2.JPG", "loop/a.tif", "loop/out/x.png"]


def test_pictures_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    files = ["a/1.png", "b/1.jpg", "c/1-2.png", "d/1.PNG", "e/1.bmp"]
    for name in files:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    found = picture_names(find_images([tmp_path / name for name in files]))
    assert [str(name) for name in found] == ["1.jpg", "1-2.jpg", "1-2-2.jpg", "1-3.jpg", "1-4.jpg"]
