import os
from pathlib import Path

import pytest

from genie.core.io import replacing


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path):
    target = tmp_path / "deep" / "file.txt"
    for text in ("old", "new"):
        with replacing(target) as path:
            path.write_text(text)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as path:
            path.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_the_umask_decides_who_may_read_whatever_the_writer_does(tmp_path: Path, umask: int):
    target, before = tmp_path / "file.txt", os.umask(umask)
    try:
        with replacing(target) as path:
            private = path.with_name("private")
            private.touch(mode=0o600)
            os.replace(private, path)
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
