"""The processes of one training: which one this is, and how the others start and meet.

Each process runs the whole program on its own part of the work. `torchrun` and Slurm start the
processes of all machines. Without them, Lightning starts the processes of this one.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from genie.core.config import UserError
from genie.presets.schedule import TrainConfig

LIGHTNING_NAMES = {"cuda": "gpu"}
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}
_PR_SET_PDEATHSIG = 1  # of Linux' prctl.h

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Returns the number of this process among all of a training, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def connect(train: TrainConfig) -> None:
    """Starts the processes of this machine, unless they were started, and connects all.

    Where one process trains, nothing happens. Lightning starts a process by the command of this
    one, so whatever was done before is done there as well.

    Raises:
        UserError: fewer or more processes were started than the settings say, or devices lack.
    """
    if strategy_of(train) == "auto":
        return
    with silence_lightning():
        strategy = build_trainer(train, logger=False).strategy
        assert strategy.launcher is not None
        try:
            strategy.launcher.launch(strategy.setup_environment)
        except ValueError as error:
            raise UserError(f"train.nodes, train.devices: {error}") from None
    _end_with_parent()


def first_alone(work: Callable[[], T]) -> T | None:
    """Runs something in the first process only; the others go on when it is done."""
    rank, size = rank_and_size()
    result = work() if rank == 0 else None
    if size > 1:
        dist.barrier()
    return result


def build_trainer(
    train: TrainConfig, strategy: str | Strategy | None = None, **settings: Any
) -> Trainer:
    """Returns a Lightning trainer on the devices of a training, without any of its extras.

    Args:
        train: the devices.
        strategy: in place of what `strategy_of` names.
        settings: others of the trainer.

    Raises:
        UserError: there are no such devices.
    """
    try:
        return Trainer(
            accelerator=LIGHTNING_NAMES.get(train.accelerator, train.accelerator),
            devices=_devices(train),
            num_nodes=train.nodes,
            strategy=strategy or strategy_of(train),
            precision=PRECISIONS[train.precision],  # type: ignore[arg-type]
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **settings,
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise UserError(f"accelerator, devices: {error}") from None


def strategy_of(train: TrainConfig) -> str:
    """Returns Lightning's name of how the processes share the work."""
    count = _devices(train)
    if count == "auto":
        count = torch.cuda.device_count() if train.accelerator in ("auto", "cuda") else 1
    # Not all weights have gradients at every step: the encoder of the actions stops learning.
    several = count * train.nodes > 1 or train.strategy == "fsdp"
    return "ddp_find_unused_parameters_true" if several else "auto"


def sharding_strategy() -> ModelParallelStrategy:
    """Returns the strategy of models that shard themselves, once processes are connected."""
    return ModelParallelStrategy(data_parallel_size=rank_and_size()[1], tensor_parallel_size=1)


def _devices(train: TrainConfig) -> int | Literal["auto"]:
    """How many processes a machine has; torchrun says so, where the settings do not."""
    started = os.environ.get("LOCAL_WORLD_SIZE")
    return int(started) if train.devices == "auto" and started else train.devices


def _end_with_parent() -> None:
    """Asks Linux to send this process a SIGTERM when the one that started it has died.

    torchrun and Slurm end their processes themselves.
    """
    ours = int(os.environ.get("LOCAL_RANK", 0)) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ
    if ours and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# Lightning 2.6, and torch's own compiler, call what torch 2.13 has deprecated.
NOISE = [
    (r".*LeafSpec.* is deprecated", FutureWarning),
    (r".*torch\.jit\.script.* is deprecated", DeprecationWarning),
    # Keys and values of a block are views, which training does not use.
    (r"FSDP2-wrapped module .* returned a view tensor", UserWarning),
]


@contextmanager
def silence_lightning() -> Iterator[None]:
    """Hides Lightning's advertisements and its warnings about what is intended."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message, category in NOISE:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
