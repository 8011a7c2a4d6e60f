from __future__ import annotations

import pytest
from sample_videos import HERE

from genie.data import prepare as module
from genie.data.plan import find_videos
from genie.data.prepare import prepare
from genie.data.store import ClipStore


def test_videos_are_found_at_any_depth(tmp_path):
    for name in ("b.MP4", "a/x.webm", "a/b/c.gif", ".git/x.mp4", "a/.x.mkv", "a/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == ["a/b/c.gif", "a/x.webm", "b.MP4"]


def test_other_settings_start_an_unfinished_store_again(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, **HERE)
    prepare(source, out, **{**HERE, "height": 16, "width": 16})
    assert ClipStore.open(out).read(0, 2).shape == (2, 16, 16, 3)
