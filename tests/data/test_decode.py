from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from sample_videos import HERE, moving_square, write_timed

from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.data.video import write_video


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


def test_a_video_that_crashes_the_decoder_is_named(make_videos, tmp_path):
    script = """
import os, sys
from genie.data import decode
from genie.data.prepare import prepare
real = decode.read_video
def read(path, **options):
    if path.name == "clip-1.mp4":
        os.abort()
    return real(path, **options)
decode.read_video = read
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
from genie.data import decode
from genie.data.prepare import prepare
def read(path, **options):
    with open(sys.argv[3], "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(60)
decode.read_video = read
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
