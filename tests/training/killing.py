"""Training in a process of its own, which may be killed at some point; imported by that process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import torch
from rich.console import Console

from genie.data.store import ClipStore
from genie.presets.schedule import TrainConfig
from genie.training import token_cache
from genie.training.module import StageModule
from genie.training.pipeline import train
from genie.world.config import GenieConfig
from genie.world.genie import Genie

SMALL_PIECES = 7, 20, 24
"""Frames of a chunk, of a forward and of a piece."""


def train_here(
    data: Path,
    out: Path,
    world: GenieConfig | None,
    schedule: TrainConfig,
    stages: tuple[str, ...],
    kill_at: float | None,
    base: Path | None = None,
) -> None:
    """Trains; is killed some time after step `int(kill_at)`, by its fraction of 50 ms."""
    torch.set_num_threads(1)
    if kill_at is not None:
        _arm(kill_at)
    with open(os.devnull, "w") as nowhere:
        train(
            data,
            out,
            world=world,
            train=schedule,
            stages=stages,
            base=base,
            console=Console(file=nowhere),
        )


def precompute_here(data: Path, config: GenieConfig, kill_after: int) -> None:
    """Computes tokens and actions as `test_derive` does; is killed after so many batches."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    world, batches = Genie(config).eval(), iter(range(1, 1_000_000))
    token_cache.SHORTEST_CHUNK, token_cache.FRAMES_AT_ONCE, token_cache.PIECE_FRAMES = SMALL_PIECES

    def advance(share: float) -> None:
        if next(batches) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    store = ClipStore.open(data)
    token_cache.precompute_tokens(store, world.tokenizer, 4, advance)
    token_cache.precompute_actions(store, world.actions, advance)


def _arm(kill_at: float) -> None:
    begin = StageModule.on_fit_start

    def on_fit_start(module: StageModule) -> None:
        begin(module)
        threading.Thread(target=_kill, args=(module, kill_at), daemon=True).start()

    StageModule.on_fit_start = on_fit_start  # type: ignore[method-assign]


def _kill(module: StageModule, kill_at: float) -> None:
    while module.step < int(kill_at):
        time.sleep(0.001)
    time.sleep(kill_at % 1 * 0.05)
    os.kill(os.getpid(), signal.SIGKILL)
