"""Train PPO of Stable-Baselines3 inside a world, and test it in the real game.

The plain baseline of `genie agent dream` (pip install 'genie-worlds[rl,train,procgen]'). Reward
and end are those of the reward model beside the world. Games start from real frames of a store.

    python examples/dream_ppo.py runs/coinrun data/coinrun --steps 20000 --levels 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from genie import ActionMapper, ClipStore, Genie, GenieVectorEnv, RewardModel
from genie.agents.dreaming.imagine import RealStarts
from genie.agents.real_game import RealGameConfig, measure, random_player


class DreamVecEnv(VecEnv):
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

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

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

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("the games are stepped together")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    world = Genie.from_pretrained(options.world, dtype=options.dtype)
    clips = RealStarts(ClipStore.open(options.data), 4).sample(options.starts, options.seed)
    games = GenieVectorEnv(
        world,
        options.games,
        list(clips.numpy()),
        horizon=options.horizon,
        reward=RewardModel.from_pretrained(options.world, world),
    )
    agent = PPO(
        options.policy, DreamVecEnv(games), n_steps=options.horizon + 1, gamma=0.99,
        batch_size=options.games * (options.horizon + 1) // 2, ent_coef=0.01, seed=options.seed,
    )  # fmt: skip
    agent.learn(options.steps)
    games.close()
    print(f"learned from {agent.num_timesteps:,} steps of the dream")
    if options.levels:
        test(agent, ActionMapper.from_pretrained(options.mapper or options.world, world), options)


def test(agent: PPO, mapper: ActionMapper, options: argparse.Namespace) -> None:
    """Plays the real game: latent actions of the agent become real ones by the mapper."""
    rng = np.random.default_rng(options.seed)

    def player(frames: np.ndarray, games: np.ndarray, first: np.ndarray) -> np.ndarray:
        latents, _ = agent.predict(frames)
        return np.asarray(mapper.to_real(frames, latents, rng))

    game = RealGameConfig(options.env, distribution_mode=options.mode, levels=options.levels)
    for name, plays in (("PPO", player), ("random play", random_player(game))):
        found = measure(plays, game)
        low, high = found.interval()
        print(f"{name}: mean return {found.mean:.2f} (95 %: {low:.2f} to {high:.2f})")


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
    parser.add_argument("--mapper", help="folder of the mapper; that beside the world if left out")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
