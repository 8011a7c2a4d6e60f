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
from sample_videos import moving_square, write_sound, write_timed

from genie.config import UserError
from genie.data import prepare as module
from genie.data import store as store_module
from genie.data.prepare import find_videos, prepare, split_sources, unite_copies
from genie.data.store import ClipStore, Episode
from genie.data.video import read_video, write_video

SIZE = {"height": 32, "width": 32}
HERE = {**SIZE, "workers": 0, "progress": False}


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
    again = prepare(source, out, **HERE)
    assert again.complete_before
    assert (again.frames, content(out)) == (first.frames, before)
    with pytest.raises(UserError, match=r"other settings \(min_frames\)"):
        prepare(source, out, min_frames=8, **HERE)
    write_video(source / "more.mp4", moving_square(20), 15)
    with pytest.raises(UserError, match="other videos"):
        prepare(source, out, **HERE)
    assert content(out) == before


def test_processes_and_this_process_make_the_same(make_videos, tmp_path):
    source = make_videos(3)
    prepare(source, tmp_path / "here", **HERE)
    prepare(source, tmp_path / "there", **{**HERE, "workers": 2})
    assert content(tmp_path / "here") == content(tmp_path / "there")


KILLED = """
import os, signal, sys
from genie.data import prepare, store
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
    name, owner = ("_write", prepare._Shards) if moment != "table" else ("_write_store", prepare)
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
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda task: (decodes.append(task.name), decode(task)))
    report = prepare(source, out, **HERE)
    assert content(out) == content(tmp_path / "whole")
    assert "broken.mp4" in report.skipped
    if count == 3:
        assert "clip-0.mp4" not in decodes


def test_other_settings_start_an_unfinished_store_again(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, **HERE)
    prepare(source, out, **{**HERE, "height": 16, "width": 16})
    assert ClipStore.open(out).read(0, 2).shape == (2, 16, 16, 3)


def test_two_at_once_do_not_mix(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(2), tmp_path / "store"
    decode = module._decode
    refused = []

    def meanwhile(task):
        with pytest.raises(UserError, match="another prepare is writing"):
            prepare(source, out, **HERE)
        refused.append(task)
        decode(task)

    monkeypatch.setattr(module, "_decode", meanwhile)
    assert prepare(source, out, **HERE).episodes == len(refused) == 2


def test_disk_full_says_so_and_goes_on_later(make_videos, tmp_path, monkeypatch):
    source, out = make_videos(3), tmp_path / "store"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("_write_manifest", "_save"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
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


def test_a_damaged_video_is_used_up_to_the_damage(make_videos, tmp_path):
    source = make_videos(1)
    path = write_video(source / "torn.mkv", moving_square(200, height=64, width=64), 15, crf=1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    report = prepare(source, tmp_path / "store", **HERE)
    kept = [e for e in ClipStore.open(tmp_path / "store").episodes if e.source == "torn.mkv"]
    assert 20 < sum(episode.length for episode in kept) < 200
    assert "torn.mkv" not in report.skipped


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


def test_a_video_that_crashes_the_decoder_is_named(make_videos, tmp_path):
    script = """
import os, sys
from genie.data import prepare
real = prepare.read_video
def read(path, **options):
    if path.name == "clip-1.mp4":
        os.abort()
    return real(path, **options)
prepare.read_video = read
if __name__ == "__main__":
    report = prepare.prepare(sys.argv[1], sys.argv[2], workers=2, progress=False)
    print(report.episodes, report.skipped)
"""
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, tmp_path / "run.py", make_videos(3), tmp_path / "store"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("2 {'clip-1.mp4': 'the decoder crashed on it")


def test_worker_processes_end_with_a_killed_parent(make_videos, tmp_path):
    script = """
