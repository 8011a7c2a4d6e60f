from __future__ import annotations

import io
import json
import tarfile

import fsspec
import numpy as np
import pytest
from sample_videos import HERE, moving_square
from test_prepare import content

from genie.data.folders import LocalFolder
from genie.data.merge import merge
from genie.data.prepare import prepare
from genie.data.sources.webdataset import WebDatasetTars
from genie.data.store import ClipStore
from genie.data.video import write_video

SIDECAR = {"actions": [0, 1] * 10, "action_names": ["left", "up"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two archives of two videos; the first has true actions, a broken video and other files."""
    folder = tmp_path_factory.mktemp("tars") / "tars"
    folder.mkdir()
    archives = {"train-000.tar": ("a/one", "two"), "val-000.tar": ("three", "four")}
    for first, (tar, names) in zip((5, 7), archives.items(), strict=True):
        with tarfile.open(folder / tar, "w") as archive:
            for seed, name in enumerate(names):
                path = folder / "clip.mp4"
                write_video(path, moving_square(20, seed=first + seed), 10)
                archive.add(path, f"{name}.mp4")
                path.unlink()
            if tar.startswith("train"):
                add(archive, "a/one.actions.json", json.dumps(SIDECAR).encode())
                add(archive, "broken.mp4", b"nothing")
                add(archive, "a/one.json", b"{}")
                add(archive, ".hidden.mp4", b"")
                link = tarfile.TarInfo("link.mp4")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(link)
    return folder


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


NAMES = ["train-000.tar/a/one.mp4", "train-000.tar/two.mp4", "val-000.tar/four.mp4"]


def test_members_are_videos_with_splits_and_actions(source, tmp_path):
    report = prepare(source, tmp_path / "store", **HERE)
    assert report.kinds == {"videos in tar files": 5}
    reason = report.skipped.pop("train-000.tar/broken.mp4")
    assert "cannot be read as a video" in reason
    assert str(tmp_path) not in reason
    assert not report.skipped
    store = ClipStore.open(tmp_path / "store")
    sources = [episode.source for episode in store.episodes]
    assert sources == [*NAMES, "val-000.tar/three.mp4"]
    assert [episode.split for episode in store.episodes] == ["train", "train", "val", "val"]
    assert store.episodes[0].sidecar == "train-000.tar/a/one.actions.json"
    assert store.labels()[:19].tolist() == SIDECAR["actions"][:19]
    stored = store.read(0, 20).astype(int)
    assert np.abs(stored - moving_square(20, seed=5)).mean() < 4


def test_shards_take_whole_archives_also_at_an_address(source, tmp_path):
    prepare(source, tmp_path / "whole", fps=10, **HERE)
    system = fsspec.filesystem("memory")
    system.put(str(source), "/bucket/tars", recursive=True)
    parts = [tmp_path / "part-1", tmp_path / "part-2"]
    for number, part in enumerate(parts, start=1):
        place = "memory://bucket/tars"
        report = prepare(place, part, fps=10, shard=f"{number}/2", **HERE)
        assert report.videos == (3, 2)[number - 1]
    system.rm("/bucket", recursive=True)
    merge(tmp_path / "merged", parts, progress=False)
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_damaged_archives_are_named_and_used_so_far(source, tmp_path):
    whole = (source / "val-000.tar").read_bytes()
    end = WebDatasetTars(LocalFolder(source))._archive("val-000.tar").members["four.mp4"].offset
    (tmp_path / "cut.tar").write_bytes(whole[: end - 100])
    (tmp_path / "text.tar").write_bytes(b"no archive at all" * 100)
    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        add(archive, "readme.txt", b"nothing")
    found = WebDatasetTars(LocalFolder(tmp_path))
    assert list(found.list()) == ["cut.tar/three.mp4"]
    faults = found.left_out()
    assert "is damaged" in faults["cut.tar"]
    assert "the 1 files before" in faults["cut.tar"]
    assert "is damaged" in faults["text.tar"]
    assert faults["empty.tar"] == "holds no video"
