import sys

import numpy as np
from sample_videos import HERE, moving_square

from genie.data import sources
from genie.data.folders import LocalFolder
from genie.data.prepare import prepare
from genie.data.sources.find import find_videos, kinds
from genie.data.sources.videos import VideoFiles
from recipes import module_of_recipe


def test_each_module_is_a_kind():
    assert VideoFiles in kinds()
    assert all(kind.about for kind in kinds())


def test_videos_are_found_at_any_depth_in_the_order_of_their_names(tmp_path):
    for name in ("b.MP4", "a/x.webm", "a/b/c.gif", ".git/x.mp4", "a/.x.mkv", "a/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos(LocalFolder(tmp_path))
    assert list(found) == ["a/b/c.gif", "a/x.webm", "b.MP4"]
    assert set(found.values()) == {VideoFiles(LocalFolder(tmp_path))}


def test_the_source_of_the_recipe_is_found_and_prepared(tmp_path, monkeypatch):
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "arrays.py").touch()
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "kinds")])
    monkeypatch.setitem(
        sys.modules, "genie.data.sources.arrays", module_of_recipe("Add a data source")
    )
    videos = tmp_path / "videos"
    (videos / "train").mkdir(parents=True)
    clip = moving_square(30)
    np.save(videos / "train" / "run.npy", clip)
    np.save(videos / "floats.npy", clip / 255)
    (videos / "damaged.npy").write_bytes(b"nothing")
    report = prepare(videos, tmp_path / "store", **HERE)
    assert report.frames == {"train": 30}
    assert "must be uint8" in report.skipped.pop("floats.npy")
    assert "is damaged" in report.skipped.pop("damaged.npy")
    assert not report.skipped
