"""One stage: a model trained under Lightning to the end of its budget, exactly resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from genie.core.config import UserError, to_dict
from genie.core.progress import Progress
from genie.data.sampler import BatchIndex
from genie.presets import schedule
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training.batches import Batch, PrefetchLoader, ReadBatch
from genie.training.callbacks import (
    CheckpointCallback,
    Diagnose,
    DiagnosticsCallback,
    LoggingCallback,
    MakePreview,
    PreviewCallback,
)
from genie.training.checkpointing import read_checkpoint, write_checkpoint
from genie.training.distributed import (
    build_trainer,
    first_alone,
    sharding_strategy,
    silence_lightning,
)
from genie.training.interrupts import StopRequest
from genie.training.loggers import build_loggers, close_loggers
from genie.training.module import StageModule
from genie.training.reporting import DiagnosticWarnings
from genie.training.sharded_checkpoint import load_sharded, read_header, read_part, write_sharded
from genie.training.sharding import whole_state

FORMAT = 3  # 2: no scales of learning rates, other dynamics; 1: no latents to place codes from


@dataclass(frozen=True)
class StageRun:
    """What the stages of one run share.

    Attributes:
        folder: the run folder.
        train: the resolved configuration.
        stop: whether to stop early.
        console: where to write.
    """

    folder: Path
    train: TrainConfig
    stop: StopRequest
    console: Console

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint of a stage lies."""
        return self.folder / "checkpoints" / f"{name}.ckpt"


def run_stage(
    run: StageRun,
    name: str,
    model: nn.Module,
    read: ReadBatch,
    *,
    inputs: str = "",
    preview: MakePreview | None = None,
    diagnose: Diagnose | None = None,
    warnings: DiagnosticWarnings | None = None,
) -> None:
    """Trains a model to the end of its budget, from wherever its last checkpoint stands.

    Afterwards the model holds the averaged weights, on the CPU and in evaluation mode. A stage that
    was finished before only gets them.

    Args:
        run: what the stages share.
        name: of the stage, a field of `TrainConfig`.
        model: has `loss(*batch, progress=...) -> (loss, logs)`.
        read: gives the batch of an index; see `batches`.
        inputs: fingerprint of what the batches were computed with, "" for raw frames.
        preview: gives images and scalars of the averaged model now and then.
        diagnose: measures the averaged model now and then.
        warnings: reports what is wrong, to the run's console when left out.

    Raises:
        UserError: no checkpoint is whole, it belongs to other inputs, the disk is full, or the
            loss is no longer a number.
        Stopped: a signal came; a checkpoint was written.
    """
    train, stage = run.train, getattr(run.train, name)
    path = run.checkpoint(name)
    state = _restored(path, inputs)
    spent = schedule.progress(stage, state["step"], state["seconds"]) if state else 0.0
    if state and spent >= 1 and state.get("spent", 1.0) >= 1:
        model.load_state_dict(state["average"])
        model.eval()
        return
    sharded = train.strategy == "fsdp"
    if sharded:  # these measure a whole model
        preview = diagnose = None
    with silence_lightning():
        module = StageModule(
            model,
            stage,
            name=name,
            seed=train.seed,
            compile=train.compile,
            state=state,
            sharded=sharded,
            shard_over=train.shard_over,
            restore=partial(load_sharded, state["folder"]) if sharded and state else None,
        )

    def save() -> None:
        header = {"format": FORMAT, "stage": name, "inputs": inputs, "config": to_dict(stage)}
        if sharded:
            write_sharded(path, {**header, **module.progress()}, module.parts())
        else:
            first_alone(lambda: write_checkpoint(path, {**header, **module.state()}))

    with Progress(name, console=run.console, show=rank_zero_only.rank == 0) as progress:
        callbacks: list[Callback] = [
            LoggingCallback(module, progress, train.log_every),
            PreviewCallback(
                module, preview if train.previews_every else None, train.previews_every
            ),
            DiagnosticsCallback(
                module,
                diagnose if train.diagnostics_every else None,
                warnings or DiagnosticWarnings(run.console),
                train.diagnostics_every,
            ),
            CheckpointCallback(
                module, save, run.stop, train.checkpoint_steps, train.checkpoint_minutes
            ),
        ]
        with silence_lightning():
            trainer = _trainer(train, stage, run.folder, name, module.step, callbacks)
            first = BatchIndex(train.seed, module.step, 0, stage.grad_accum_steps)
            try:
                _fit(trainer, module, _Loader(read, first, train.workers, trainer))
            finally:
                close_loggers(trainer.loggers)
    if module.spent < 1:
        run.stop.stop(
            f"stopped in the stage {name!r} after {module.step} steps, everything is saved; "
            "the same command goes on from here"
        )
    model.load_state_dict(whole_state(module.average.model))
    model.eval()


def _fit(trainer: Trainer, module: StageModule, loader: _Loader) -> None:
    try:
        trainer.fit(module, loader)
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"compile: torch.compile failed ({reason}); train without it") from error


class _Loader:
    """Batches for the process that asks, which is only known once Lightning has started them."""

    def __init__(self, read: ReadBatch, first: BatchIndex, workers: int, trainer: Trainer) -> None:
        self.read, self.first, self.workers, self.trainer = read, first, workers, trainer

    def __iter__(self) -> Iterator[Batch]:
        rank, size = self.trainer.global_rank, self.trainer.world_size
        first = replace(self.first, rank=rank, world_size=size)
        return iter(PrefetchLoader(self.read, first, self.workers))


def read_state(path: Path) -> dict[str, Any] | None:
    """Reads the checkpoint of a stage; of a sharded one the numbers and the averaged weights.

    Returns:
        What was written, or None where there never was a checkpoint. A sharded checkpoint has
        "folder" in it, where the rest lies.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    found = read_header(path)
    if found is None:
        return read_checkpoint(path)
    folder, header = found
    return {**header, "average": read_part(folder, "average"), "folder": folder}


def _restored(path: Path, inputs: str) -> dict[str, Any] | None:
    state = read_state(path)
    if state is None:
        return None
    if state.get("format") != FORMAT:
        raise UserError(
            f"{path}: a checkpoint of format {state.get('format')}, this program writes {FORMAT}; "
            "go on with the version that wrote it, or train into another folder"
        )
    if state["inputs"] != inputs:
        raise UserError(
            f"{path}: was trained on tokens and actions of other models than those in this folder; "
            f"delete {path.name}* to train this stage anew, or train into another folder"
        )
    return state


def _trainer(
    train: TrainConfig,
    stage: StageConfig,
    folder: Path,
    name: str,
    step: int,
    callbacks: list[Callback],
) -> Trainer:
    return build_trainer(
        train,
        sharding_strategy() if train.strategy == "fsdp" else None,
        max_epochs=1,
        accumulate_grad_batches=stage.grad_accum_steps,
        gradient_clip_val=stage.gradient_clip or None,
        callbacks=callbacks,
        logger=build_loggers(train.loggers, folder, name, step),
    )
