from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from sample_videos import HERE, moving_square

from genie.data import assemble
from genie.data import store as store_module
from genie.data.assemble import RawFrames, ShardWriter
from genie.data.decode import DecodeTask
from genie.data.folders import LocalFolder
from genie.data.plan import WORK_FOLDER, PrepareConfig
from genie.data.prepare import prepare
from genie.data.sources.videos import VideoFiles
from genie.data.store import ClipStore
from genie.data.video import write_video


def test_folders_of_a_file_are_on_the_disk_before_it_counts_as_done(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_FRAMES", 32)
    synced, done = [], tmp_path / WORK_FOLDER / "progress.json"
    sync = assemble.sync_folder

    def noted(folder):
        synced.append((folder, done.exists()))
        sync(folder)

    monkeypatch.setattr(assemble, "sync_folder", noted)
    config, frames = PrepareConfig(32, 32), moving_square(32)
    (tmp_path / "0.raw").write_bytes(frames.tobytes())
    row = {"offset": 0, "length": 32, "hash": "", "source_frames": [0], "to_end": True}
    (tmp_path / WORK_FOLDER).mkdir()
    ShardWriter(tmp_path, config).append(0, RawFrames(tmp_path / "0.raw", config), [row])
    above = [tmp_path / place for place in ("frames/c/0/0", "frames/c/0", "frames/c", "frames")]
    assert synced == [(folder, False) for folder in (*above, tmp_path)]
    assert done.read_text() == "1"


def test_clips_fill_whole_files_and_parts_go_when_their_frames_are_in(tmp_path, monkeypatch):
    import tensorstore

    monkeypatch.setattr(store_module, "SHARD_FRAMES", 32)
    config = PrepareConfig(32, 32)
    videos = [moving_square(40, seed=1), moving_square(38, seed=2)]
    tasks = [
        DecodeTask(
            VideoFiles(LocalFolder(Path())), "", tmp_path / WORK_FOLDER / f"{n}.raw", config, 15
        )
        for n in range(2)
    ]
    (tmp_path / WORK_FOLDER).mkdir()
    shards = ShardWriter(tmp_path, config)
    for number, (task, frames) in enumerate(zip(tasks, videos, strict=True)):
        task.part.write_bytes(frames.tobytes())
        row = {
            "offset": 4,
            "length": len(frames) - 4,
            "hash": "",
            "source_frames": [0],
            "to_end": True,
        }
        shards.append(number, RawFrames(task.part, config), [row | {"to_end": True}])
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


def write_outcome(video: Path, rewards: list[float], **ending: bool) -> None:
    sidecar = {"actions": [[0.5]] * len(rewards), "action_names": None, "rewards": rewards}
    video.with_suffix(".actions.json").write_text(json.dumps(sidecar | ending))


def test_rewards_and_ends_are_of_the_step_from_a_frame(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    for name in ("a-shown", "b-hidden", "c-cut", "d-unknown"):
        write_video(source / f"{name}.mp4", moving_square(20, seed=ord(name[0])), 15)
    over, cut = {"terminated": True, "truncated": False}, {"terminated": False, "truncated": True}
    # The frame after the last of 19 steps is there, that after the last of 20 is not.
    write_outcome(source / "a-shown.mp4", [0.0] * 18 + [5.0], **over)
    write_outcome(source / "b-hidden.mp4", list(range(20)), **over)
    write_outcome(source / "c-cut.mp4", [1.0] * 19, **cut)
    prepare(source, tmp_path / "store", **HERE, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    rewards, ends = store.rewards().reshape(4, 20), store.ends().reshape(4, 20)
    assert (rewards.dtype, ends.dtype) == (np.float32, np.int8)
    none = np.nan
    assert np.array_equal(rewards[0], [0] * 18 + [5, none], equal_nan=True)
    assert rewards[1].tolist() == list(range(20))
    assert np.array_equal(rewards[2], [1] * 19 + [none], equal_nan=True)
    assert np.isnan(rewards[3]).all()
    assert ends[0].tolist() == [0] * 18 + [1, -1]
    assert ends[1].tolist() == [0] * 19 + [1]
    assert ends[2].tolist() == [0] * 18 + [2, -1]
    assert ends[3].tolist() == [-1] * 20
    assert store.labels() is None
    assert store.rewards("val").shape == (0,)


def test_rewards_between_two_stored_frames_add_up(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "a.mp4", moving_square(60), 30)
    write_outcome(source / "a.mp4", [2.0**-n for n in range(60)], terminated=True, truncated=False)
    prepare(source, tmp_path / "store", **HERE, fps=10, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    assert np.allclose(store.rewards(), [1.75 * 8.0**-n for n in range(20)])
    assert store.ends().tolist() == [0] * 19 + [1]


def test_a_reward_before_a_cut_is_not_that_of_the_frame_after_it(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "a.mp4", np.concatenate([moving_square(20), 255 - moving_square(20)]), 15)
    write_outcome(source / "a.mp4", list(range(40)), terminated=False, truncated=True)
    prepare(source, tmp_path / "store", **HERE, val_fraction=0)
    store = ClipStore.open(tmp_path / "store")
    expected = [*range(19), np.nan, *range(20, 40)]
    assert np.array_equal(store.rewards(), expected, equal_nan=True)
    assert store.ends().tolist() == [0] * 19 + [-1] + [0] * 19 + [2]


def test_damaged_rewards_are_none(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "a.mp4", moving_square(20), 15)
    for rewards in (None, ["many"], 3):
        write_outcome(source / "a.mp4", [])
        sidecar = {"actions": [0] * 19, "action_names": ["x"], "rewards": rewards}
        (source / "a.actions.json").write_text(json.dumps(sidecar))
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        prepare(source, tmp_path / "store", **HERE, val_fraction=0)
        store = ClipStore.open(tmp_path / "store")
        assert store.rewards() is None
        assert store.ends() is None
        assert store.labels().tolist() == [0] * 19 + [-1]
