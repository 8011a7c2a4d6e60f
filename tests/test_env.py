import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from PIL import Image

from genie.config import UserError
from genie.env import ENV_ID, GenieEnv, GenieVectorEnv
from genie.world import Genie
from small import TINY

PROMPTS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def world():
    """Random weights, large enough that each action leads to another frame."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    with torch.no_grad():
        for weight in world.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        world.dynamics.action.weight.mul_(5)
    return world


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """The same world on disk, with its prompts."""
    folder = tmp_path_factory.mktemp("world")
    world.save_pretrained(folder)
    (folder / "prompts").mkdir()
    for i, prompt in enumerate(PROMPTS):
        Image.fromarray(prompt).save(folder / "prompts" / f"{i}.png")
    return folder


def played(env, actions, seed=None):
    frames = [env.reset(seed=seed)[0]]
    return np.stack(frames + [env.step(action)[0] for action in actions])


def test_the_environment_checker_finds_nothing(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, world=str(folder), render_mode="rgb_array").unwrapped)


def test_the_id_is_known_by_its_module():
    code = "import gymnasium; gymnasium.make('genie.env:genie/World-v0', world='/nowhere/at/all')"
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
    code = "import genie.env, sys; assert 'torch' not in sys.modules"
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


def singles(world, count, **options):
    return [GenieEnv(world, PROMPTS, **options) for _ in range(count)]


def test_a_batch_of_games_equals_single_games_across_their_ends(world):
    """Game i ends after its own number of steps, so restarts never fall together."""
    options = {
        "reward_fn": lambda frame, action, after, info: float(after.mean()),
        "termination_fn": lambda frame, action, after, info: info["step"] > info["prompt"] + 1,
        "horizon": 3,
    }
    envs, alone = GenieVectorEnv(world, 3, PROMPTS, **options), singles(world, 3, **options)
    frames, _ = envs.reset(seed=[4, 9, 2])
    for i, (env, seed) in enumerate(zip(alone, (4, 9, 2), strict=True)):
        np.testing.assert_array_equal(frames[i], env.reset(seed=seed)[0])
    ended, restarts = [False] * 3, set()
    for t in range(12):
        actions = np.array([t % 4, (t + 1) % 4, 3])
        frames, rewards, terminated, truncated, infos = envs.step(actions)
        for i, env in enumerate(alone):
            if ended[i]:
                frame, info = env.reset()
                outcome = (frame, 0.0, False, False, info)
                restarts.add((i, t))
            else:
                outcome = env.step(actions[i])
            np.testing.assert_array_equal(frames[i], outcome[0])
            np.testing.assert_allclose(rewards[i], outcome[1])
            assert (terminated[i], truncated[i]) == outcome[2:4]
            assert {key: infos[key][i] for key in ("step", "prompt")} == outcome[4]
            ended[i] = outcome[2] or outcome[3]
    assert {i for i, _ in restarts} == {0, 1, 2}
    assert len({t for _, t in restarts}) > 2


def test_one_forward_steps_all_games(world, monkeypatch):
    sizes, step = [], Genie.step
    monkeypatch.setattr(
        Genie,
        "step",
        lambda self, state, *rest: sizes.append(state.batch_size) or step(self, state, *rest),
    )
    envs = GenieVectorEnv(world, 4, PROMPTS)
    envs.reset(seed=0)
    envs.step(np.zeros(4, int))
    assert sizes == [4]


def test_gymnasium_makes_the_batched_environment(folder):
    envs = gym.make_vec(ENV_ID, num_envs=2, world=str(folder), horizon=4, max_episode_steps=2)
    assert isinstance(envs.unwrapped, GenieVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    frames, infos = envs.reset(seed=1)
    assert frames in envs.observation_space
    assert infos["step"].tolist() == [0, 0]
    envs.step(envs.action_space.sample())
    assert envs.step(envs.action_space.sample())[3].all()
    envs.close()


def test_the_batch_renders_and_checks_its_actions(world):
    envs = GenieVectorEnv(world, 2, PROMPTS, render_mode="rgb_array")
    frames, _ = envs.reset(seed=3)
    np.testing.assert_array_equal(np.stack(envs.render()), frames)
    with pytest.raises(UserError, match=r"shape \(2,\)"):
        envs.step(np.zeros(3, int))
    with pytest.raises(UserError, match="2 seeds"):
        envs.reset(seed=[1, 2, 3])


def test_games_may_start_from_clips_of_different_length(world):
    clips = [PROMPTS, PROMPTS[:2], PROMPTS[0]]
    envs = GenieVectorEnv(world, 3, clips)
    envs.reset(seed=6)
    alone = GenieEnv(world, clips)
    expected = played(alone, [1, 2], 7)
    actual = played(envs, [np.full(3, 1), np.full(3, 2)], 6)
    np.testing.assert_array_equal(actual[:, 1], expected)


def test_ppo_learns_a_few_steps(world):
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = GenieEnv(world, PROMPTS, reward_fn=lambda *t: float(t[2].mean() / 255), horizon=8)
    agent = stable_baselines3.PPO("MlpPolicy", env, n_steps=16, batch_size=8, n_epochs=1, seed=0)
    agent.learn(32)
    action, _ = agent.predict(env.reset(seed=0)[0])
    assert action in env.action_space
