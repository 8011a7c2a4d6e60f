"""One stage: any model with `loss(*batch, progress)` trained under Lightning, exactly resumable.

A step is a pure function of (weights, optimizer, average, step, seed): the order of clips comes
from the step, and the random numbers of a step from a hash of the step. So a checkpoint needs no
state of any generator or loader, and a run that was killed ends as the one that was not.
"""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from genie import schedule
from genie.config import UserError, to_dict
from genie.progress import Progress
from genie.schedule import StageConfig, TrainConfig
from genie.training.callbacks import Draw, Look, Pictures, Reporting, Saving, Watching
from genie.training.checkpointing import read_checkpoint, write_checkpoint
from genie.training.interrupts import StopRequest
from genie.training.loaders import Ahead, Batch, Place
from genie.training.optimizers import AveragedModel, build_optimizer, set_learning_rate
from genie.training.reporting import Warnings

FORMAT = 3  # 2: no scales of learning rates, other dynamics; 1: no latents to place codes from
LIGHTNING_NAMES = {"cuda": "gpu"}
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


class StageModule(LightningModule):
    """A model in training, and all there is to know about how far it is.

    Args:
        model: has `loss(*batch, progress=...) -> (loss, logs)`, logs not a number where there is
            nothing to tell. Where it has `turning_points`, the first of them 0, it is told the last
            of these that is behind it, and all of its progress otherwise.
        stage: its budget and optimizer.
        name: of the stage; random numbers depend on it.
        seed: of everything random inside a step.
        compile: pass the loss through `torch.compile`, from the second step on.
        state: what `state()` returned, to go on from there.

    Attributes:
        step: optimizer steps done, over all runs.
        seconds: training time spent, over all runs.
        spent: share of the budget spent.
        average: the averaged weights; there from the start of the fit.
    """

    average: AveragedModel

    def __init__(
        self,
        model: nn.Module,
        stage: StageConfig,
        *,
        name: str = "stage",
        seed: int = 0,
        compile: bool = False,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.stage, self.name, self.seed = model, stage, name, seed
        self.step: int = state["step"] if state else 0
        self.seconds: float = state["seconds"] if state else 0.0
        self.spent = schedule.progress(stage, self.step, self.seconds)
        self.logs: dict[str, tuple[Tensor, Tensor]] = {}
        self._restore = state
        self._loss: Callable[..., Any] = model.loss  # type: ignore[assignment]
        self._to_compile, self._compiled, self._compiling = compile, False, False
        self._point: float | None = None
        if state:
            model.load_state_dict(state["model"])
        if self.step:
            self._compile()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Builds the optimizer, with its state where there is one."""
        optimizer = build_optimizer(self.model, self.stage)
        if self._restore:
            optimizer.load_state_dict(self._restore["optimizer"])
        return optimizer

    def on_fit_start(self) -> None:
        """Starts the average and the clock, now that the model is where it trains."""
        self.average = AveragedModel(self.model, self.stage.ema_decay)
        if self._restore:
            self.average.model.load_state_dict(self._restore["average"])
        self._restore = None
        self.model.train()
        self._last_step = time.monotonic()
        self._clock = self._last_step - self.seconds

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one part of a batch, under random numbers of its own."""
        part = batch_idx % self.stage.accumulate
        torch.manual_seed(step_seed(self.seed, self.name, self.step, part, self.global_rank))
        loss, logs = self._loss(*batch, progress=self._progress())
        for key, value in {"loss": loss, **logs}.items():
            total, count = self.logs.get(key, (0.0, 0))
            told = (key == "loss") | ~value.detach().isnan()
            self.logs[key] = (total + value.detach().where(told, 0.0), count + told)
        return loss

    def _progress(self) -> float:
        # A graph holds for one number, so a loss that changes now and then is told only when.
        if not hasattr(self.model, "turning_points"):
            return self.spent
        points: Sequence[float] = self.model.turning_points  # type: ignore[assignment]
        point = max(point for point in points if point <= self.spent)
        self._compiling |= self._compiled and point != self._point
        self._point = point
        return point

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None
    ) -> None:
        """Sets the learning rate, steps, and counts."""
        set_learning_rate(optimizer, self.learning_rate)
        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        now = time.monotonic()
        if self._compiling:  # which is no part of the budget
            self._clock += now - self._last_step
            self._compiling = False
        self._last_step = now
        self._compile()
        self.step += 1
        self.average.update(self.model, self.step)
        self.seconds = self._agree(time.monotonic() - self._clock)
        self.spent = schedule.progress(self.stage, self.step, self.seconds)
        if self.spent >= 1:
            self.trainer.should_stop = True

    def _compile(self) -> None:
        # After the first step, which places codes, once and outside any graph.
        if self._to_compile:
            self._loss = torch.compile(self._loss)
            self._to_compile, self._compiled, self._compiling = False, True, True

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        scale = schedule.lr_scale(self.stage, self.step, self.spent)
        return self.stage.learning_rate * scale

    def take_logs(self) -> dict[str, float]:
        """Returns the means of the logs since the last call, of those with anything to tell."""
        logs, self.logs = self.logs, {}
        return {key: float(total) / float(count) for key, (total, count) in logs.items() if count}

    def finite(self) -> bool:
        """Whether every loss since the last `take_logs`, and every weight, is a finite number."""
        total, _ = self.logs.get("loss", (0.0, 0))
        values = [torch.as_tensor(total), *self.model.parameters()]
        return all(bool(value.detach().isfinite().all()) for value in values)

    def state(self) -> dict[str, Any]:
        """Returns all that a resumed run needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
        }

    def _agree(self, seconds: float) -> float:
        # Processes that read different clocks would not stop at the same step.
        if self.trainer.world_size == 1:
            return seconds
        return self.trainer.strategy.broadcast(seconds)


def step_seed(seed: int, stage: str, step: int, part: int = 0, rank: int = 0) -> int:
    """Returns the seed of all random numbers of one part of one step, in [0, 2^63)."""
    text = f"{seed}/{stage}/{step}/{part}/{rank}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


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
    read: Callable[[Place], Batch],
    *,
    inputs: str = "",
    draw: Draw | None = None,
    look: Look | None = None,
    warnings: Warnings | None = None,
) -> None:
    """Trains a model to the end of its budget, from wherever its last checkpoint stands.

    Afterwards the model holds the averaged weights, on the CPU and in evaluation mode. A stage that
    was finished before only gets them.

    Args:
        run: what the stages share.
        name: of the stage, a field of `TrainConfig`.
        model: has `loss(*batch, progress=...) -> (loss, logs)`.
        read: gives the batch of a place; see `loaders`.
        inputs: fingerprint of what the batches were computed with, "" for raw frames.
        draw: gives pictures and scalars of the averaged model now and then.
        look: looks at the averaged model now and then for signs that something goes wrong.
        warnings: says them, to the run's console when left out.

    Raises:
        UserError: no checkpoint is whole, it belongs to other inputs, the disk is full, or the
            loss is no longer a number.
        Stopped: a signal came; a checkpoint was written.
    """
    train, stage = run.train, getattr(run.train, name)
    path = run.checkpoint(name)
    state = _restored(path, inputs)
    if state and schedule.progress(stage, state["step"], state["seconds"]) >= 1:
        model.load_state_dict(state["average"])
        model.eval()
        return
    with quiet_lightning():
        module = StageModule(
            model, stage, name=name, seed=train.seed, compile=train.compile, state=state
        )

    def save() -> None:
        header = {"format": FORMAT, "stage": name, "inputs": inputs, "config": to_dict(stage)}
        write_checkpoint(path, {**header, **module.state()})

    with Progress(name, console=run.console, show=rank_zero_only.rank == 0) as progress:
        callbacks: list[Callback] = [
            Reporting(module, progress, train.log_every),
            Pictures(module, draw if train.picture_every else None, train.picture_every),
            Watching(
                module,
                look if train.watch_every else None,
                warnings or Warnings(run.console),
                train.watch_every,
            ),
            Saving(module, save, run.stop, train.checkpoint_steps, train.checkpoint_minutes),
        ]
        with quiet_lightning():
            trainer = _trainer(train, stage, run.folder, name, module.step, callbacks)
            place = Place(train.seed, module.step, 0, stage.accumulate)
            _fit(trainer, module, _Loader(read, place, train.workers, trainer))
    if module.spent < 1:
        run.stop.stop(
            f"stopped in the stage {name!r} after {module.step} steps, everything is saved; "
            "the same command goes on from here"
        )
    model.load_state_dict({k: v.cpu() for k, v in module.average.model.state_dict().items()})
    model.eval()


def _fit(trainer: Trainer, module: StageModule, loader: _Loader) -> None:
    try:
        trainer.fit(module, loader)
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"compile: torch.compile failed ({reason}); train without it") from error


class _Loader:
    """Batches for the process that asks, which is only known once Lightning has started them."""

    def __init__(
        self, read: Callable[[Place], Batch], place: Place, workers: int, trainer: Trainer
    ) -> None:
        self.read, self.place, self.workers, self.trainer = read, place, workers, trainer

    def __iter__(self) -> Iterator[Batch]:
        place = Place(
            self.place.seed,
            self.place.step,
            parts=self.place.parts,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return iter(Ahead(self.read, place, self.workers))


def _restored(path: Path, inputs: str) -> dict[str, Any] | None:
    state = read_checkpoint(path)
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
    # Rows that a killed run wrote after its last checkpoint are purged, they come again.
    logger = TensorBoardLogger(folder / "logs", name="", version=name, purge_step=step)
    try:
        return _build_trainer(train, stage, logger, callbacks)
    except (MisconfigurationException, RuntimeError) as error:
        raise UserError(f"accelerator, devices: {error}") from None


def _build_trainer(
    train: TrainConfig, stage: StageConfig, logger: TensorBoardLogger, callbacks: list[Callback]
) -> Trainer:
    return Trainer(
        accelerator=LIGHTNING_NAMES.get(train.accelerator, train.accelerator),
        devices=train.devices,
        strategy=_strategy(train),
        precision=PRECISIONS[train.precision],  # type: ignore[arg-type]
        max_epochs=1,
        accumulate_grad_batches=stage.accumulate,
        gradient_clip_val=stage.gradient_clip or None,
        callbacks=callbacks,
        logger=logger,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _strategy(train: TrainConfig) -> str:
    count = train.devices
    if count == "auto":
        count = torch.cuda.device_count() if train.accelerator in ("auto", "cuda") else 1
    # Not all weights have gradients at every step: the encoder of the actions stops learning.
    return "ddp_find_unused_parameters_true" if count > 1 else "auto"


# Lightning 2.6, and torch's own compiler, call what torch 2.13 has deprecated.
NOISE = [
    (r".*LeafSpec.* is deprecated", FutureWarning),
    (r".*torch\.jit\.script.* is deprecated", DeprecationWarning),
]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keeps Lightning from advertising and from warning about what is meant to be so."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message, category in NOISE:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        logger.setLevel(level)
