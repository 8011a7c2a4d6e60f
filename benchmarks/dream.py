r"""How many steps a second does a batch of games dream, with the policy, the heads and the start?

Beside it stands what the machine could do: the operations of a step over its matrix rate. On a
machine with other jobs, compare the steps of a second of processor time.

python benchmarks/dream.py                             # 64 games of the world that comes with genie
python benchmarks/dream.py runs/coinrun --games 256 --horizon 4 --dtype float32 --json dream.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _machine import gigaflops, matrix_rate, tell

from genie import Genie
from genie.agents.dreaming.imagine import imagine
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig
from genie.world.prompts import load_prompts
from genie.world.reward_model import RewardModel, RewardModelConfig, new_heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", nargs="?", default="coinrun-tiny")
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=15)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world = Genie.from_pretrained(options.world, "cpu", options.dtype)
    heads = new_heads(world).eval()
    rewards = RewardModel(RewardModelConfig(heads.config), heads)
    config = world.config
    size = PolicyNetworkConfig(config.height, config.width, latent_actions=config.num_actions)
    policy = PolicyNetwork(size).eval()
    prompts = load_prompts(None, config.height, config.width, world.folder)
    frames = np.stack([clip if clip.ndim == 3 else clip[-1] for clip in prompts])
    chosen = torch.from_numpy(frames[np.arange(options.games) % len(frames)])
    clips = chosen[:, None].expand(-1, size.frames, -1, -1, -1).contiguous()

    def dream() -> None:
        imagine(world, rewards, policy, clips, options.horizon)

    dream()
    steps, found = options.games * options.horizon, []
    for _ in range(options.repeats):
        wall, processor = time.perf_counter(), time.process_time()
        dream()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    wall, processor = (float(np.median(part)) for part in zip(*found, strict=True))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations are counted in the thread that counts
    work = gigaflops(dream) / steps
    torch.set_num_threads(threads)
    rate = matrix_rate(getattr(torch, options.dtype), torch.device("cpu"))
    tell(
        {
            "question": "dream",
            "world": options.world,
            "games": options.games,
            "horizon": options.horizon,
            "dtype": options.dtype,
            "threads": threads,
            "steps_per_second": steps / wall,
            "steps_per_processor_second": steps / processor,
            "megaflop_per_step": 1000 * work,
            "steps_per_second_at_matrix_rate": rate / work,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
