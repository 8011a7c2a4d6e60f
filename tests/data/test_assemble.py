from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from sample_videos import HERE, moving_square

from genie.data import store as store_module
from genie.data.assemble import Shards
from genie.data.decode import Task
from genie.data.plan import WORK, PrepareConfig
from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.data.video import write_video


def test_clips_fill_whole_files_and_parts_go_when_their_frames_are_in(tmp_path, monkeypatch):
    import tensorstore

    monkeypatch.setattr(store_module, "SHARD_FRAMES", 32)
    config = PrepareConfig(32, 32)
    videos = [moving_square(40, seed=1), moving_square(38, seed=2)]
    tasks = [Task(Path(), "", tmp_path / WORK / f"{n}.raw", config, 15) for n in range(2)]
    (tmp_path / WORK).mkdir()
    shards = Shards(tmp_path, config)
    for number, (task, frames) in enumerate(zip(tasks, videos, strict=True)):
        task.part.write_bytes(frames.tobytes())
        row = {"offset": 4, "length": len(frames) - 4, "hash": "", "source_frames": [0]}
        shards.append(number, task, [row])
    assert [task.part.exists() for task in tasks] == [False, True]  # of 70 frames 64 are in
    shards.finish()
    spec = {"driver": "zarr3", "kvstore": f"file://{tmp_path}/frames/"}
    stored = tensorstore.open(spec).result().read().result()
    assert np.array_equal(stored, np.concatenate([frames[4:] for frames in videos]))
    assert [(clip.start, clip.end) for clip in shards.clips] == [(0, 36), (36, 70)]


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
