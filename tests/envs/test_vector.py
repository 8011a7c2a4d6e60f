import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from prompted import PROMPTS, played

from genie.core.config import UserError
from genie.envs import ENV_ID
from genie.envs.gym import GenieEnv
from genie.envs.vector import GenieVectorEnv
from genie.world.genie import Genie


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


def test_learned_outcomes_of_a_batch_are_those_of_single_games(world, reward_model):
    """The step that starts an episode anew earns nothing, and the next one is its first."""
    options = {"reward": reward_model, "horizon": 3}
    envs, alone = GenieVectorEnv(world, 3, PROMPTS, **options), singles(world, 3, **options)
    envs.reset(seed=[4, 9, 2])
    for env, seed in zip(alone, (4, 9, 2), strict=True):
        env.reset(seed=seed)
    ended, seen = np.zeros(3, bool), []
    for t in range(14):
        actions = np.array([t % 4, (t + 1) % 4, 3])
        _, rewards, terminated, truncated, _ = envs.step(actions)
        for i, env in enumerate(alone):
            if ended[i]:
                env.reset()
                outcome = (0.0, False, False)
            else:
                outcome = env.step(actions[i])[1:4]
                assert outcome[0] != 0
            np.testing.assert_allclose(rewards[i], outcome[0], rtol=1e-4)
            assert (terminated[i], truncated[i]) == outcome[1:]
            seen.append(outcome[1:])
        ended = terminated | truncated
    assert {(True, False), (False, True)} <= set(seen)


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


def test_games_with_real_actions_equal_single_games(world, mapper):
    options = {"actions": "real", "mapper": mapper}
    envs, alone = GenieVectorEnv(world, 2, PROMPTS, **options), singles(world, 2, **options)
    assert envs.single_action_space == gym.spaces.Discrete(6)
    frames, _ = envs.reset(seed=[4, 9])
    for env, seed in zip(alone, (4, 9), strict=True):
        env.reset(seed=seed)
    for actions in ([1, 2], [0, 0], [2, 1]):
        frames, *_, infos = envs.step(np.array(actions))
        for i, env in enumerate(alone):
            frame, *_, info = env.step(actions[i])
            np.testing.assert_array_equal(frames[i], frame)
            assert infos["latent_action"][i] == info["latent_action"]
    with pytest.raises(UserError, match="6 is out of range"):
        envs.step(np.array([0, 6]))
