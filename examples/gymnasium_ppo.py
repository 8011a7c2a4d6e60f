"""Train an agent inside a world with Stable-Baselines3 (pip install 'genie-worlds[rl]').

The agent never sees the real game: it learns in the pictures that the world draws. Its goal here is
to reach a brighter picture; put your own in place of `brightness`.

    python examples/gymnasium_ppo.py runs/coinrun --steps 20000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import genie.envs

gym.register_envs(genie.envs)  # importing it has made the id "genie/World-v0" known


def brightness(frame: np.ndarray, action: int, after: np.ndarray, info: dict[str, Any]) -> float:
    """How much brighter the picture became, in parts of the whole range."""
    return (float(after.mean()) - float(frame.mean())) / 255


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    env = gym.make(
        "genie/World-v0",
        world=options.world,
        prompt=options.prompt,
        horizon=options.horizon,
        reward_fn=brightness,
    )
    agent = PPO(
        options.policy, env, n_steps=options.rollout, batch_size=options.rollout, seed=options.seed
    )
    agent.learn(options.steps)
    mean, deviation = evaluate_policy(agent, agent.get_env(), n_eval_episodes=options.episodes)
    print(f"reward of an episode after training: {mean:.3f} ± {deviation:.3f}")
    env.close()


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", help="folder of a world")
    parser.add_argument("--prompt", help="picture, or folder of them; default: the world's own")
    parser.add_argument("--policy", default="CnnPolicy", help="MlpPolicy below 36x36 pixels")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rollout", type=int, default=128, help="steps between two updates")
    parser.add_argument("--horizon", type=int, default=64)
    parser.add_argument("--episodes", type=int, default=5, help="episodes of the final evaluation")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
