import hashlib
import os
from pathlib import Path

import pytest
from conftest import replace_in_disguise

from adbench.core.errors import DataError
from adbench.core.files import replacing, sha256, stamp, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "file.txt", "text")
    assert (tmp_path / "deep" / "file.txt").read_text() == "text"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file.txt"]


def test_only_what_shall_be_durable_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr("os.fsync", waited.append)
    for durable in (False, True):
        with replacing(tmp_path / "file", durable=durable) as temporary:
            temporary.write_text(str(durable))
        assert (tmp_path / "file").read_text() == str(durable)
        assert len(waited) == durable


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_there_by_the_end_may_stay(tmp_path: Path) -> None:
    with replacing(tmp_path / "file", unless=(tmp_path / "other").exists) as temporary:
        temporary.write_text("new")
        (tmp_path / "other").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        write_text(tmp_path / "file" / "inside", "text")
    target = tmp_path / "file" / "inside"
    assert str(error.value) == f"cannot write {target}: {tmp_path / 'file'} is a file; name a folder"


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_sha256_of_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*: No such file or directory"):
        sha256(tmp_path / "none")


def test_a_stamp_shows_every_change_of_a_file_whatever_its_time_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    stamps = [stamp(path), stamp(path)]
    replace_in_disguise(path, b"new")
    stamps.append(stamp(path))
    status = path.stat()
    path.write_text("few")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    stamps.append(stamp(path))
    assert [len({tuple(one[:2]) for one in stamps}), stamps[0] == stamps[1], len({tuple(one) for one in stamps})] == [1, True, 3]
