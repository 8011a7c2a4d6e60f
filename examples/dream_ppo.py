"""Train PPO of Stable-Baselines3 inside a world, and test it in the real game.

The plain baseline of `genie agent dream` (pip install 'genie-worlds[rl,train,procgen]'). Reward
and end are those of the reward model beside the world. Games start from real frames of a store.
With `--real_steps` it learns in the real game instead, from so many frames. Take the number of
labelled frames that the heads and the mapper saw.

    python examples/dream_ppo.py runs/coinrun data/coinrun --steps 20000 --levels 100
    python examples/dream_ppo.py runs/coinrun data/coinrun --real_steps 25000 --levels 100
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from genie import ActionMapper, ClipStore, Genie, GenieVectorEnv, RewardModel
from genie.agents.dreaming.imagine import RealStarts
from genie.agents.real_game import Player, RealGameConfig, measure, random_player
from genie.data.recording.environments import EnvBatch, LevelRange, make_env_batch
from genie.data.video import Resizer


class Together(VecEnv):
    """Games that are stepped together, by one call."""

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("the games are stepped together")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class DreamVecEnv(Together):
    """The games of a `GenieVectorEnv` as Stable-Baselines3 wants them.

    An ended game of the one starts anew at the next step, of the other at once. So the step that
    starts it anew is the last one here, and it earns nothing.
    """

    def __init__(self, games: GenieVectorEnv) -> None:
        self.games, self.render_mode = games, None
        super().__init__(games.num_envs, games.single_observation_space, games.single_action_space)
        self.ended = self.cut_off = np.zeros(self.num_envs, bool)

    def reset(self) -> np.ndarray:
        self.ended = self.cut_off = np.zeros(self.num_envs, bool)
        self.frames, _ = self.games.reset()
        return self.frames

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        dones, cut_off, last = self.ended, self.cut_off, self.frames
        self.frames, rewards, terminated, truncated, _ = self.games.step(self.actions)
        self.ended, self.cut_off = terminated | truncated, truncated & ~terminated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for game in np.flatnonzero(dones):
            infos[game] = {
                "terminal_observation": last[game],
                "TimeLimit.truncated": bool(cut_off[game]),
            }
        return self.frames, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.games.close()


class RealVecEnv(Together):
    """Games of the real game as Stable-Baselines3 wants them, in the size of the world's frames."""

    def __init__(self, games: EnvBatch, height: int, width: int) -> None:
        self.games, self.render_mode, self.resize = games, None, Resizer(height, width)
        shown = gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)
        count = len(games.action_names or [])
        super().__init__(games.num, shown, gymnasium.spaces.Discrete(count))

    def reset(self) -> np.ndarray:
        self.frames = self.resize(self.games.observe())
        return self.frames

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        last, step = self.frames, self.games.step(self.actions, np.zeros(self.num_envs, bool))
        dones = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for game in np.flatnonzero(dones):  # Procgen never shows the last frame
            infos[game] = {"terminal_observation": last[game], "TimeLimit.truncated": False}
        return self.reset(), step.rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.games.close()


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    world = Genie.from_pretrained(options.world, dtype=options.dtype)
    games = real_games(world, options) if options.real_steps else dreams(world, options)
    agent = PPO(
        options.policy, games, n_steps=options.horizon + 1, gamma=0.99,
        batch_size=options.games * (options.horizon + 1) // 2, ent_coef=0.01, seed=options.seed,
    )  # fmt: skip
    agent.learn(options.real_steps or options.steps)
    games.close()
    where = "real game" if options.real_steps else "dream"
    print(f"learned from {agent.num_timesteps:,} steps of the {where}")
    if options.levels:
        test(agent, world, where, options)


def dreams(world: Genie, options: argparse.Namespace) -> DreamVecEnv:
    """Games in the world that start from real frames, with learned rewards."""
    clips = RealStarts(ClipStore.open(options.data), 4).sample(options.starts, options.seed)
    reward = RewardModel.from_pretrained(options.world, world)
    starts = list(clips.numpy())
    return DreamVecEnv(
        GenieVectorEnv(world, options.games, starts, horizon=options.horizon, reward=reward)
    )


def real_games(world: Genie, options: argparse.Namespace) -> RealVecEnv:
    """Games of the real game, on levels that nothing is tested on."""
    make = make_env_batch(options.env, mode=options.mode, options=options.options)
    games = make(options.games, LevelRange(0, 100_000), options.seed)
    return RealVecEnv(games, world.config.height, world.config.width)


def test(agent: PPO, world: Genie, where: str, options: argparse.Namespace) -> None:
    """Plays the real game on held-out levels, beside random play."""
    game = RealGameConfig(
        options.env, options.mode, options.options, levels=options.levels, seeds=options.seeds,
        max_steps=options.max_steps,
    )  # fmt: skip
    report: dict[str, Any] = {"steps": agent.num_timesteps, "of": where, "seed": options.seed}
    for name, plays in (
        ("PPO", player(agent, world, options)),
        ("random play", random_player(game)),
    ):
        found = report[name] = measure(plays, game).figures()
        interval = f"95 %: {found['low']:.2f} to {found['high']:.2f}"
        print(f"{name}: mean return {found['mean']:.2f} ({interval})")
    if options.report:
        Path(options.report).write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def player(agent: PPO, world: Genie, options: argparse.Namespace) -> Player:
    """The agent as a player of the real game; a mapper says what its latent actions are there."""
    resize = Resizer(world.config.height, world.config.width)
    if options.real_steps:
        return lambda frames, games, first: agent.predict(resize(frames))[0]
    mapper = ActionMapper.from_pretrained(options.mapper or options.world, world)
    rng = np.random.default_rng(options.seed)

    def play(frames: np.ndarray, games: np.ndarray, first: np.ndarray) -> np.ndarray:
        seen = resize(frames)
        return np.asarray(mapper.to_real(seen, agent.predict(seen)[0], rng))

    return play


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", help="folder of a world with a reward model beside it")
    parser.add_argument("data", help="clip store whose real frames games start from")
    parser.add_argument("--policy", default="CnnPolicy", help="MlpPolicy below 36x36 pixels")
    parser.add_argument("--steps", type=int, default=20_000, help="of all games together")
    parser.add_argument("--games", type=int, default=64, help="played at a time")
    parser.add_argument("--starts", type=int, default=2000, help="real frames to start from")
    parser.add_argument("--horizon", type=int, default=15)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--levels", type=int, default=100, help="of the real game; 0 for no test")
    parser.add_argument("--env", default="procgen:coinrun")
    parser.add_argument("--mode", default="easy")
    parser.add_argument("--options", type=json.loads, default={}, help="of the game, as JSON")
    parser.add_argument("--seeds", type=int, default=1, help="games of each level")
    parser.add_argument("--max_steps", type=int, default=1000, help="of a game in the test")
    parser.add_argument("--real_steps", type=int, default=0, help="learn in the real game instead")
    parser.add_argument("--report", help="JSON file that the figures are written to")
    parser.add_argument("--mapper", help="folder of the mapper; that beside the world if left out")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