import os, sys, time
from genie.data import prepare
def read(path, **options):
    with open(sys.argv[3], "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(60)
prepare.read_video = read
if __name__ == "__main__":
    prepare.prepare(sys.argv[1], sys.argv[2], workers=2, progress=False)
"""
    (tmp_path / "run.py").write_text(script)
    pids = tmp_path / "pids"
    command = [sys.executable, tmp_path / "run.py", make_videos(3), tmp_path / "store", pids]
    process = subprocess.Popen(command)
    _wait(lambda: pids.exists() and pids.read_text().endswith("\n"))
    process.kill()
    process.wait()
    worker = int(pids.read_text().split()[0])
    _wait(lambda: not _runs(worker))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def _wait(condition, seconds: float = 30) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_resampling_keeps_time(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    bright = np.arange(60, dtype=np.uint8) * 4
    clip = np.tile(bright[:, None, None, None], (1, 32, 32, 3))
    write_video(source / "thirty.mkv", clip, 30, crf=1)
    prepare(source, tmp_path / "store", **HERE, fps=10, val_share=0)
    store = ClipStore.open(tmp_path / "store")
    assert list(store.source_frames) == list(range(0, 60, 3))
    shown = store.read(0, 20).mean(axis=(1, 2, 3))
    assert np.abs(shown - bright[::3]).max() < 3


def test_a_variable_frame_rate_becomes_steady(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    times = np.concatenate([np.arange(15) / 15, 1 + np.arange(10) / 10, 2 + np.arange(20) / 20])
    write_timed(source / "vfr.mp4", zip(times.tolist(), moving_square(45), strict=True))
    prepare(source, tmp_path / "store", **HERE, fps=10, val_share=0)
    store = ClipStore.open(tmp_path / "store")
    assert abs(len(store) - 30) <= 1
    shown = times[store.source_frames]
    assert np.abs(shown - np.arange(len(store)) / 10).max() < 0.07


def test_a_gap_in_time_is_a_cut(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    times = np.concatenate([np.arange(20) / 10, 1000 + np.arange(25) / 10])
    write_timed(source / "gap.mp4", zip(times.tolist(), moving_square(45), strict=True))
    prepare(source, tmp_path / "store", **HERE, fps=10, val_share=0)
    assert [e.length for e in ClipStore.open(tmp_path / "store").episodes] == [20, 25]


def test_scene_changes_are_cut_but_motion_is_not(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    dark, light = moving_square(30), 255 - moving_square(24, seed=4)
    write_video(source / "two.mp4", np.concatenate([dark, light, dark[:5]]), 15)
    report = prepare(source, tmp_path / "store", **HERE, val_share=0)
    store = ClipStore.open(tmp_path / "store")
    assert [(e.start, e.length) for e in store.episodes] == [(0, 30), (30, 24)]
    assert list(store.source_frames) == list(range(54))
    assert report.notes == {"two.mp4": "dropped 5 frames in clips shorter than 16 frames"}


def write_actions(video: Path, actions: list[int], names: list[str]) -> None:
    sidecar = {"version": 1, "actions": actions, "action_names": names}
    video.with_suffix(".actions.json").write_text(json.dumps(sidecar))


def test_true_actions_follow_the_frames(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    names = ["left", "right", "jump"]
    actions = np.random.default_rng(0).integers(0, 3, 40).tolist()
    for name in ("a", "b"):
        write_video(source / f"{name}.mp4", moving_square(40), 15)
    write_actions(source / "a.mp4", actions, names)
    write_actions(source / "b.mp4", actions, names[::-1])
    prepare(source, tmp_path / "store", **HERE)
    shutil.rmtree(source)
    store = ClipStore.open(tmp_path / "store")
    assert store.action_names == names
    assert list(store.labels()[:40]) == [*actions[:39], -1]
    assert list(store.labels()[40:]) == [*(2 - a for a in actions[:39]), -1]
    assert store.episodes[0].sidecar == "a.actions.json"


def test_true_actions_after_resampling_are_the_most_frequent(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "a.mp4", moving_square(60), 30)
    write_video(source / "unlabelled.mp4", moving_square(40, seed=3), 30)
    write_video(source / "odd.mp4", moving_square(40, seed=5), 30)
    (source / "odd.actions.json").write_text("{]")
    write_actions(source / "a.mp4", [0, 1, 1] * 10 + [2, 2, 0] * 10, ["a", "b", "c"])
    prepare(source, tmp_path / "store", **HERE, fps=10, min_frames=10)
    labels = ClipStore.open(tmp_path / "store").labels()
    assert list(labels[:20]) == [1] * 10 + [2] * 9 + [-1]
    assert set(labels[20:]) == {-1}


def test_split_by_path_or_by_folder():
    names = [f"{n}.mp4" for n in range(1000)]
    splits = split_sources(names, 0.1)
    assert 60 < splits.count("val") < 140
    assert split_sources(names[:500], 0.1) == splits[:500]
    assert split_sources(["a.mp4", "b.mp4"], 0.1).count("val") == 1
    assert split_sources(["a.mp4", "b.mp4"], 0.99).count("train") == 1
    assert split_sources(["a.mp4", "b.mp4"], 0) == ["train", "train"]
    folders = ["x/train/a.mp4", "x/val/a.mp4", "x/test/b.mp4", "b.mp4"]
    assert split_sources(folders, 0.1) == ["train", "val", "test", "train"]
    assert "val" in split_sources(["train/a.mp4", "train/b.mp4", "test/c.mp4"], 0.1)[:2]


def united(*rows):
    episodes = [
        Episode(n, source, split, 20 * n, 20, digest)
        for n, (source, split, digest) in enumerate(rows)
    ]
    found, notes = unite_copies(episodes)
    return [row.split for row in found], notes


def test_copies_of_a_video_share_a_split():
    free = ("a", "val", "1"), ("b", "train", "1"), ("c", "val", "2"), ("d", "train", "3")
    assert united(*free) == (["train", "train", "val", "train"], {})
    kept = ("a", "val", "1"), ("b", "train", "1"), ("d", "train", "3")
    assert united(*kept) == (["val", "val", "train"], {})  # something stays held out
    assert united(*kept[:2]) == (["train", "train"], {})  # and something to train on


def test_copies_in_folders_of_a_split():
    splits, notes = united(
        ("train/a", "train", "1"), ("val/b", "val", "1"), ("val/c", "val", "2"), ("d", "train", "2")
    )
    assert splits == ["train", "train", "val", "val"]
    assert list(notes) == ["val/b"]
    assert "20 frames left out of val" in notes["val/b"]
    assert united(("test/a", "test", "1"), ("b", "train", "1"))[0] == ["test", "test"]


def test_a_video_copied_into_the_held_out_folder_is_not_held_out(tmp_path):
    source = tmp_path / "videos"
    for name, seed in (("train/a", 1), ("val/again", 1), ("val/b", 2)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(source / f"{name}.mp4", moving_square(40, seed=seed), 15)
    report = prepare(source, tmp_path / "store", **HERE)
    assert report.frames == {"train": 80, "val": 40}
    assert list(report.notes) == ["val/again.mp4"]


def test_one_video_holds_out_its_end(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "only.mp4", moving_square(200), 15)
    report = prepare(source, tmp_path / "store", **HERE)
    assert report.frames == {"train": 180, "val": 20}
    assert [e.start for e in ClipStore.open(tmp_path / "store").episodes] == [0, 180]


def test_videos_are_found_at_any_depth(tmp_path):
    for name in ("b.MP4", "a/x.webm", "a/b/c.gif", ".git/x.mp4", "a/.x.mkv", "a/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == ["a/b/c.gif", "a/x.webm", "b.MP4"]
