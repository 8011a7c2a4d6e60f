"""A small world of random weights, its pictures, and when two of them are the same."""

from dataclasses import replace

import torch

from genie import Genie, GenieConfig, SamplingConfig
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig

LAYERS = TransformerConfig(layers=1, width=32, heads=4, window=3)
CONFIG = GenieConfig(
    height=16,
    width=16,
    num_actions=4,
    tokenizer=VideoTokenizerConfig(
        patch=4, encoder=LAYERS, decoder=LAYERS, quantizer=VQConfig(codes=32, dim=8)
    ),
    actions=LatentActionConfig(patch=4, encoder=LAYERS, decoder=LAYERS),
    dynamics=DynamicsConfig(layers=2, width=32, heads=4, window=4),
    sampling=SamplingConfig(steps=3),
)


SHALLOW = replace(CONFIG, dynamics=replace(CONFIG.dynamics, layers=1))  # compiles faster


def stirred(config: GenieConfig) -> Genie:
    """Random weights, turned up so that the action and the past matter as in a trained world."""
    torch.manual_seed(0)
    world = Genie(config)
    with torch.no_grad():
        for weight in world.dynamics.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        world.dynamics.head.linear.weight.mul_(5)
    return world.eval()


def frames(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 16, 16, 3), dtype=torch.uint8, generator=generator)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the rounding of a grey level: the tokens are the same."""
    return a.shape == b.shape and int((a.int() - b.int()).abs().max()) <= 1
