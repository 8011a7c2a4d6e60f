from __future__ import annotations

import importlib.util
import sys

import buttons
import gymnasium
import numpy as np
import pytest
from recordings import BUTTONS, QUIET, decoded, sidecar, videos

from genie.core.config import UserError
from genie.data.prepare import prepare
from genie.data.recording.environments import LevelRange, ProcgenBatch
from genie.data.recording.record import record
from genie.data.store import ClipStore
from genie.data.video import probe

procgen = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="needs procgen")


def test_each_action_leads_to_the_next_frame(tmp_path):
    report = record(BUTTONS, tmp_path / "out", episodes=5, num_envs=3, val_fraction=0.4, **QUIET)
    assert report.episodes == {"train": 5, "val": 2}
    assert report.frames == {"train": 5 * 21, "val": 2 * 21}
    for path in [*videos(tmp_path / "out/train"), *videos(tmp_path / "out/val")]:
        frames, told = decoded(path), sidecar(path)
        assert buttons.last_actions(frames) == [-1, *told["actions"]]
        assert buttons.steps(frames) == list(range(21))
        assert told["rewards"] == told["actions"]
        assert (told["terminated"], told["truncated"], told["frames"]) == (True, False, 21)
        assert (told["env"], told["policy"], told["version"]) == (BUTTONS, "sticky", 1)
        assert len(told["action_names"]) == 4


def test_labels_of_a_prepared_recording(tmp_path):
    record(BUTTONS, tmp_path / "out", episodes=4, **QUIET)
    options = {"height": 32, "width": 32, "workers": 0, "progress": False, "scene_threshold": 1}
    prepare(tmp_path / "out", tmp_path / "store", **options)
    store = ClipStore.open(tmp_path / "store")
    labels = store.labels()
    for episode in store.episodes:
        shown = buttons.last_actions(store.read(episode.start, episode.length))
        span = slice(episode.start, episode.start + episode.length)
        assert list(labels[span]) == [*shown[1:], -1]
        # In this game the reward is the number of the action, and the last step is shown.
        assert list(store.rewards()[span][:-1]) == shown[1:]
        assert list(store.ends()[span]) == [0] * 19 + [1, -1]


def test_levels_of_train_and_val_never_overlap(tmp_path):
    options = {
        "episodes": 12,
        "val_fraction": 0.5,
        "num_levels": 7,
        "start_level": 3,
        "val_levels": 4,
    }
    record(BUTTONS, tmp_path / "out", **options, **QUIET)
    train = {sidecar(path)["level"] for path in videos(tmp_path / "out/train")}
    val = {sidecar(path)["level"] for path in videos(tmp_path / "out/val")}
    assert train == set(range(3, 10))
    assert val == set(range(10, 14))


def test_frames_and_time_limit(tmp_path):
    report = record(
        BUTTONS,
        tmp_path / "out",
        frames=253,
        num_envs=2,
        max_episode_frames=8,
        val_fraction=0,
        **QUIET,
    )
    told = [sidecar(path) for path in videos(tmp_path / "out/train")]
    assert report.frames == {"train": 253}
    assert sum(t["frames"] for t in told) == 253
    assert not (tmp_path / "out/val").exists()
    assert {t["frames"] for t in told[:-2]} == {8}
    assert all(t["truncated"] and not t["terminated"] for t in told)
    for path, t in zip(videos(tmp_path / "out/train"), told, strict=True):
        assert probe(path).fps == 15
        assert len(t["actions"]) in (t["frames"] - 1, t["frames"])
        assert buttons.last_actions(decoded(path))[1:] == t["actions"][: t["frames"] - 1]


def test_the_same_seed_records_the_same(tmp_path):
    def actions(name, seed):
        record(BUTTONS, tmp_path / name, episodes=3, seed=seed, val_fraction=0, **QUIET)
        return [sidecar(path)["actions"] for path in videos(tmp_path / name / "train")]

    assert actions("a", 1) == actions("b", 1)
    assert actions("c", 2) != actions("a2", 1)


