from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_videos import HERE, moving_square, rot, write_encoded, write_timed

from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.data.video import write_video


def test_resampling_keeps_time(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    bright = np.arange(60, dtype=np.uint8) * 4
    clip = np.tile(bright[:, None, None, None], (1, 32, 32, 3))
    write_video(source / "thirty.mkv", clip, 30, crf=1)
    prepare(source, tmp_path / "store", **HERE, fps=10, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    assert list(store.source_frames) == list(range(0, 60, 3))
    shown = store.read(0, 20).mean(axis=(1, 2, 3))
    assert np.abs(shown - bright[::3]).max() < 3


def test_a_variable_frame_rate_becomes_steady(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    times = np.concatenate([np.arange(15) / 15, 1 + np.arange(10) / 10, 2 + np.arange(20) / 20])
    write_timed(source / "vfr.mp4", zip(times.tolist(), moving_square(45), strict=True))
    prepare(source, tmp_path / "store", **HERE, fps=10, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    assert abs(len(store) - 30) <= 1
    shown = times[store.source_frames]
    assert np.abs(shown - np.arange(len(store)) / 10).max() < 0.07


def test_a_gap_in_time_is_a_cut(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    times = np.concatenate([np.arange(20) / 10, 1000 + np.arange(25) / 10])
    write_timed(source / "gap.mp4", zip(times.tolist(), moving_square(45), strict=True))
    prepare(source, tmp_path / "store", **HERE, fps=10, val_fraction=0)
    assert [e.length for e in ClipStore.open(tmp_path / "store").episodes] == [20, 25]


def test_scene_changes_are_cut_but_motion_is_not(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    dark, light = moving_square(30), 255 - moving_square(24, seed=4)
    write_video(source / "two.mp4", np.concatenate([dark, light, dark[:5]]), 15)
    report = prepare(source, tmp_path / "store", **HERE, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    assert [(e.start, e.length) for e in store.episodes] == [(0, 30), (30, 24)]
    assert list(store.source_frames) == list(range(54))
    assert report.notes == {"two.mp4": "dropped 5 frames in clips shorter than 16 frames"}


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


@pytest.mark.parametrize(
    ("frame", "options", "lost"),
    [
        (20, {"bf": "0"}, (20, 30)),
        (30, {"bf": "0"}, (30, 45)),
        (20, {"bf": "2", "x264-params": "b-adapt=0:b-pyramid=0"}, (20, 30)),
        (21, {"bf": "2", "x264-params": "b-adapt=0:b-pyramid=0"}, (19, 30)),
    ],
)
def test_a_video_goes_on_after_damage_with_a_cut(tmp_path, frame, options, lost):
    source = tmp_path / "videos"
    source.mkdir()
    noise = np.random.default_rng(0).integers(0, 60, (60, 64, 64, 3), np.uint8)
    clip = moving_square(60, height=64, width=64) // 2 + noise
    path = write_encoded(source / "rotten.mp4", clip, g="15", sc_threshold="0", **options)
    prepare(source, tmp_path / "whole", **HERE, val_fraction=0, min_frames=10)
    rot(path, frame)
    (source / "rotten.actions.json").write_text(
        json.dumps({"actions": list(range(60)), "action_names": [f"a{n}" for n in range(60)]})
    )
    report = prepare(source, tmp_path / "store", **HERE, val_fraction=0, min_frames=10)
    store, whole = ClipStore.open(tmp_path / "store"), ClipStore.open(tmp_path / "whole")
    first, end = lost
    assert [episode.length for episode in store.episodes] == [first, 60 - end]
    assert list(store.source_frames) == [*range(first), *range(end, 60)]
    assert list(store.labels()) == [*range(first - 1), -1, *range(end, 59), -1]
    assert np.array_equal(store.read(0, len(store)), whole.read(0, 60)[store.source_frames])
    assert re.fullmatch(
        rf"damaged from {(first - 1) / 15:.2f} s to {end / 15:.2f} s \(.*\); re-encode the file.*",
        report.notes["rotten.mp4"],
    )


def test_time_that_begins_again_is_a_cut(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    clips = moving_square(60), moving_square(30, seed=3)
    parts = [
        write_encoded(tmp_path / f"{n}.webm", clip, "libvpx", crf="4", b="4M")
        for n, clip in enumerate(clips)
    ]
    (source / "both.webm").write_bytes(b"".join(part.read_bytes() for part in parts))
    prepare(source, tmp_path / "store", **HERE, val_fraction=0, scene_threshold=1)
    store = ClipStore.open(tmp_path / "store")
    assert [episode.length for episode in store.episodes] == [60, 30]
    assert list(store.source_frames) == list(range(90))


@pytest.mark.parametrize(("delays", "counts"), [((100, 300, 200, 500), (1, 3, 2, 5))])
def test_each_picture_of_a_gif_stays_its_time(tmp_path, delays, counts):
    source = tmp_path / "videos"
    source.mkdir()
    first, *rest = [Image.fromarray(frame) for frame in moving_square(len(delays))]
    first.save(source / "x.gif", save_all=True, append_images=rest, duration=list(delays))
    still = {"min_frames": 2, "max_static_fraction": 1.0}
    prepare(source, tmp_path / "store", **HERE, fps=10, val_fraction=0, **still)
    store = ClipStore.open(tmp_path / "store")
    assert list(store.source_frames) == np.repeat(np.arange(len(delays)), counts).tolist()


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(("rate", "count", "fps"), [(240, 480, 15), (10, 20, 15), (25, 50, 10)])
def test_a_video_of_two_seconds_has_two_seconds_of_frames(tmp_path, ending, rate, count, fps):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / f"x.{ending}", moving_square(count), rate)
    prepare(source, tmp_path / "store", **HERE, fps=fps, val_fraction=0)
    assert len(ClipStore.open(tmp_path / "store")) == 2 * fps


def test_a_video_that_crashes_the_decoder_is_named(make_videos, tmp_path):
    script = """
import os, sys
from genie.data.sources import videos
from genie.data.prepare import prepare
real = videos.read_frames
def read(path, **options):
    if path.name == "clip-1.mp4":
        os.abort()
    return real(path, **options)
videos.read_frames = read
if __name__ == "__main__":
    report = prepare(sys.argv[1], sys.argv[2], workers=2, progress=False)
    print(report.episodes, report.skipped)
"""
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, tmp_path / "run.py", make_videos(3), tmp_path / "store"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("2 {'clip-1.mp4': 'the decoder crashed on it")


def test_worker_processes_end_with_a_killed_parent(make_videos, tmp_path):
    script = """
import os, sys, time
from genie.data.sources import videos
from genie.data.prepare import prepare
def read(path, **options):
    with open(sys.argv[3], "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(60)
videos.read_frames = read
if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], workers=2, progress=False)
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
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
