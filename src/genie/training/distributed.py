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
from contextlib import contextmanager, suppress
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
GLOO = "/gloo/"
"""In the errors of gloo, which are plain ones and begin with the file that raised them."""
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
    """Runs something in the first process only; the others go on when it is done.

    Raises:
        UserError: it failed, in all processes but the first, which raises its own error.
    """
    return together(lambda: work() if rank_and_size()[0] == 0 else None)


def together(work: Callable[[], T]) -> T:
    """Runs something in all processes; they go on when all of them have done it.

    Raises:
        UserError: it failed in another process, for the reason in the message. Where it failed
            here, its own error is raised.
    """
    results: list[T] = []
    all_results(lambda: results.append(work()))
    return results[0]


def all_results(work: Callable[[], T]) -> list[T]:
    """Runs something in all processes, and returns what it gave in each of them.

    A process that failed alone would leave the others waiting for it.

    Raises:
        UserError: it failed in another process, for the reason in the message. Where it failed
            here, its own error is raised.
    """
    _, size = rank_and_size()
    if size == 1:
        return [work()]
    try:
        result = work()
    except Exception as error:
        with suppress(RuntimeError):  # the others have gone; this error counts
            _exchange((str(error) or type(error).__name__, None), size)
        raise
    found = _exchange((None, result), size)
    for other, (problem, _) in enumerate(found):
        if problem is not None:
            raise UserError(f"process {other} of {size} failed: {problem}")
    return [value for _, value in found]


def _exchange(own: tuple[str | None, Any], size: int) -> list[tuple[str | None, Any]]:
    """Tells the others what went wrong here, or what came of it; returns that of all."""
    found: list[Any] = [None] * size
    dist.all_gather_object(found, own)
    return found


@contextmanager
def others_needed() -> Iterator[None]:
    """Says in one sentence that another process has gone while this one waited for it.

    Raises:
        UserError: another process ended, or did not answer for half an hour.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or GLOO in str(error)
        if not lost or rank_and_size()[1] == 1:
            raise
        raise UserError(
            "another process of this training ended or did not answer; what it said tells why. "
            "The last checkpoint is whole: run the same command again to go on from it"
        ) from error


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
