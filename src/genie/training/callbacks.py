"""What happens between optimizer steps: checkpoints, scalars, previews, diagnostics, progress."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from genie.core.config import UserError
from genie.core.progress import Progress
from genie.training.interrupts import StopRequest
from genie.training.loggers import log_images, log_scalars, log_warning
from genie.training.reporting import Diagnostic, DiagnosticWarnings, describe

if TYPE_CHECKING:
    from genie.training.module import StageModule

PreviewImages = tuple[dict[str, np.ndarray], dict[str, float]]
"""Images u8 (H,W,3) and scalars, by name."""

MakePreview = Callable[[nn.Module], PreviewImages]

Diagnose = Callable[[nn.Module], list[Diagnostic]]
"""Measures the averaged model and says what is wrong with it."""

FIRST_STEP = 0.2
"""Fraction of the budget to spend before the first diagnosis: at first every model looks bad."""

TIME_FRACTION = 0.01
"""Largest fraction of the time that diagnoses take, from the first one on."""


class _AfterSteps(Callback, ABC):
    """Calls `after_step` once per optimizer step, not once per micro-batch."""

    def __init__(self, module: StageModule) -> None:
        self.module, self.last_step = module, module.step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.module.step != self.last_step:
            self.last_step = self.module.step
            self.after_step(trainer)

    @abstractmethod
    def after_step(self, trainer: Trainer) -> None: ...


class CheckpointCallback(_AfterSteps):
    """Writes a checkpoint every so often, at the end, and when asked to stop.

    A model whose weights are no longer finite is not saved: `after_step` raises a `UserError`.

    Args:
        module: the stage.
        save: writes the checkpoint; all processes call it, and it returns when all have written.
        stop: whether to stop.
        steps: write every so many steps; 0 for not.
        minutes: write every so many minutes; 0 for not.
    """

    def __init__(
        self,
        module: StageModule,
        save: Callable[[], None],
        stop: StopRequest,
        steps: int,
        minutes: float,
    ) -> None:
        super().__init__(module)
        self.save, self.stop, self.steps, self.minutes = save, stop, steps, minutes
        self.saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Puts the handler of signals back in front of Lightning's."""
        self.stop.install()

    def after_step(self, trainer: Trainer) -> None:
        """Stops or saves where it is time."""
        stop = bool(self.stop)
        if trainer.world_size > 1:
            stop = trainer.strategy.broadcast(stop)
        if stop:
            trainer.should_stop = True
        by_steps = self.steps and self.module.step % self.steps == 0
        by_time = self.minutes and time.monotonic() - self.saved >= 60 * self.minutes
        if by_steps or by_time or trainer.should_stop:
            self._save()

    def _save(self) -> None:
        if not self.module.finite():
            raise _diverged(self.module, "the loss or a weight is not finite")
        self.save()
        self.saved = time.monotonic()


class LoggingCallback(_AfterSteps):
    """Writes scalars, and shows how far the stage is.

    Args:
        module: the stage.
        progress: shows how far the stage is.
        every: steps between two rows of scalars.
    """

    def __init__(self, module: StageModule, progress: Progress, every: int) -> None:
        super().__init__(module)
        self.progress, self.every, self.note = progress, every, ""
        self.since = (time.monotonic(), module.step)

    def after_step(self, trainer: Trainer) -> None:
        """Writes the scalars where it is time; always moves the bar."""
        module = self.module
        if module.step % self.every == 0 or trainer.should_stop:
            self._log(trainer)
        note = f"step {module.step}  {self.note}"
        self.progress.update(module.spent, note, seconds=module.seconds)

    def _log(self, trainer: Trainer) -> None:
        logs = self.module.take_logs()
        if not math.isfinite(logs["loss"]):
            raise _diverged(self.module, f"the loss is {logs['loss']}")
        self.note = describe(logs)
        now, (then, step) = time.monotonic(), self.since
        self.since = (now, self.module.step)
        rate = (self.module.step - step) / max(now - then, 1e-9)
        extra = {"learning_rate": self.module.learning_rate, "steps_per_second": rate}
        log_scalars(trainer.loggers, {**logs, **extra}, self.module.step)


class PreviewCallback(_AfterSteps):
    """Writes images of what the averaged model does.

    Args:
        module: the stage.
        preview: makes them; None for none.
        every: steps between two sets.
    """

    def __init__(self, module: StageModule, preview: MakePreview | None, every: int) -> None:
        super().__init__(module)
        self.preview, self.every = preview, every

    def after_step(self, trainer: Trainer) -> None:
        """Writes them where it is time."""
        due = self.preview and (self.module.step % self.every == 0 or trainer.should_stop)
        if due and trainer.is_global_zero:
            self._write(trainer)

    @torch.no_grad()
    def _write(self, trainer: Trainer) -> None:
        assert self.preview is not None
        images, scalars = self.preview(self.module.average.model)
        step = self.module.step
        log_scalars(trainer.loggers, scalars, step)
        log_images(trainer.loggers, images, step)


class DiagnosticsCallback(_AfterSteps):
    """Diagnoses the averaged model now and then, and reports each problem once.

    Args:
        module: the stage.
        diagnose: measures the model; None for no diagnostics.
        warnings: reports the problems.
        every: fewest steps between two diagnoses.
    """

    def __init__(
        self,
        module: StageModule,
        diagnose: Diagnose | None,
        warnings: DiagnosticWarnings,
        every: int,
    ) -> None:
        super().__init__(module)
        self.diagnose, self.warnings, self.every = diagnose, warnings, every
        self.diagnosed, self.rest_until = module.step, 0.0

    def after_step(self, trainer: Trainer) -> None:
        """Diagnoses where it is time; what took long is followed by a long rest."""
        if self.diagnose is None or not trainer.is_global_zero or self.module.spent < FIRST_STEP:
            return
        began = time.monotonic()
        if self.module.step - self.diagnosed < self.every or began < self.rest_until:
            return
        self._diagnose(self.diagnose, trainer)
        now = time.monotonic()
        self.diagnosed, self.rest_until = self.module.step, now + (now - began) / TIME_FRACTION

    def _diagnose(self, diagnose: Diagnose, trainer: Trainer) -> None:
        found, step = diagnose(self.module.average.model), self.module.step
        values = {f"diagnostics/{one.name}": one.value for one in found}
        log_scalars(trainer.loggers, values, step)
        for text in self.warnings.report(found):
            log_warning(trainer.loggers, text, step)


def _diverged(module: StageModule, what: str) -> UserError:
    return UserError(
        f"{module.name}: {what} at step {module.step}; "
        "the last checkpoint is kept. Train with a lower learning_rate or gradient_clip"
    )
