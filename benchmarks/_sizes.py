"""Worlds that benchmarks measure, by name."""

from __future__ import annotations

from dataclasses import replace

import torch

import genie
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.presets import registry
from genie.world import bundled
from genie.world.config import GenieConfig

PEERS = ("peers4", "peers16")
"""What other implementations were measured with, at patch 4 and patch 16 (docs/experiments)."""

BLOCKS = {"50M": (12, 512), "300M": (18, 1024), "1B": (26, 1536), "3B": (28, 2560)}
"""Layers and width of a dynamics of about so many parameters, at patch 4 with 16 frames."""

PAPER = {
    "context": "masked", "action_conditioning": "add", "mask_ratio": "uniform",
    "context_corruption": 0.0,
    "copy_head": False, "changed_token_weight": 1.0, "static_action_dropout": 0.0,
    "action_dropout": 0.0,
}  # fmt: skip
"""The paper's settings of the dynamics."""


def config_of(name: str) -> GenieConfig:
    """The sizes of a name: one of `PEERS` or `BLOCKS`, or of a preset."""
    if name in BLOCKS:
        depth, width = BLOCKS[name]
        blocks = TransformerConfig(layers=depth, width=width, heads=width // 64, window=16)
        return replace(config_of("peers4"), dynamics=DynamicsConfig(**vars(blocks)))
    if name not in PEERS:
        return registry.get(name).world
    patch = int(name.removeprefix("peers"))
    layers = TransformerConfig(layers=4, width=128, heads=4, window=16)
    return GenieConfig(
        num_actions=8,
        tokenizer=VideoTokenizerConfig(
            patch=patch, encoder=layers, decoder=layers, quantizer=VQConfig(codes=1024)
        ),
        actions=LatentActionConfig(patch=patch, downsample=1, encoder=layers, decoder=layers),
        dynamics=DynamicsConfig(layers=4, width=128, heads=4, window=16),
    )


def world_of(
    name: str, passes: int | None = None, device: torch.device | str = "cpu"
) -> genie.Genie:
    """A world to play: with random weights, which are as fast, or one that is saved."""
    torch.manual_seed(0)
    presets_only = set(registry.names()) - set(bundled.names())
    if name in (*PEERS, *BLOCKS, *presets_only):
        world = genie.Genie(config_of(name)).eval().to(device)
    else:
        world = genie.Genie.from_pretrained(name, device=str(device))
    if passes:
        sampling = replace(world.config.sampling, steps=passes)
        world.config = replace(world.config, sampling=sampling)
    return world
