"""A model in training: any with `loss(*batch, progress)`, as a Lightning module.

A step is a pure function of (weights, optimizer, average, step, seed). The order of clips comes
from the step, and its random numbers from a hash of the step. So a checkpoint needs no state
of any generator or loader, and a run that was killed ends as the one that was not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from genie.models.layers.distributed import sum_over_ranks
from genie.presets import schedule
from genie.presets.schedule import StageConfig
from genie.training import sharding
from genie.training.batches import Batch
from genie.training.optimizers import AveragedModel, build_optimizer, set_learning_rate


class StageModule(LightningModule):
    """A model in training, and all there is to know about how far it is.

    Args:
        model: has `loss(*batch, progress=...) -> (loss, logs)`; a log that is NaN is left out.
            `progress` is the fraction of the budget that is spent. A model with `phase_boundaries`,
            the first of them 0, is given the last of them that it has passed.
        stage: its budget and optimizer.
        name: of the stage; random numbers depend on it.
        seed: of everything random inside a step.
        compile: pass the loss through `torch.compile`, from the second step on.
        state: what `state()` returned, to go on from there.
        sharded: whether each process keeps a part of the weights; the model that was given stays as
            it is, and `model` is a copy.
        shard_over: among how many processes one copy of the weights is divided; 0 for all.
        restore: puts saved tensors of a sharded model in place; see `sharding.restore`.

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
        sharded: bool = False,
        shard_over: int = 0,
        restore: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__()
        self.sharded, self._shard_over, self._load_parts = sharded, shard_over, restore
        self.model, self.stage, self.name, self.seed = model, stage, name, seed
        self.step: int = state["step"] if state else 0
        self.seconds: float = state["seconds"] if state else 0.0
        self.spent = schedule.progress(stage, self.step, self.seconds)
        if state and self.spent >= 1:  # stopped before a step of the last phase
            self.spent = state.get("spent", 1.0)
        self.logs: dict[str, tuple[Tensor, Tensor]] = {}
        self._restore = state
        self._loss: Callable[..., Any] = model.loss  # type: ignore[assignment]
        self._to_compile, self._compiled, self._compiling = compile, False, 0
        self._point: float | None = None
        if state and not sharded:
            model.load_state_dict(state["model"])
        if self.step:
            self._compile()

    def configure_model(self) -> None:
        """Divides a model that is to be sharded among the processes."""
        if not self.sharded:
            return
        assert self.device_mesh is not None
        mesh = sharding.mesh_of(self.device_mesh["data_parallel"], self._shard_over)
        whole = self.model
        self.model = sharding.sharded_copy(whole, mesh)
        self._loss = self.model.loss  # type: ignore[assignment]
        copied = sharding.sharded_copy(whole, mesh)
        self.average = AveragedModel(copied, self.stage.ema_decay, copied=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Builds the optimizer, with its state where there is one."""
        optimizer = build_optimizer(self.model, self.stage)
        if self._restore and not self.sharded:
            optimizer.load_state_dict(self._restore["optimizer"])
        return optimizer

    def on_fit_start(self) -> None:
        """Starts the average and the clock, now that the model is where it trains."""
        if not self.sharded:
            self.average = AveragedModel(self.model, self.stage.ema_decay)
            if self._restore:
                self.average.model.load_state_dict(self._restore["average"])
        elif self._load_parts is not None:
            parts = self.model, self.average.model, self.trainer.optimizers[0]
            sharding.restore(*parts, self._load_parts)
        self._restore = self._load_parts = None
        self.model.train()
        self._last_step = time.monotonic()
        self._clock = self._last_step - self.seconds

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one micro-batch, under random numbers of its own."""
        micro_batch = batch_idx % self.stage.grad_accum_steps
        torch.manual_seed(step_seed(self.seed, self.name, self.step, micro_batch))
        loss, logs = self._loss(*batch, progress=self._progress())
        for key, value in {"loss": loss, **logs}.items():
            total, count = self.logs.get(key, (0.0, 0))
            told = (key == "loss") | ~value.detach().isnan()
            self.logs[key] = (total + value.detach().where(told, 0.0), count + told)
        return loss

    def _progress(self) -> float:
        # A graph holds for one number, so a loss that changes now and then is told only when.
        if not hasattr(self.model, "phase_boundaries"):
            return self.spent
        points: Sequence[float] = self.model.phase_boundaries  # type: ignore[assignment]
        point = max(point for point in points if point <= self.spent)
        if self._compiled and point != self._point:
            self._compiling = 2  # the step that places codes is compiled, and the one after it
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
            self._compiling -= 1
        self._last_step = now
        self._compile()
        self.step += 1
        self.average.update(self.model, self.step)
        self.seconds = self._sync(time.monotonic() - self._clock)
        self.spent = self._share_spent()
        if self.spent >= 1:
            self.trainer.should_stop = True

    def _share_spent(self) -> float:
        spent = schedule.progress(self.stage, self.step, self.seconds)
        last = max(getattr(self.model, "phase_boundaries", (0.0,)))
        entered = self._point is None or self._point >= last
        # On a slow machine the minutes may end before the phase that places codes: it gets a step.
        return spent if entered or spent < 1 or not self.stage.minutes else last

    def _compile(self) -> None:
        # After the first step, which places codes, once and outside any graph.
        if self._to_compile:
            self._loss = torch.compile(self._loss)
            self._to_compile, self._compiled, self._compiling = False, True, 1

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        scale = schedule.lr_scale(self.stage, self.step, self.spent)
        return self.stage.learning_rate * scale

    def take_logs(self) -> dict[str, float]:
        """Returns the means of the logs since the last call, of those with anything to tell.

        They are of all processes, which have to call this together.
        """
        logs, self.logs = self.logs, {}
        values = [torch.as_tensor(value).float() for pair in logs.values() for value in pair]
        sums = torch.stack([value.to(self.device) for value in values])
        sum_over_ranks(sums)
        pairs = zip(logs, sums.view(-1, 2).tolist(), strict=True)
        return {key: total / count for key, (total, count) in pairs if count}

    def finite(self) -> bool:
        """Whether every loss since the last `take_logs`, and every weight, is a finite number."""
        total, _ = self.logs.get("loss", (0.0, 0))
        return sharding.all_finite([torch.as_tensor(total), *self.model.parameters()])

    def state(self) -> dict[str, Any]:
        """Returns all that a resumed run needs."""
        return {
            **self.progress(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
        }

    def progress(self) -> dict[str, float]:
        """Returns the numbers that a resumed run needs."""
        return {"step": self.step, "seconds": self.seconds, "spent": self.spent}

    def parts(self) -> dict[str, Any]:
        """Returns the tensors that a resumed run of a sharded model needs."""
        optimizer = self.trainer.optimizers[0]
        return sharding.training_state(self.model, self.average.model, optimizer)

    def _sync(self, seconds: float) -> float:
        # Processes that read different clocks would not stop at the same step.
        if self.trainer.world_size == 1:
            return seconds
        return self.trainer.strategy.broadcast(seconds)


def step_seed(seed: int, stage: str, step: int, micro_batch: int = 0) -> int:
    """Returns the seed of all random numbers of one micro-batch of one step, in [0, 2^63).

    It is that of all processes, which draw for the clips of all and take their own.
    """
    text = f"{seed}/{stage}/{step}/{micro_batch}/0"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
