from __future__ import annotations

import json

import pytest
from sample_videos import HERE, moving_square, write_with_cover

from genie.core.config import UserError
from genie.data import prepare as module
from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.data.video import write_video


def test_other_settings_start_an_unfinished_store_again(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, **HERE)
    prepare(source, out, **{**HERE, "height": 16, "width": 16})
    assert ClipStore.open(out).read(0, 2).shape == (2, 16, 16, 3)


def test_a_cover_picture_does_not_decide_the_frame_rate(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_with_cover(source / "tagged.mp4", moving_square(60))
    for name in ("a.mp4", "b.mp4"):
        write_video(source / name, moving_square(1), 240)
    report = prepare(source, tmp_path / "store", **HERE, val_fraction=0)
    assert (report.fps, report.frames) == (15, {"train": 60})


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1001])
def test_impossible_frame_rates(tmp_path, fps):
    with pytest.raises(UserError, match="fps: must be above 0 and at most 1000"):
        prepare(tmp_path, tmp_path / "store", **HERE, fps=fps)


def test_unfinished_work_of_another_version_starts_again(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, **HERE)
    path = out / ".prepare" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    for manifest in path.parent.glob("*.json"):
        if manifest != path:
            manifest.write_text("{}")
    assert prepare(source, out, **HERE).episodes == 2
