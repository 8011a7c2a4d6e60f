from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import BUTTONS, QUIET, sidecar, videos

from genie.core.config import UserError
from genie.data.recording.record import record


def kept(path: Path) -> float:
    """Share of steps that keep the action."""
    actions = [np.array(sidecar(video)["actions"]) for video in videos(path / "train")]
    return float(np.mean(np.concatenate([a[1:] == a[:-1] for a in actions])))


def test_policies(tmp_path):
    def play(name, **options):
        path = tmp_path / name
        quick = {"preset": "ultrafast", "options": {"length": 40}, "val_fraction": 0}
        record(BUTTONS, path, episodes=12, num_envs=4, **quick, **QUIET, **options)
        return kept(path)

    assert play("random", policy="random") == pytest.approx(0.25, abs=0.06)
    assert play("sticky", sticky_action_prob=0.8) == pytest.approx(0.8 + 0.2 / 4, abs=0.05)
    assert 0.4 < play("mixture", policy="mixture", random_action_prob=0.3) < 0.75
    press = lambda frames: np.full(len(frames), 2)  # noqa: E731
    assert play("function", policy=press, random_action_prob=0) == 1
    assert play("noisy", policy=press, random_action_prob=0.4) == pytest.approx(0.5, abs=0.1)
    assert sidecar(videos(tmp_path / "noisy/train")[0])["policy"] == "<lambda>"


def test_a_restless_player_drops_an_action_after_which_nothing_moved(tmp_path):
    # After 25 steps this game shows the last action alone: to keep it is to stand still.
    length = {"options": {"length": 400}, "val_fraction": 0, "preset": "ultrafast"}
    for policy in ("sticky", "restless"):
        path = tmp_path / policy
        record(BUTTONS, path, episodes=4, num_envs=4, policy=policy, **length, **QUIET)
    # It keeps 0.85 after a change and 0.25 after standing still, so 0.85 / 1.6 in the long run.
    assert kept(tmp_path / "sticky") == pytest.approx(0.85, abs=0.05)
    assert kept(tmp_path / "restless") == pytest.approx(0.53, abs=0.06)


def test_chosen_actions_only(tmp_path):
    record(BUTTONS, tmp_path / "out", episodes=4, actions=["action 1", "action 3"], **QUIET)
    played = [sidecar(path)["actions"] for path in videos(tmp_path / "out/train")]
    assert set(np.concatenate(played)) == {1, 3}
    with pytest.raises(UserError, match="no action 'jump'; choose action 0"):
        record(BUTTONS, tmp_path / "other", episodes=4, actions=["jump"], **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sticky_action_prob": 1.5}, "sticky_action_prob must be within"),
        ({"random_action_prob": -0.1}, "random_action_prob must be within"),
        ({"policy": lambda frames: [9] * len(frames)}, "must return 2 actions"),
        ({"policy": lambda frames: [0]}, "must return 2 actions"),
        ({"actions": []}, "name at least one of action 0"),
    ],
)
def test_impossible_policies(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        record(BUTTONS, tmp_path / "out", episodes=2, **options, **QUIET)
