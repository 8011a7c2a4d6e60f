"""Every example runs, at a minute size."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import square_game

from example_modules import EXAMPLES, example_module
from genie.agents.agent import Agent, AgentConfig
from genie.core.config import from_dict
from genie.data.recording.environments import LevelRange, make_env_batch
from genie.data.video import read_video, write_video
from genie.envs.vector import GenieVectorEnv
from genie.evaluation.config import CoherenceConfig, EvaluationConfig
from genie.models.policy_network import PolicyNetworkConfig
from genie.presets import registry
from genie.presets.registry import Preset
from genie.presets.schedule import StageConfig, TrainConfig
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.reward_model import RewardModel, RewardModelConfig, hashes, new_heads
from small import TINY, save_store, save_world

TESTED = {
    "agent",
    "custom_reward",
    "dream_ppo",
    "gymnasium_ppo",
    "play_from_python",
    "play_onnx",  # in tests/export/test_onnx.py, which has an exported world
    "train_on_your_videos",
}


def example(name):
    return example_module(name).main


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world's folder with random weights and two prompts."""
    prompts = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    return save_world(tmp_path_factory.mktemp("world"), *prompts)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == TESTED


def test_play_from_python(world, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    prompt = world / "prompts" / "0.png"
    example("play_from_python")([str(world), str(prompt), "--actions", "3,1,2", "--out", str(clip)])
    assert len(list(read_video(clip))) == 4
    assert capsys.readouterr().out.count("button") == 4


def test_agent(tmp_path, capsys):
    square_game.register()
    size = PolicyNetworkConfig(16, 16, 3, (4,), 8, real_actions=4)
    Agent(AgentConfig(size, square_game.NAMES)).save_pretrained(tmp_path / "mine")
    out = tmp_path / "game.mp4"
    example("agent")([str(tmp_path / "mine"), "--env", square_game.SQUARE, "--out", str(out)])
    assert len(list(read_video(out))) == square_game.LENGTH
    assert "'right': 0.25" in capsys.readouterr().out


def test_custom_reward(world, capsys):
    example("custom_reward")([str(world), "--games", "3", "--steps", "9", "--horizon", "4"])
    assert "6 episodes ended" in capsys.readouterr().out


def test_gymnasium_ppo(world, capsys):
    pytest.importorskip("stable_baselines3")
    budget = ["--steps", "16", "--rollout", "16", "--horizon", "8", "--episodes", "1"]
    example("gymnasium_ppo")([str(world), "--policy", "MlpPolicy", *budget])
    assert "reward of an episode" in capsys.readouterr().out


def test_dream_ppo(world, tmp_path, capsys):
    pytest.importorskip("stable_baselines3")
    own = shutil.copytree(world, tmp_path / "own")
    genie = Genie.from_pretrained(own, "cpu")
    heads = new_heads(genie)
    model = RewardModel(RewardModelConfig(heads.config, hashes(genie)), heads)
    model.save_pretrained(own / "reward")
    clip = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    store = save_store(tmp_path / "store", ("train", clip))
    small = ["--steps", "16", "--games", "4", "--horizon", "3", "--starts", "5", "--levels", "0"]
    small += ["--policy", "MlpPolicy", "--dtype", "float32"]
    example("dream_ppo")([str(own), str(store.path), *small])
    assert "16 steps of the dream" in capsys.readouterr().out
    square_game.register()
    report = tmp_path / "real.json"
    small += ["--env", square_game.SQUARE, "--real_steps", "32", "--levels", "3"]
    example("dream_ppo")([str(own), str(store.path), *small, "--report", str(report)])
    assert "32 steps of the real game" in capsys.readouterr().out
    assert {"steps", "of", "seed", "PPO", "random play"} == json.loads(report.read_text()).keys()


def test_ppo_sees_the_real_game_as_it_is():
    pytest.importorskip("stable_baselines3")
    square_game.register()
    games = make_env_batch(square_game.SQUARE, mode="easy", options={})(2, LevelRange(0, 9), 0)
    env = example_module("dream_ppo").RealVecEnv(games, 16, 16)
    before, right = env.reset(), np.full(2, square_game.RIGHT)
    assert (env.action_space.n, env.observation_space.shape) == (4, (16, 16, 3))
    for number in range(1, 2 * square_game.LENGTH):
        dark = np.median(before[..., 1], axis=(1, 2)) < 60
        frames, rewards, dones, infos = env.step(right)
        assert rewards.tolist() == dark.tolist()
        assert dones.all() == (number % square_game.LENGTH == 0)
        if dones.all():
            assert np.array_equal(infos[0]["terminal_observation"], before[0])
        before = frames
    env.close()


def test_ended_games_of_a_dream_start_anew_in_the_step_after(world):
    pytest.importorskip("stable_baselines3")
    games = GenieVectorEnv(
        world, 2, horizon=3, reward_fn=lambda *step: 1.0,
        termination_fn=lambda frame, action, after, info: info["prompt"] == 1,
    )  # fmt: skip
    env = example_module("dream_ppo").DreamVecEnv(games)
    env.reset()
    seen = [env.step(np.zeros(2, int)) for _ in range(12)]
    for before, (frames, rewards, dones, infos) in itertools.pairwise(seen):
        assert (rewards == ~dones).all()
        for game in np.flatnonzero(dones):
            assert np.array_equal(infos[game]["terminal_observation"], before[0][game])
            assert not np.array_equal(infos[game]["terminal_observation"], frames[game])
    cut_off = {info["TimeLimit.truncated"] for *_, infos in seen for info in infos if info}
    assert cut_off == {False, True}


@pytest.mark.long
def test_train_on_your_videos(tmp_path, monkeypatch, capsys, short_detector):
    pytest.importorskip("lightning")
    coherence = CoherenceConfig(rollouts=((2, 16),))
    quick = replace(EvaluationConfig.quick(), coherence=coherence, action_prompts=1)
    monkeypatch.setattr(EvaluationConfig, "quick", lambda: quick)
    stage = StageConfig(steps=2, batch_size=2, clip_frames=4)
    schedule = TrainConfig(stage, stage, stage, accelerator="cpu", previews_every=0)
    minute = Preset("a test's", from_dict(GenieConfig, TINY), schedule)
    monkeypatch.setitem(registry.PRESETS, "minute", minute)
    for split, frames in (("train", moving_square(24)), ("val", moving_square(24)[::-1])):
        (tmp_path / "videos" / split).mkdir(parents=True)
        write_video(tmp_path / "videos" / split / "a.mp4", frames, 15)
    options = {
        "out": tmp_path / "run",
        "preset": "minute",
        "minutes": 0.01,
        "clips": 2,
        "workers": 1,
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    example("train_on_your_videos")([str(tmp_path / "videos"), *arguments])
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    Genie.from_pretrained(tmp_path / "run")
    assert "genie play" in capsys.readouterr().out


def moving_square(length):
    frames = np.zeros((length, 16, 16, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[4:10, t % 10 : t % 10 + 6] = 255
    return frames
