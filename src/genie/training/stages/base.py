"""What a stage of training has to say of itself, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from genie.core.progress import Progress, say
from genie.data.store import ClipStore
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training import previews
from genie.training.batches import FrameBatches, ReadBatch
from genie.training.callbacks import Diagnose, MakePreview, PreviewImages
from genie.training.finetune import BaseWorld
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stage import StageRun
from genie.world import inputs
from genie.world.config import GenieConfig
from genie.world.genie import Genie

LATER = "a later one needs its model; run it first, or all stages at once"

DIAGNOSTIC_CLIPS = 32
"""Clips that a model is measured on."""


@dataclass
class StageContext:
    """What all stages of a run are given.

    Attributes:
        run: the run folder, the resolved configuration, the console.
        store: the videos.
        world: the models; those of earlier stages are trained, on the CPU and in evaluation mode.
        warnings: reports what is wrong with a model.
    """

    run: StageRun
    store: ClipStore
    world: Genie
    warnings: DiagnosticWarnings
    said_split: bool = False

    @property
    def device(self) -> torch.device:
        """Where models compute what is cached, and are measured after their stage."""
        return device_of(self.run.train)

    def diagnostic_clips(self, frames: int) -> Tensor:
        """Returns the clips u8 (B,T,H,W,3) that a model is measured on."""
        return previews.held_out_clips(self.store, frames, DIAGNOSTIC_CLIPS)

    def preview_clips(self, frames: int) -> tuple[Tensor, str]:
        """Returns some clips u8 (B,T,H,W,3) to show, and the split that they are from."""
        split = previews.preview_split(self.store, frames)
        if split != "val" and not self.said_split and rank_zero_only.rank == 0:
            self.said_split = True
            say(
                self.run.console,
                f"no held-out video has {frames} frames: previews and figures are of videos that "
                "are trained on, under train/ in the logs",
            )
        return previews.held_out_clips(self.store, frames), split

    def precompute(self, what: str, compute: Callable[[Callable[[float], None]], Any]) -> Any:
        """Computes what a stage reads, with progress, until a stop is asked for.

        Args:
            what: its name, such as "tokens".
            compute: gets a function to call with the fraction that is done.

        Raises:
            Stopped: a signal came.
        """
        show = rank_zero_only.rank == 0
        with Progress(f"computing {what}", console=self.run.console, show=show) as progress:

            def advance(fraction: float) -> None:
                progress.update(fraction)
                self.run.stop.stop(
                    f"stopped while computing {what}; the same command goes on from here"
                )

            return compute(advance)


@dataclass(frozen=True)
class StageInputs:
    """What one stage trains on, and how its model is shown and measured.

    Attributes:
        read: gives the batch of an index, as the model's `loss` takes it.
        preview: gives images and scalars of the averaged model.
        diagnose: measures the averaged model.
        fingerprint: of the models that the batches were computed with; "" for raw frames.
    """

    read: ReadBatch
    preview: MakePreview | None = None
    diagnose: Diagnose | None = None
    fingerprint: str = ""


class Stage(ABC):
    """One row of the table of stages.

    Attributes:
        name: of its `StageConfig` in `TrainConfig`, of its checkpoint and of its logs.
        needs: stages whose models it reads; they are not trained on once it has begun. `reads` may
            depend on the world.
        joins: stage that trains its model as well where `TrainConfig.joint` is set; None for none.
        optional: whether a new world may be without it.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    joins: ClassVar[str | None] = None
    optional: ClassVar[bool] = False

    def config(self, train: TrainConfig) -> StageConfig:
        """Returns its budget and optimizer."""
        return getattr(train, self.name)

    def model(self, world: Genie, train: TrainConfig) -> nn.Module:
        """Returns what it trains, a module with `loss(*batch, progress) -> (loss, logs)`."""
        return getattr(world, self.name)

    @abstractmethod
    def inputs(self, context: StageContext) -> StageInputs:
        """Returns what it trains on; computes tokens and actions that are not cached yet."""

    @abstractmethod
    def report(self, context: StageContext) -> None:
        """Prints how good the trained model is, and warns where something is wrong."""

    def reads(self, world: GenieConfig) -> tuple[str, ...]:
        """Returns the stages whose models it reads in a world of this configuration."""
        return self.needs

    def joined(self, train: TrainConfig) -> bool:
        """Whether another stage trains its model in its place."""
        return train.joint and self.joins is not None

    def kept(self, base: BaseWorld) -> bool:
        """Whether the model of a base world is kept as it is."""
        return False

    def missing(self, base: BaseWorld | None) -> str:
        """Says why other stages cannot use its model when it has not run; "" where they can."""
        return "" if base is not None else f"the stage {self.name!r} has not run here and {LATER}"


def frame_inputs(
    stage: Stage,
    context: StageContext,
    preview: Callable[[nn.Module, Tensor, str], PreviewImages],
    diagnose: Callable[[nn.Module, Tensor], list[Diagnostic]],
) -> StageInputs:
    """Returns what a stage trains on whose model learns from clips of frames.

    Args:
        stage: the stage.
        context: of its run.
        preview: gives images and scalars of a model, some clips and the name of their split.
        diagnose: measures a model on clips.
    """
    config, train = stage.config(context.run.train), context.run.train
    shown, split = context.preview_clips(config.clip_frames)
    clips = context.diagnostic_clips(config.clip_frames)
    return StageInputs(
        FrameBatches(context.store, config.clip_frames, config.batch_size, train.augmentation),
        preview=lambda model: preview(model, shown, split),
        diagnose=lambda model: diagnose(model, clips),
    )


def device_of(train: TrainConfig) -> torch.device:
    """Returns where models compute what is cached, and are measured after their stage."""
    return inputs.device_of(None if train.accelerator == "auto" else train.accelerator)
