from __future__ import annotations

import importlib.util
import sys

import buttons
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from genie.core.config import UserError
from genie.data.recording import environments as module
from genie.data.recording.environments import LevelRange, make_env_batch

procgen = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="needs procgen")
EASY = LevelRange(0, 100)


def gym_games(num=2, levels=EASY, seed=0, **options):
    return make_env_batch("gym:GenieTest/Buttons-v0", mode="easy", options=options)(
        num, levels, seed
    )


def test_validation_levels_come_after_training_levels():
    train, val = (LevelRange.of_split(split, 50, 200, 30) for split in ("train", "val"))
    assert (train, val) == (LevelRange(50, 200), LevelRange(250, 30))
    train, val = (LevelRange.of_split(split, 0, 0, 100) for split in ("train", "val"))
    assert train.first + train.count == val.first
    assert val.first + val.count == 2**31 - 1
    for numbers in ((-1, 5, 5), (0, 2**31, 5), (0, 5, 0), (2**31, 0, 5)):
        with pytest.raises(UserError, match="level"):
            LevelRange.of_split("train", *numbers)


def test_gym_games_show_the_frame_after_the_last_action():
    games = gym_games(num=2, length=3, first=7)
    assert games.levels == [0, 1]
    assert games.action_names == ["action 0", "action 1", "action 2", "action 3"]
    assert ((games.sample() >= 0) & (games.sample() < 4)).all()
    go = np.zeros(2, bool)
    for _ in range(2):
        step = games.step(np.array([1, 3]), go)
        assert list(step.rewards) == [1, 3]
        assert not step.terminated.any()
    assert buttons.last_actions(games.observe()) == [1, 3]
    step = games.step(np.array([2, 0]), go)
    assert step.terminated.all()
    assert not step.truncated.any()
    assert buttons.last_actions(step.last_frames.values()) == [2, 0]
    assert buttons.last_actions(games.observe()) == [-1, -1]
    assert games.levels == [2, 3]


def test_gym_games_restart_on_request():
    games = gym_games(num=2)
    step = games.step(np.array([1, 1]), np.array([False, True]))
    assert list(step.truncated) == [False, True]
    assert not step.last_frames
    assert buttons.steps(games.observe()) == [1, 0]


def test_observation_where_nothing_is_drawn():
    games = gym_games(drawn=False)
    assert games.observe().shape == (2, 32, 32, 3)
    with pytest.raises(UserError, match="draws no picture"):
        make_env_batch("gym:GenieTest/WithoutPicture-v0", mode="easy", options={})(1, EASY, 0)


def test_actions_that_are_no_choices():
    games = gym_games(space=gymnasium.spaces.Box(-1, 1, (2,)))
    assert games.action_names is None
    drawn = games.sample()
    assert drawn.shape == (2,)
    assert drawn[0].shape == (2,)
    games.step(drawn, np.zeros(2, bool))


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([3, 2], start=[1, 5]),
        spaces.MultiBinary(2),
        gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(0, 1, (2,)))),
        gymnasium.spaces.Dict(
            {"move": gymnasium.spaces.Discrete(3), "say": gymnasium.spaces.Text(4)}
        ),
    ],
)
def test_actions_of_any_space_are_those_that_it_holds(space):
    games = gym_games(space=space)
    drawn = games.sample()
    assert games.action_names is None
    assert drawn.shape == (2,)
    assert all(space.contains(action) for action in drawn)
    games.step(drawn, np.zeros(2, bool))


def test_an_environment_of_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    words = "import buttons, gymnasium\ngymnasium.register('Own/Game-v0', buttons.Buttons)\n"
    (tmp_path / "own_games.py").write_text(words)
    games = make_env_batch("gym:own_games:Own/Game-v0", mode="easy", options={})(2, EASY, 0)
    assert games.observe().shape == (2, 32, 32, 3)
    with pytest.raises(UserError, match="did you mean Own/Game-v0"):
        make_env_batch("gym:own_games:Own/Gama-v0", mode="easy", options={})
    (tmp_path / "lacking.py").write_text("import no_such_package_here")
    with pytest.raises(UserError, match="lacking needs a package that is not installed: No module"):
        make_env_batch("gym:lacking:Own/Game-v0", mode="easy", options={})
    (tmp_path / "wrong.py").write_text("1 / 0")
    with pytest.raises(UserError, match="wrong cannot be imported"):
        make_env_batch("gym:wrong:Own/Game-v0", mode="easy", options={})


