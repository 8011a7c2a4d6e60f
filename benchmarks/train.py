"""How long does a training step take, and how near is that to what the machine can do?

Forward, backward and optimizer of each model on one batch, at the sizes that other implementations
were measured with, or a preset's. Beside each the operations counted and the time they would take
at the machine's matrix rate in that precision.

python benchmarks/train.py                                        # peers4, short
python benchmarks/train.py peers16 --batch 2 --steps 20 --json train.json
python benchmarks/train.py coinrun --batch 1 --steps 3 --precision bf16
python benchmarks/train.py coinrun --batch 8 --precision bf16 --compile --device cuda
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _machine import add_device, gigaflops, matrix_rate, memory_rate, seconds_of, spread, tell
from _sizes import PAPER, config_of
from torch import nn

import genie
from genie.presets.schedule import StageConfig
from genie.training.memory import keep_freed_memory
from genie.training.optimizers import build_optimizer
from genie.world.config import GenieConfig

DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}
MODELS = {
    "tokenizer": "tokenizer",
    "actions": "latent actions",
    "paper": "dynamics, the paper's masking",
    "dynamics": "dynamics, two streams",
}


def model_and_batch(
    config: GenieConfig, name: str, batch: int, device: torch.device
) -> tuple[nn.Module, tuple]:
    """A model with random weights, and random inputs of 16 frames."""
    if name == "paper":
        config = replace(config, dynamics=replace(config.dynamics, **PAPER))
    torch.manual_seed(0)
    world = genie.Genie(config).to(device)
    if name in ("tokenizer", "actions"):
        shape = (batch, 16, config.height, config.width, 3)
        clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        return getattr(world, name), (clips,)
    places = (batch, 16, world.tokenizer.tokens_per_frame)
    tokens = torch.randint(world.tokenizer.vocabulary, places, device=device)
    return world.dynamics, (tokens, torch.randint(config.num_actions, (batch, 15), device=device))


def stepping(model: nn.Module, batch: tuple, dtype: torch.dtype, compile: bool) -> Callable:
    """A function that takes one optimizer step."""
    model.train()
    optimizer = build_optimizer(model, StageConfig(steps=1))
    device = next(model.parameters()).device.type
    loss_of = torch.compile(model.loss) if compile else model.loss  # type: ignore[arg-type]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss, _ = loss_of(*batch, progress=0.5)  # type: ignore[operator]
        loss.backward()
        optimizer.step()

    return step


def measure(options: argparse.Namespace, name: str, precision: str, rate: float) -> dict[str, Any]:
    dtype = DTYPES[precision]
    model, batch = model_and_batch(config_of(options.sizes), name, options.batch, options.device)
    work = gigaflops(stepping(model, batch, torch.float32, False))
    step = stepping(model, batch, dtype, options.compile)
    seconds = seconds_of(step, options.steps, warm_up=2)
    measured = spread(seconds)
    floor = 1e3 * work / rate
    return {
        "model": MODELS[name],
        "precision": precision,
        **measured,
        "gflop": round(work, 1),
        "floor_ms": round(floor, 2),
        "of_the_matrix_rate": round(floor / measured["ms"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="?", default="peers4", help="peers4, peers16 or a preset")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--compile", action="store_true")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as training does
    rates = {
        precision: matrix_rate(DTYPES[precision], options.device) for precision in options.precision
    }
    rows = [
        measure(options, name, precision, rates[precision])
        for name in options.models
        for precision in options.precision
    ]
    results = {
        "sizes": options.sizes,
        "batch": options.batch,
        "frames": 16,
        "compiled": options.compile,
        "matrix_gflops": {key: round(rate, 1) for key, rate in rates.items()},
        "memory_gigabytes": round(memory_rate(options.device), 1),
        "steps": rows,
    }
    tell(results, options.json)


if __name__ == "__main__":
    main()
