import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from prompted import PROMPTS, played

from genie.core.config import UserError
from genie.envs import ENV_ID
from genie.envs.gym import GenieEnv
from genie.world.action_mapper import ActionMapper


def test_the_environment_checker_finds_nothing(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, world=str(folder), render_mode="rgb_array").unwrapped)


def test_the_id_is_known_by_its_module():
    code = "import gymnasium; gymnasium.make('genie.envs:genie/World-v0', world='/nowhere/at/all')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "/nowhere/at/all: there is no such world folder" in done.stderr


def test_a_world_makes_its_environment(world):
    env = world.create_environment(PROMPTS[1], horizon=1)
    assert isinstance(env, GenieEnv)
    np.testing.assert_array_equal(env.reset(seed=0)[0], PROMPTS[1])
    assert env.step(0)[3], "truncated at its horizon"
    with pytest.raises(UserError, match="horizon"):
        world.create_environment(PROMPTS[1], horizon=0)


def test_registering_does_not_import_torch():
    code = "import genie.envs, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spaces_are_those_of_the_world(world):
    env = GenieEnv(world, PROMPTS[0])
    assert env.action_space == gym.spaces.Discrete(4)
    assert env.observation_space == gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    assert env.metadata["render_fps"] == 15


def test_the_first_frame_is_the_prompt_and_steps_are_the_worlds(world):
    env = GenieEnv(world, PROMPTS[1], render_mode="rgb_array")
    frame, info = env.reset(seed=5)
    np.testing.assert_array_equal(frame, PROMPTS[1])
    assert info == {"step": 0, "prompt": 0}
    after, reward, terminated, truncated, info = env.step(2)
    assert (reward, terminated, truncated, info["step"]) == (0.0, False, False, 1)
    np.testing.assert_array_equal(env.render(), after)


def test_same_seed_and_actions_give_the_same_frames(world):
    actions = [0, 1, 2, 3, 3, 2]
    env, twin = GenieEnv(world, PROMPTS), GenieEnv(world, PROMPTS)
    np.testing.assert_array_equal(played(env, actions, 7), played(twin, actions, 7))
    # The next episodes go on with the same stream.
    np.testing.assert_array_equal(played(env, actions), played(twin, actions))
    assert (played(env, actions, 8)[1:] != played(twin, actions, 7)[1:]).any()


def test_actions_matter(world):
    env = GenieEnv(world, PROMPTS[0])
    held = {played(env, [action] * 4, seed=3).tobytes() for action in range(4)}
    assert len(held) > 2  # two buttons may agree by chance


def test_resets_draw_from_the_prompts_and_may_be_told_which(world):
    env = GenieEnv(world, PROMPTS)
    assert {env.reset(seed=seed)[1]["prompt"] for seed in range(20)} == {0, 1, 2}
    frame, info = env.reset(options={"prompt": 2})
    np.testing.assert_array_equal(frame, PROMPTS[2])
    assert info["prompt"] == 2
    with pytest.raises(UserError, match="choose 0 to 2"):
        env.reset(options={"prompt": 3})


def test_the_observation_is_the_callers_to_change(world):
    env = GenieEnv(world, PROMPTS[0])
    first, _ = env.reset(seed=0)
    first[:] = 0
    again, *_ = env.step(0)
    np.testing.assert_array_equal(again, played(GenieEnv(world, PROMPTS[0]), [0], 0)[1])


def test_ppo_learns_a_few_steps(world):
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = GenieEnv(world, PROMPTS, reward_fn=lambda *t: float(t[2].mean() / 255), horizon=8)
    agent = stable_baselines3.PPO("MlpPolicy", env, n_steps=16, batch_size=8, n_epochs=1, seed=0)
    agent.learn(32)
    action, _ = agent.predict(env.reset(seed=0)[0])
    assert action in env.action_space


def test_real_actions_are_played_by_the_latent_ones_of_the_mapper(world, mapper):
    rewards = {"reward_fn": lambda frame, action, after, info: action}
    real = GenieEnv(world, PROMPTS[0], actions="real", mapper=mapper, **rewards)
    assert real.action_space == gym.spaces.Discrete(6)
    assert real.get_action_meanings()[:3] == ["noop", "left", "right"]
    latent = GenieEnv(world, PROMPTS[0])
    assert latent.get_action_meanings() == ["action 0", "action 1", "action 2", "action 3"]
    np.testing.assert_array_equal(played(real, [1, 2, 0, 1], 3), played(latent, [1, 0, 3, 1], 3))
    _, reward, _, _, info = real.step(2)
    assert (reward, info["latent_action"]) == (2, 0)


def test_the_checker_finds_nothing_in_real_actions(folder, mapper):
    mapper.save_pretrained(folder / "mapper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, world=str(folder), actions="real").unwrapped)
    shutil.rmtree(folder / "mapper")


def test_real_actions_need_the_mapper_of_the_world(world, folder, mapper):
    with pytest.raises(UserError, match="there is no mapper here; make one with `genie map`"):
        GenieEnv(folder, actions="real")
    with pytest.raises(UserError, match="mapper: give the folder of a mapper"):
        GenieEnv(world, PROMPTS[0], actions="real")
    other = ActionMapper(replace(mapper.config, latent_actions="another"))
    with pytest.raises(UserError, match="this mapper was made for other latent actions"):
        GenieEnv(world, PROMPTS[0], actions="real", mapper=other)
    with pytest.raises(UserError, match="only of use with actions='real'"):
        GenieEnv(world, PROMPTS[0], mapper=mapper)
    with pytest.raises(UserError, match="actions: expected 'latent' or 'real', got 'true'"):
        GenieEnv(world, PROMPTS[0], actions="true")
    env = GenieEnv(world, PROMPTS[0], actions="real", mapper=mapper)
    env.reset()
    with pytest.raises(UserError, match="6 is out of range"):
        env.step(6)
