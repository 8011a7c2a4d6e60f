"""Numbers of parameters of presets."""

import torch

from genie.presets.preset import Preset
from genie.world.genie import Genie


def millions(preset: Preset) -> dict[str, float]:
    """Millions of parameters of each model and of the whole world."""
    with torch.device("meta"):
        world = Genie(preset.world)
    parts = {"world": world, **dict(world.named_children())}
    return {
        name: sum(weight.numel() for weight in part.parameters()) / 1e6
        for name, part in parts.items()
    }
