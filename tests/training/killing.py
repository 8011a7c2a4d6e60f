"""Training in a process of its own, which may be killed at some point; imported by that process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import torch
from rich.console import Console

from genie.schedule import TrainConfig
from genie.training.module import StageModule
from genie.training.pipeline import train
from genie.world import GenieConfig


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
            schedule=schedule,
            stages=stages,
            base=base,
            console=Console(file=nowhere),
        )


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
