"""How many frames a second does a world play, decoding included?

Against the length of the game, the number of players, and the slow twin that reruns the whole game
for each pass. Beside it what the processor could do: operations of a frame over its matrix rate.

python benchmarks/play.py                  # the preset tiny with random weights, which are as fast
python benchmarks/play.py runs/coinrun --json play.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _machine import tell
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import genie
from genie import presets


def seconds_per_step(world: genie.Genie, players: int, history: int, steps: int) -> list[float]:
    """Seconds of each step after `history` frames."""
    prompt = np.zeros((players, 1, world.config.height, world.config.width, 3), np.uint8)
    state, action = world.start(prompt), torch.zeros(players, dtype=torch.int64)
    spent = []
    for number in range(history + steps):
        began = time.perf_counter()
        _, state = world.step(state, action)
        if number >= history:
            spent.append(time.perf_counter() - began)
    return spent


def measure(world: genie.Genie, players: int, history: int, steps: int) -> dict[str, Any]:
    spent = seconds_per_step(world, players, history, steps)
    return {
        "players": players,
        "history": history,
        "frames_per_second": round(players / median(spent), 1),
        "ms_per_step": round(1e3 * median(spent), 1),
        "ms_quartiles": [round(1e3 * float(q), 1) for q in np.quantile(spent, (0.25, 0.75))],
    }


def measure_twin(world: genie.Genie, frames: int) -> dict[str, Any]:
    """The same frames with the cache and without."""
    prompt = np.zeros((world.config.height, world.config.width, 3), np.uint8)
    spent, made = {}, {}
    for use_cache in (True, False):
        began = time.perf_counter()
        made[use_cache] = world.generate(prompt, [0] * frames, use_cache=use_cache)
        spent[use_cache] = time.perf_counter() - began
    same = (made[True] == made[False]).float().mean().item()
    return {
        "frames": frames,
        "same_pixels": round(same, 4),
        "times_faster": round(spent[False] / spent[True], 1),
    }


def gigaflops_per_step(world: genie.Genie) -> float:
    """Operations of matrix products and attention in one step of one player."""
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention of a CPU is not counted
        with FlopCounterMode(display=False) as counter:
            seconds_per_step(world, 1, 0, 1)
        with FlopCounterMode(display=False) as prompt:
            world.start(np.zeros((1, 1, world.config.height, world.config.width, 3), np.uint8))
    return (counter.get_total_flops() - prompt.get_total_flops()) / 1e9


def matrix_rate(side: int = 1024) -> float:
    """Operations per second of a matrix product, in 1e9."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    spent = []
    for _ in range(20):
        began = time.perf_counter()
        a @ b
        spent.append(time.perf_counter() - began)
    return 2 * side**3 / median(spent) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", nargs="?")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.world:
        world = genie.Genie.from_pretrained(options.world, device="cpu")
    else:
        world = genie.Genie(presets.get("tiny").world).eval()
    rate, work = matrix_rate(), gigaflops_per_step(world)
    alone = measure(world, 1, 20, options.steps)
    results = {
        "world": options.world or "tiny, random weights",
        "frame": [world.config.height, world.config.width],
        "passes": world.config.sampling.steps,
        "threads": torch.get_num_threads(),
        "matrix_gflops": round(rate, 1),
        "gflop_per_frame": round(work, 3),
        "floor_ms": round(1e3 * work / rate, 1),
        "play": [
            alone,
            measure(world, 1, 200, options.steps),
            measure(world, 8, 20, options.steps),
        ],
        "slow_twin": measure_twin(world, 15),
    }
    tell(results, options.json)


if __name__ == "__main__":
    main()
