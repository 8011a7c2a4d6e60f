from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample_videos import HERE, moving_square, write_sound

from genie.core.config import UserError
from genie.core.renamed_keys import renamed
from genie.data import assemble as assemble_module
from genie.data import decode as decode_module
from genie.data import store as store_module
from genie.data.plan import PrepareConfig
from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.data.video import read_video, write_video


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in files
    }


def decoded(path: Path) -> np.ndarray:
    return np.stack([frame for _, frame in read_video(path)])


def test_frames_and_table(make_videos, tmp_path):
    source = make_videos(4)
    report = prepare(source, tmp_path / "store", **HERE)
    store = ClipStore.open(tmp_path / "store")
    assert (report.videos, report.episodes, report.fps) == (4, 4, 15)
    assert sum(report.frames.values()) == len(store) == 40 + 43 + 46 + 49
    assert report.frames["val"] > 0
    for episode in store.episodes:
        frames = store.read(episode.start, episode.length)
        assert np.array_equal(frames, decoded(source / episode.source))
    assert len({episode.hash for episode in store.episodes}) == 4
    assert store.labels() is None
    assert sorted(p.name for p in store.path.iterdir()) == [
        "frames",
        "source_frames.npy",
        "store.json",
    ]


def test_a_second_time(make_videos, tmp_path):
    source, out = make_videos(2), tmp_path / "store"
    first = prepare(source, out, **HERE)
    before = content(out)
    (out / ".prepare").mkdir()  # what a run leaves that is killed at its very end
    again = prepare(source, out, **HERE)
    assert again.complete_before
    assert not (out / ".prepare").exists()
    assert (again.frames, content(out)) == (first.frames, before)
    today = (out / "store.json").read_bytes()
    _under_old_keys(out / "store.json")
    assert prepare(source, out, **HERE).complete_before
    (out / "store.json").write_bytes(today)
    with pytest.raises(UserError, match=r"other settings \(min_frames\)"):
        prepare(source, out, min_frames=8, **HERE)
    write_video(source / "more.mp4", moving_square(20), 15)
    with pytest.raises(UserError, match="other videos"):
        prepare(source, out, **HERE)
    assert content(out) == before


def _under_old_keys(path):
    text = path.read_text()
    for old, new in renamed(PrepareConfig).items():
        assert f'"{new}"' in text
        text = text.replace(f'"{new}"', f'"{old}"')
    path.write_text(text)


def test_processes_and_this_process_make_the_same(make_videos, tmp_path):
    source = make_videos(3)
    prepare(source, tmp_path / "here", **HERE)
    prepare(source, tmp_path / "there", **{**HERE, "workers": 2})
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_a_store_depends_on_the_videos_alone(make_videos, tmp_path):
    source = make_videos(4)
    shutil.copy(source / "clip-0.mp4", source / "copy.mp4")
    (source / "broken.mp4").write_text("not a video")
    for name, actions in (("clip-1", ["left", "right"]), ("clip-2", ["jump", "left"])):
        sidecar = {"actions": [0, 1] * 20, "action_names": actions, "rewards": [0.1] * 40}
        sidecar |= {"env": "procgen:coinrun"}
        (source / f"{name}.actions.json").write_text(json.dumps(sidecar))
    shutil.copytree(source, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    prepare(source, tmp_path / "here", **HERE)
    (tmp_path / "run.py").write_text(
        "import sys\n"
        "from genie.data.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        "    prepare(*sys.argv[1:], height=32, width=32, workers=2, progress=False)\n"
    )
    command = [sys.executable, tmp_path / "run.py", tmp_path / "elsewhere", tmp_path / "there"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "12"})
    assert content(tmp_path / "here") == content(tmp_path / "there")
    assert ClipStore.open(tmp_path / "here").environments == ["procgen:coinrun"]


KILLED = """
import os, signal, sys
from genie.data import assemble, prepare, store
store.SHARD_FRAMES = 32
source, out, moment, count = sys.argv[1:]
def killing(function):
    calls = []
    def wrapped(*args):
        if moment == "after":
            function(*args)
        calls.append(1)
        if len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args) if moment != "after" else None
    return wrapped
if __name__ == "__main__":
    shards = ("_write", assemble.ShardWriter)
    name, owner = shards if moment != "table" else ("write_store", prepare)
    setattr(owner, name, killing(getattr(owner, name)))
    workers = 2 if moment == "after" else 0
    prepare.prepare(source, out, height=32, width=32, workers=workers, progress=False)
"""


