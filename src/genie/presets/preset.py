"""What a preset is."""

from __future__ import annotations

from dataclasses import dataclass, field

from genie.presets.schedule import TrainConfig
from genie.world.config import GenieConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        about: one line that describes it.
        world: sizes of the models.
        train: how they are trained.
    """

    about: str
    world: GenieConfig = field(default_factory=GenieConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
