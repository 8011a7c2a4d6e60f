import gymnasium as gym
import numpy as np
import pytest
import torch
from prompted import PROMPTS

from genie.core.config import UserError
from genie.envs.gym import GenieEnv
from genie.envs.vector import GenieVectorEnv
from genie.world.genie import Genie


def test_reward_and_end_are_pluggable(world):
    calls = []

    def reward(frame, action, after, info):
        calls.append((frame, action, after))
        info["mean"] = after.mean()
        return action / 2

    env = GenieEnv(
        world, PROMPTS, reward_fn=reward, termination_fn=lambda *t: t[-1]["step"] == 2, horizon=None
    )
    first, _ = env.reset(seed=1)
    after, value, terminated, truncated, info = env.step(3)
    assert (value, terminated, truncated) == (1.5, False, False)
    np.testing.assert_array_equal(calls[0][0], first)
    np.testing.assert_array_equal(calls[0][2], after)
    assert info["mean"] == after.mean()
    assert env.step(0)[2:4] == (True, False)


def test_the_horizon_truncates(world):
    env = GenieEnv(world, PROMPTS, horizon=3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_misuse_is_explained(world, tmp_path):
    with pytest.raises(gym.error.ResetNeeded):
        GenieEnv(world, PROMPTS).step(0)
    with pytest.raises(UserError, match="horizon"):
        GenieEnv(world, PROMPTS, horizon=0)
    with pytest.raises(UserError, match="rgb_array"):
        GenieEnv(world, PROMPTS, render_mode="human")
    with pytest.raises(UserError, match="--prompt"):
        GenieEnv(world)
    with pytest.raises(UserError, match="num_envs"):
        GenieVectorEnv(world, 0, PROMPTS)
    env = GenieEnv(world, PROMPTS)
    env.reset()
    with pytest.raises(UserError, match="out of range"):
        env.step(4)


def test_learned_outcomes_are_those_of_the_state_before_and_the_action(world, reward_model):
    env = GenieEnv(world, PROMPTS, reward=reward_model)
    for seed in (3, 4):  # the first step after a reset is of the new game
        env.reset(seed=seed)
        for action in (2, 0, 3):
            before = env._state
            expected, end = reward_model.outcome(before, torch.tensor([action]))
            _, reward, terminated, _, _ = env.step(action)
            assert reward == pytest.approx(expected.item())
            assert terminated == end.item()
            others, _ = reward_model(env._state, torch.tensor([action]))
            assert reward != pytest.approx(others.item())


def test_learned_rewards_are_found_beside_the_world(world, folder, reward_model, tmp_path):
    with pytest.raises(UserError, match="genie train --from"):
        GenieEnv(folder, reward="learned")
    reward_model.save_pretrained(tmp_path / "own")
    env = GenieEnv(folder, reward=tmp_path / "own")
    env.reset(seed=0)
    assert env.step(1)[1] != 0
    own = Genie.from_pretrained(folder)
    own.folder = tmp_path / "own"
    GenieEnv(own, PROMPTS, reward="learned")
    with pytest.raises(UserError, match="leave reward_fn"):
        GenieEnv(folder, reward=tmp_path / "own", reward_fn=lambda *_: 0.0)
    with pytest.raises(UserError, match="not loaded by name"):
        GenieEnv(world, PROMPTS, reward="learned")