@pytest.mark.parametrize(("moment", "count"), [("before", 1), ("after", 3), ("table", 1)])
def test_killed_and_resumed_is_identical(make_videos, tmp_path, monkeypatch, moment, count):
    monkeypatch.setattr(store_module, "SHARD_FRAMES", 32)
    source, out = make_videos(6), tmp_path / "killed"
    (source / "broken.mp4").write_text("not a video")
    prepare(source, tmp_path / "whole", **HERE)
    (tmp_path / "run.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "run.py", source, out, moment, str(count)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="unfinished"):
        ClipStore.open(out)
    decodes = []
    decode = decode_module.decode

    def noted(task):
        decodes.append(task.name)
        decode(task)

    monkeypatch.setattr(decode_module, "decode", noted)
    report = prepare(source, out, **HERE)
    assert content(out) == content(tmp_path / "whole")
    assert "broken.mp4" in report.skipped
    if count == 3:
        assert "clip-0.mp4" not in decodes


def test_two_at_once_do_not_mix(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    decode = decode_module.decode
    refused = []

    def meanwhile(task):
        with pytest.raises(UserError, match="another prepare is writing"):
            prepare(source, out, **HERE)
        refused.append(task)
        decode(task)

    monkeypatch.setattr(decode_module, "decode", meanwhile)
    assert prepare(source, out, **HERE).episodes == len(refused) == 2


def test_disk_full_says_so_and_goes_on_later(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(3), tmp_path / "store"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((decode_module, "_write_manifest"), (assemble_module, "save_array")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(UserError, match="disk is full; free some space and run the same"):
                prepare(source, out, **HERE)
    prepare(source, out, **HERE)
    prepare(source, tmp_path / "whole", **HERE)
    assert content(out) == content(tmp_path / "whole")


def test_bad_files_are_named_and_the_rest_goes_on(make_videos, tmp_path):
    source = make_videos(2)
    (source / "empty.mp4").touch()
    (source / "text.avi").write_text("no video")
    write_sound(source / "sound.mov")
    write_video(source / "short.mp4", moving_square(5), 15)
    write_video(source / "still.mp4", np.full((40, 32, 32, 3), 99, np.uint8), 15)
    (source / "cut.mp4").write_bytes((source / "clip-0.mp4").read_bytes()[:800])
    (source / ".hidden.mp4").write_text("hidden")
    (source / "notes.txt").write_text("not a video")
    before = content(source)
    report = prepare(source, tmp_path / "store", **HERE)
    reasons = {
        "empty.mp4": "empty",
        "text.avi": "cannot be read as a video",
        "sound.mov": "holds no video, only audio",
        "short.mp4": "5 frames in clips shorter than 16 frames",
        "still.mp4": "40 frames in clips that stand still",
        "cut.mp4": "cannot be read as a video",
    }
    assert report.skipped.keys() == reasons.keys()
    assert all(reasons[name] in reason for name, reason in report.skipped.items())
    assert (report.episodes, report.videos) == (2, 8)
    assert content(source) == before


def test_nothing_usable_and_wrong_places(make_videos, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        prepare(tmp_path / "missing", tmp_path / "store", **HERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        prepare(tmp_path / "empty", tmp_path / "store", **HERE)
    (tmp_path / "empty" / "x.mp4").write_text("broken")
    with pytest.raises(UserError, match=r"none of its 1 videos is usable; x\.mp4: cannot"):
        prepare(tmp_path / "empty", tmp_path / "store", **HERE)
    source = make_videos(1)
    with pytest.raises(UserError, match="holds other files"):
        prepare(source, tmp_path / "empty", **HERE)
    with pytest.raises(UserError, match="min_frames: must be 2 or more"):
        prepare(source, tmp_path / "store", **HERE, min_frames=1)
    assert not (tmp_path / "store/frames").exists()
    prepare(source, tmp_path / "store", **HERE)
