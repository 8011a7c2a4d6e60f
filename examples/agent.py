"""Let an agent play a level of the real game, and write a video of it.

    python examples/agent.py agents/coinrun-tiny --level 1000000 --out game.mp4

`genie agent clone` makes agents.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from genie import Agent
from genie.data.recording.environments import LevelRange, make_env_batch
from genie.data.video import write_video


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    agent = Agent.from_pretrained(options.agent)
    make = make_env_batch(options.env, mode=options.mode, options={})
    games = make(1, LevelRange(options.level, 1), seed=0)
    rng, frames, earned = np.random.default_rng(options.seed), [games.observe()[0]], 0.0
    for _ in range(options.steps):
        last = np.stack(frames[-agent.config.policy.frames :])
        likely = agent.probabilities(last)[0]
        step = games.step(np.array([agent.act(last, rng)]), np.zeros(1, bool))
        earned += float(step.rewards[0])
        if step.terminated[0] or step.truncated[0]:
            break
        frames.append(games.observe()[0])
    games.close()
    shares = {name: round(float(p), 2) for name, p in zip(agent.action_names, likely, strict=True)}
    print(f"return {earned:g} after {len(frames)} steps; at the last frame it chose from {shares}")
    write_video(options.out, frames, fps=15, scale=4)


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", help="folder of an agent")
    parser.add_argument("--env", default="procgen:coinrun", help="or gym:<id>")
    parser.add_argument("--mode", default="easy", help="of Procgen: easy, hard")
    parser.add_argument("--level", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="game.mp4")
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
