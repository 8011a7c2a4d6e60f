r"""How many frames a second does a world play, from button to picture?

Alone, with eight players in a batch, and against the slow twin that reruns the whole game for each
pass, whose pictures must be the same but for rounding. Beside it what the machine could do: the
operations of a frame over its matrix rate, or its bytes over the memory rate, whichever takes
longer. How cost grows is asked by `growth.py`.

python benchmarks/play.py                              # the world that comes with the package
python benchmarks/play.py peers4 --maskgit-steps 25 --compile --json play.json
python benchmarks/play.py 300M --maskgit-steps 8 --dtype bf16 --device cuda --players 1 64 \
    --compile reduce-overhead                          # with CUDA graphs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import (
    add_device,
    finish,
    gigaflops,
    matrix_rate,
    memory_rate,
    seconds_of,
    spread,
    tell,
)
from _sizes import BLOCKS, PEERS, world_of

import genie

MODES = ("default", "reduce-overhead", "max-autotune")
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


class Game:
    """Players who press the first button for ever."""

    def __init__(self, world: genie.Genie, players: int = 1, history: int = 0) -> None:
        size = (world.config.height, world.config.width, 3)
        self.world, self.state = world, world.start(np.zeros((players, 1, *size), np.uint8))
        self.actions = [0] * players
        for _ in range(history):
            self()

    def __call__(self) -> None:
        _, self.state = self.world.step(self.state, self.actions)


def gigabytes(game: Game) -> float:
    """Bytes that a frame has to read: weights and cache, in each pass and in the commit.

    With guidance a pass reads the cache twice and the weights once. The last layer's cache is read
    once, at each place by the pass that settles it.
    """
    cache, config = game.state.dynamics.cache, game.world.config
    weights = sum(weight.nbytes for weight in game.world.dynamics.parameters())
    cached = cache.keys.nbytes + cache.values.nbytes
    last = cached / config.dynamics.layers
    sampling = config.sampling
    read = (sampling.steps + 1) * weights + (sampling.model_calls + 1) * (cached - last) + last
    return read / 1e9


def measure(world: genie.Genie, players: int, history: int, steps: int) -> dict[str, Any]:
    seconds = seconds_of(Game(world, players, history), steps, warm_up=2)
    return {
        "players": players,
        "history": history,
        "frames_per_second": round(players / float(np.median(seconds)), 1),
        **spread(seconds),
    }


def measure_twin(world: genie.Genie, frames: int) -> dict[str, Any]:
    """The same frames with the cache and without."""
    prompt = np.zeros((world.config.height, world.config.width, 3), np.uint8)
    spent, made = {}, {}
    for use_cache in (True, False):
        began = time.perf_counter()
        made[use_cache] = world.generate(prompt, [0] * frames, use_cache=use_cache)
        finish()
        spent[use_cache] = time.perf_counter() - began
    difference = (made[True].int() - made[False].int()).abs()
    return {
        "frames": frames,
        "pixels_within_1": round((difference <= 1).float().mean().item(), 4),
        "times_faster": round(spent[False] / spent[True], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = f"{', '.join((*PEERS, *BLOCKS))}, a preset, or a folder; coinrun-tiny when left out"
    parser.add_argument("world", nargs="?", default="coinrun-tiny", help=names)
    parser.add_argument("--maskgit-steps", type=int, help="the world's own when left out")
    parser.add_argument("--dtype", choices=DTYPES, default="32", help="32 when left out")
    parser.add_argument("--compile", nargs="?", const="default", choices=MODES, help="the mode")
    parser.add_argument("--players", type=int, nargs="+", default=[1, 8], help="1 8")
    parser.add_argument("--steps", type=int, default=30, help="that are timed, 30")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dtype = DTYPES[options.dtype]
    world = world_of(options.world, options.maskgit_steps, options.device).to(dtype)
    work, read = gigaflops(Game(world)), gigabytes(Game(world))
    results: dict[str, Any] = {
        "world": options.world,
        "frame": [world.config.height, world.config.width],
        "tokens": world.tokenizer.tokens_per_frame,
        "passes": world.config.sampling.model_calls,
        "dtype": options.dtype,
    }
    if options.compile:
        world.compile(mode=options.compile)
        results["compiled"] = options.compile
        results["compiling_s"] = round(seconds_of(lambda: Game(world)(), 1, warm_up=0)[0], 1)
    rate, reads = matrix_rate(dtype, options.device), memory_rate(options.device)
    results |= {
        "matrix_gflops": round(rate, 1),
        "memory_gigabytes": round(reads, 1),
        "gflop_per_frame": round(work, 3),
        "gigabytes_per_frame": round(read, 3),
        "floor_ms": round(1e3 * max(work / rate, read / reads), 2),
        "play": [measure(world, players, 15, options.steps) for players in options.players],
        "slow_twin": measure_twin(world, 15),
    }
    tell(results, options.json)
    if options.dtype == "32" and results["slow_twin"]["pixels_within_1"] < 1:
        raise SystemExit("the cached game is not that of its twin")


if __name__ == "__main__":
    main()