def test_size(tmp_path):
    record(BUTTONS, tmp_path / "out", episodes=1, size=96, **QUIET)
    assert decoded(videos(tmp_path / "out/train")[0]).shape == (21, 96, 96, 3)


def test_a_folder_in_use(tmp_path):
    out = tmp_path / "out"
    record(BUTTONS, out, episodes=2, val_fraction=0.5, **QUIET)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    with pytest.raises(UserError, match="holds 6 files already; choose another --out"):
        record(BUTTONS, out, episodes=2, **QUIET)
    record(BUTTONS, out, episodes=2, val_fraction=0.5, append=True, **QUIET)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert [path.name for path in videos(out / "train")] == [
        f"genietest-buttons-v0-{n:06d}.mp4" for n in range(4)
    ]
    played = [sidecar(path)["actions"] for path in videos(out / "train")]
    assert played[:2] != played[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 5, "episodes": 5}, "not both"),
        ({"frames": 0}, "above 0"),
        ({"episodes": 2, "num_envs": 0}, "num_envs"),
        ({"episodes": 2, "max_episode_frames": 1}, "max_episode_frames"),
    ],
)
def test_impossible_requests(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        record(BUTTONS, tmp_path / "out", **options, **QUIET)


SPACES = {
    "multidiscrete": gymnasium.spaces.MultiDiscrete([3, 2], start=[1, 5]),
    "dict": gymnasium.spaces.Dict(
        {"move": gymnasium.spaces.Discrete(3), "aim": gymnasium.spaces.Box(0, 1, (2,))}
    ),
    "tuple": gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(2), gymnasium.spaces.Text(3))),
    "box": gymnasium.spaces.Box(-1, 1, (2,)),
}


@pytest.mark.parametrize("name", SPACES)
def test_actions_of_any_space_are_kept(tmp_path, name):
    space = SPACES[name]
    options = {"options": {"space": space, "length": 6}, "val_fraction": 0}
    record(BUTTONS, tmp_path / "out", episodes=2, policy="mixture", **options, **QUIET)
    told = sidecar(videos(tmp_path / "out/train")[0])
    assert told["action_names"] is None
    assert len(told["actions"]) == 6
    back = {
        "multidiscrete": np.array,
        "dict": lambda a: {"move": np.int64(a["move"]), "aim": np.array(a["aim"], np.float32)},
        "tuple": lambda a: (np.int64(a[0]), a[1]),
        "box": lambda a: np.array(a, np.float32),
    }[name]
    assert all(space.contains(back(action)) for action in told["actions"])


def test_a_failed_start_leaves_no_folder(tmp_path):
    out = tmp_path / "deep" / "out"
    with pytest.raises(UserError, match="must return"):
        record(BUTTONS, out, episodes=2, policy=lambda frames: [9] * len(frames), **QUIET)
    assert list(tmp_path.iterdir()) == []
    out.mkdir(parents=True)
    with pytest.raises(UserError, match="must return"):
        record(BUTTONS, out, episodes=2, policy=lambda frames: [9] * len(frames), **QUIET)
    assert list(out.iterdir()) == []


def test_a_missing_dependency_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"CartPole-v1 needs .*pip install .gymnasium\[cla"):
        record("gym:CartPole-v1", tmp_path / "out", episodes=1, **QUIET)
    assert list(tmp_path.iterdir()) == []


@procgen
def test_procgen_frames_follow_from_the_actions(tmp_path):
    options = {"episodes": 3, "num_envs": 1, "val_fraction": 0, "max_episode_frames": 60}
    record("procgen:miner", tmp_path / "out", seed=5, num_levels=20, **options, **QUIET)
    games = ProcgenBatch("miner", 1, LevelRange(0, 20), 5, "easy", {})
    for path in videos(tmp_path / "out/train"):
        told, frames = sidecar(path), decoded(path)
        assert games.levels == [told["level"]]
        assert told["level"] < 20
        again = []
        for action in [*told["actions"], -1][: len(frames)]:
            again.append(games.observe()[0])
            games.step(np.array([action]), np.array([action < 0]))
        error = np.abs(np.stack(again).astype(int) - frames).mean(axis=(1, 2, 3))
        assert error.max() < 6
    games.close()
