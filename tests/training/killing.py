"""Training in a process of its own, which may be killed, stopped or run out of space there."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from rich.console import Console

from genie.core.config import UserError
from genie.data.store import ClipStore
from genie.presets.schedule import TrainConfig
from genie.training import checkpointing, sharded_checkpoint, token_cache
from genie.training.checkpointing import read_checkpoint, write_checkpoint
from genie.training.distributed import first_alone, others_needed
from genie.training.module import StageModule
from genie.training.pipeline import train
from genie.training.sharded_checkpoint import read_header, write_sharded
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


FULL_DISK = OSError(errno.ENOSPC, "No space left on device")
FULL_AT = (
    (sharded_checkpoint, "_begin", 0),
    (os, "fsync", 1),
    (sharded_checkpoint, "_checksums", 1),
    (sharded_checkpoint, "_finish", 0),
)
"""Where a disk is full while a sharded checkpoint is written, and in which process."""


def save_on_full_disks(folder: Path) -> None:
    """Writes checkpoints with one other process; notes what was said, and that good ones stay.

    In the end the second process leaves the first one alone.
    """
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    sharded, whole, said = folder / "sharded.ckpt", folder / "whole.ckpt", list[str]()

    def save(step: int) -> None:
        tensors = {"model": {f"weight{rank}": torch.full((64,), float(step))}}
        write_sharded(sharded, {"step": step}, tensors)
        first_alone(lambda: write_checkpoint(whole, {"step": step}))

    def steps() -> tuple[int, int]:
        found, state = read_header(sharded), read_checkpoint(whole)
        assert found is not None
        assert state is not None
        return found[1]["step"], state["step"]

    save(1)
    for module, name, victim in (*FULL_AT, (checkpointing, "_save", 0)):
        full = mock.patch.object(module, name, side_effect=FULL_DISK)
        try:
            with full if rank == victim else nullcontext():
                save(2)
        except UserError as error:
            said.append(str(error))
        dist.barrier()
        assert steps() == (2 if name == "_save" else 1, 1)
    save(3)
    assert steps() == (3, 3)
    if rank == 0:
        try:
            with others_needed():
                dist.barrier()
        except UserError as error:
            said.append(str(error))
    (folder / f"said-{rank}.json").write_text(json.dumps(said))


def train_on_a_full_disk(*arguments: object) -> None:
    """Trains with other processes; the disk of the first one has no space for a checkpoint."""
    full = mock.patch.object(checkpointing, "_save", side_effect=FULL_DISK)
    with full if os.environ["LOCAL_RANK"] == "0" else nullcontext():
        train_here(*arguments)  # type: ignore[arg-type]


def train_with_a_straggler(*arguments: object) -> None:
    """Trains with other processes; the second one stands still for a second after its first step.

    It is stopped as by SIGSTOP from outside, so its threads and connections stand still as well.
    """
    begin = StageModule.on_fit_start

    def stop(module: StageModule) -> None:
        while module.step < 1:
            time.sleep(0.001)
        subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)

    def on_fit_start(module: StageModule) -> None:
        begin(module)
        threading.Thread(target=stop, args=(module,), daemon=True).start()

    if os.environ["LOCAL_RANK"] == "1":
        StageModule.on_fit_start = on_fit_start  # type: ignore[method-assign]
    train_here(*arguments)  # type: ignore[arg-type]


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
