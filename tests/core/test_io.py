import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from genie.core.config import UserError
from genie.core.io import (
    MOST_BYTES,
    put_in_place,
    read_bounded,
    replacing,
    replacing_all,
    save_array,
)


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


@pytest.mark.parametrize("there", [True, False])
def test_of_several_files_all_are_replaced_or_none(tmp_path: Path, monkeypatch, there: bool):
    targets, rename = [tmp_path / "a", tmp_path / "b"], os.replace
    if there:
        for target in targets:
            target.write_text("old")

    def failing(source: Path, target: Path) -> None:
        if Path(target).name == "b":
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    def write() -> None:
        with replacing_all(*targets) as paths:
            for path in paths:
                path.write_text("new")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        write()
    monkeypatch.undo()
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["old"] * 2 * there
    write()
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["new"] * 2


@pytest.fixture
def synced(monkeypatch):
    """What is flushed to the disk, as it is called at that time."""
    paths, sync = [], os.fsync

    def noted(descriptor: int) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return paths


def test_new_folders_are_flushed_into_those_that_hold_them(tmp_path: Path, synced):
    with replacing(tmp_path / "a" / "b" / "file") as path:
        path.touch()
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)


def test_a_file_is_flushed_before_it_gets_its_name(tmp_path: Path, synced):
    (tmp_path / "part").write_text("whole")
    put_in_place(tmp_path / "part", tmp_path / "file")
    assert synced == [tmp_path / "part", tmp_path]
    assert (tmp_path / "file").read_text() == "whole"


def test_an_array_that_does_not_fit_says_why_and_keeps_the_old_one(tmp_path: Path):
    path, before = tmp_path / "a.npy", resource.getrlimit(resource.RLIMIT_FSIZE)
    save_array(path, np.arange(3))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError) as caught:  # noqa: PT011
            save_array(path, np.arange(99_999))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert np.load(path).tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_would_fill_the_memory_or_never_end_are_not_read(tmp_path: Path):
    (tmp_path / "small").write_bytes(b"text")
    assert read_bounded(tmp_path / "small", 4) == b"text"
    with pytest.raises(UserError, match="holds 4 bytes, at most 3"):
        read_bounded(tmp_path / "small", 3)
    assert read_bounded(tmp_path / "small", 5) == b"text"
    (tmp_path / "most").write_bytes(bytes(MOST_BYTES))
    assert len(read_bounded(tmp_path / "most")) == 4 * 1024 * 1024
    (tmp_path / "more").write_bytes(bytes(MOST_BYTES + 1))
    with pytest.raises(UserError, match="at most 4,194,304"):
        read_bounded(tmp_path / "more")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(UserError, match="at most"):
        read_bounded(tmp_path / "huge")
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="is no file"):
            read_bounded(endless)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "missing")


def test_files_are_flushed_then_renamed_then_their_names_are_flushed(tmp_path: Path, synced):
    with replacing_all(tmp_path / "a", tmp_path / "b") as paths:
        for path in paths:
            path.write_text("whole")
    assert synced == [*paths, tmp_path]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_a_killed_process_of_the_same_number_left_does_not_matter(tmp_path: Path):
    with replacing(tmp_path / "file") as path:
        pass
    usual, left = (tmp_path / "file").stat().st_mode, path
    left.touch(mode=0o600)
    with replacing(tmp_path / "file") as path:
        assert path == left
        assert path.read_bytes() == b""
    assert (tmp_path / "file").stat().st_mode == usual


def test_no_file_stays_open(tmp_path: Path):
    before = os.listdir("/proc/self/fd")
    with replacing(tmp_path / "folder" / "file"):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
