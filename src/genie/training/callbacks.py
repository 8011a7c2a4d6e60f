"""What happens between steps: checkpoints, scalars, pictures, how far it is."""

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
from genie.training.reporting import Sign, Warnings, describe

if TYPE_CHECKING:
    from genie.training.module import StageModule

Drawn = tuple[dict[str, np.ndarray], dict[str, float]]
"""Pictures u8 (H,W,3) and scalars, by name."""

Draw = Callable[[nn.Module], Drawn]

Look = Callable[[nn.Module], list[Sign]]
"""Looks at the averaged model for signs that something goes wrong."""

EARLIEST = 0.2
"""Share of the budget before which a model may look as if something were wrong."""

WATCHED_SHARE = 0.01
"""Largest share of the time that looking takes, from the first look on."""


class _AfterSteps(Callback, ABC):
    """Calls `stepped` once per optimizer step, however many parts a batch has."""

    def __init__(self, module: StageModule) -> None:
        self.module, self.seen = module, module.step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.module.step != self.seen:
            self.seen = self.module.step
            self.stepped(trainer)

    @abstractmethod
    def stepped(self, trainer: Trainer) -> None: ...


class Saving(_AfterSteps):
    """Writes a checkpoint every so often, at the end, and when asked to stop.

    A model that is no longer made of numbers is not saved: `stepped` raises a `UserError`.

    Args:
        module: the stage.
        save: writes the checkpoint.
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

    def stepped(self, trainer: Trainer) -> None:
        """Stops or saves where it is time."""
        stop = bool(self.stop)
        if trainer.world_size > 1:
            stop = trainer.strategy.broadcast(stop)
        if stop:
            trainer.should_stop = True
        by_steps = self.steps and self.module.step % self.steps == 0
        by_time = self.minutes and time.monotonic() - self.saved >= 60 * self.minutes
        if by_steps or by_time or trainer.should_stop:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not self.module.finite():
            raise _diverged(self.module, "the loss or a weight is not finite")
        if trainer.is_global_zero:
            self.save()
        self.saved = time.monotonic()


class Reporting(_AfterSteps):
    """Scalars to TensorBoard, and how far the stage is.

    Args:
        module: the stage.
        progress: shows how far the stage is.
        every: steps between two rows of scalars.
    """

    def __init__(self, module: StageModule, progress: Progress, every: int) -> None:
        super().__init__(module)
        self.progress, self.every, self.note = progress, every, ""
        self.since = (time.monotonic(), module.step)

    def stepped(self, trainer: Trainer) -> None:
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
        assert trainer.logger is not None
        trainer.logger.log_metrics({**logs, **extra}, self.module.step)


class Pictures(_AfterSteps):
    """Pictures of what the averaged model does, to TensorBoard.

    Args:
        module: the stage.
        draw: makes them; None for no pictures.
        every: steps between two sets.
    """

    def __init__(self, module: StageModule, draw: Draw | None, every: int) -> None:
        super().__init__(module)
        self.draw, self.every = draw, every

    def stepped(self, trainer: Trainer) -> None:
        """Draws where it is time."""
        due = self.draw and (self.module.step % self.every == 0 or trainer.should_stop)
        if due and trainer.is_global_zero:
            self._show(trainer)

    @torch.no_grad()
    def _show(self, trainer: Trainer) -> None:
        assert self.draw is not None
        assert trainer.logger is not None
        pictures, scalars = self.draw(self.module.average.model)
        step = self.module.step
        trainer.logger.log_metrics(scalars, step)
        board = trainer.logger.experiment  # type: ignore[attr-defined]
        for name, picture in pictures.items():
            board.add_image(name, picture, step, dataformats="HWC")


class Watching(_AfterSteps):
    """Looks at the averaged model now and then, and says what is wrong with it, once.

    Args:
        module: the stage.
        look: gives the signs; None for not looking.
        warnings: says them.
        every: fewest steps between two looks.
    """

    def __init__(
        self, module: StageModule, look: Look | None, warnings: Warnings, every: int
    ) -> None:
        super().__init__(module)
        self.look, self.warnings, self.every = look, warnings, every
        self.looked, self.rest_until = module.step, 0.0

    def stepped(self, trainer: Trainer) -> None:
        """Looks where it is time; a look that took long is followed by a long rest."""
        if self.look is None or not trainer.is_global_zero or self.module.spent < EARLIEST:
            return
        began = time.monotonic()
        if self.module.step - self.looked < self.every or began < self.rest_until:
            return
        self._watch(self.look, trainer)
        now = time.monotonic()
        self.looked, self.rest_until = self.module.step, now + (now - began) / WATCHED_SHARE

    def _watch(self, look: Look, trainer: Trainer) -> None:
        assert trainer.logger is not None
        signs, step = look(self.module.average.model), self.module.step
        trainer.logger.log_metrics({f"signs/{sign.name}": sign.figure for sign in signs}, step)
        for text in self.warnings.tell(signs):
            trainer.logger.experiment.add_text("warnings", text, step)  # type: ignore[attr-defined]


def _diverged(module: StageModule, what: str) -> UserError:
    return UserError(
        f"{module.name}: {what} at step {module.step}; "
        "the last checkpoint is kept. Train with a lower learning_rate or gradient_clip"
    )