@pytest.mark.parametrize("moment", ["made", "reset", "drawn", "stepped"])
@pytest.mark.parametrize("error", [gymnasium.error.DependencyNotInstalled, ImportError])
def test_what_an_environment_needs_is_named(moment, error):
    class Needy(buttons.Buttons):
        def __init__(self, **options):
            self._check("made")
            super().__init__(**options)

        def _check(self, now):
            if now == moment:
                raise error("pip install what-it-needs")

        def reset(self, **options):
            self._check("reset")
            return super().reset(**options)

        def render(self):
            self._check("drawn")
            return super().render()

        def step(self, action):
            self._check("stepped")
            return super().step(action)

    gymnasium.register("GenieTest/Needy-v0", Needy, disable_env_checker=True)
    try:
        make = make_env_batch("gym:GenieTest/Needy-v0", mode="easy", options={})
        with pytest.raises(
            UserError, match=r"Needy-v0 needs a package .*: pip install what-it-need"
        ):
            make(1, EASY, 0).step(np.zeros(1, int), np.zeros(1, bool))
    finally:
        del gymnasium.registry["GenieTest/Needy-v0"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("coinrun", "say procgen:<game>"),
        ("procgen:", "say procgen:<game>"),
        ("doom:x", "say procgen:<game>"),
        ("procgen:coinrush", "no game 'coinrush'; choose bigfish"),
        ("gym:CartPoll-v1", "did you mean CartPole-v1"),
        ("gym:NoSuch/Thing-v0", "Gymnasium has no environment"),
        ("gym:no_such_module:Thing-v0", "Gymnasium has no environment"),
    ],
)
def test_unknown_environments(env, message):
    with pytest.raises(UserError, match=message):
        make_env_batch(env, mode="easy", options={})


def test_unknown_options():
    with pytest.raises(UserError, match="coinrun has no mode 'memory'; choose easy, hard"):
        make_env_batch("procgen:coinrun", mode="memory", options={})
    with pytest.raises(UserError, match="no option 'colour'; choose center_agent"):
        make_env_batch("procgen:coinrun", mode="easy", options={"colour": True})
    with pytest.raises(UserError, match="check its options"):
        gym_games(colour=True)


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "genie-worlds\[procgen\]"'):
        make_env_batch("procgen:coinrun", mode="easy", options={})
    with pytest.raises(UserError, match=r'pip install "genie-worlds\[atari\]"'):
        make_env_batch("gym:ALE/Breakout-v5", mode="easy", options={})


@procgen
def test_procgen_goes_on_from_saved_states_in_any_game():
    games = make_env_batch("procgen:coinrun", mode="easy", options={})(3, EASY, 1)
    try:
        actions = np.random.default_rng(0).integers(15, size=(20, 3))
        go = np.zeros(3, bool)
        for row in actions[:5]:
            games.step(row, go)
        saved, shown, levels = games.save(), games.observe(), games.levels
        after = []
        for row in actions:
            games.step(row, go)
            after.append(games.observe())
        games.restore(saved)
        assert (games.observe() == shown).all()
        assert games.levels == levels
        for row, frames in zip(actions, after, strict=True):
            games.step(row, go)
            assert (games.observe() == frames).all()
        games.restore([saved[1]] * 3)
        games.step(actions[0, [1, 1, 1]], go)
        assert (games.observe() == after[0][1]).all()
    finally:
        games.close()


@procgen
def test_procgen_levels_and_restart(capfd):
    games = make_env_batch("procgen:maze", mode="easy", options={"use_backgrounds": False})(
        3, LevelRange(40, 10), 1
    )
    try:
        assert games.observe().shape == (3, 64, 64, 3)
        assert games.action_names[4] == "noop"
        seen = set(games.levels)
        for _ in range(40):
            step = games.step(games.sample(), np.array([False, True, True]))
            assert step.truncated[1:].all()
            assert not step.truncated[0]
            seen |= set(games.levels)
        assert seen == set(range(40, 50))
    finally:
        games.close()
    assert "unmaintained" not in "".join(capfd.readouterr())


def test_atari():
    pytest.importorskip("ale_py")
    games = make_env_batch("gym:ALE/Breakout-v5", mode="easy", options={})(1, EASY, 0)
    assert games.observe().shape == (1, 210, 160, 3)
    assert games.action_names == ["noop", "fire", "right", "left"]
    games.close()
