"""Latent actions from two frames alone, by convolutions of six channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.latent_actions.base import BaseConfig, LatentActionModel
from genie.models.layers.patches import pad_to_patches

GROUPS = 8
"""Groups of channels that are normalised together."""


@dataclass(frozen=True)
class PairActionConfig(BaseConfig):
    """The convolutional model, its size and losses.

    Attributes:
        kind: "pair".
        downsample: frames are averaged over squares of this side first.
        patch: by how much the encoder makes height and width smaller, a power of two from 2.
        dim: features of a latent action.
        continuous_fraction: share of the training budget in which the latent is noisy but not
            quantized, and the encoder learns. With 0 the model trains through the codes from the
            first step.
        latent_noise: standard deviation of that noise. The latent has unit variance.
        motion_weight: extra weight of pixels that changed.
        commitment_weight: weight of the loss that keeps latents near their code.
        ema_decay: decay of the moving average that is the codebook, per step.
        embedding_noise: standard deviation of noise on the code's vector in training.
        entropy_weight: weight of the loss that spreads use over the codes. This and the next two
            are in `models/latent_actions/regularizers.py`.
        smoothness_weight: weight of the loss that keeps latents of neighbouring steps close.
        consistency_weight: weight of the loss by which like changes of pixels get like latents.
        lfq_codebooks: number of codebooks for codes by LFQ; 0 for one codebook of vectors
            (`models/latent_actions/lookup_free.py`).
        channels: features of all convolutions, a multiple of 8.
    """

    kind: Literal["pair"] = "pair"
    channels: int = 64

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        power = self.patch >= 2 and self.patch & (self.patch - 1) == 0
        require(power, f"patch: each stage halves a frame, so take 2, 4, 8 or so; got {self.patch}")
        grouped = self.channels >= 1 and self.channels % GROUPS == 0
        require(grouped, f"channels: must be a multiple of {GROUPS}, got {self.channels}")
        require_at_most(self, channels=16_384)

    @property
    def layers(self) -> int:
        """Number of convolutions of encoder and decoder."""
        return 2 * (self.patch.bit_length() - 1)

    def build(self, frame_size: tuple[int, int], num_actions: int) -> PairActionModel:
        """Returns a new model of this configuration."""
        return PairActionModel(self, frame_size, num_actions)


class PairActionModel(LatentActionModel):
    """Infers a latent action from a frame and the next, and adds what it changes to the frame.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.
    """

    config: PairActionConfig

    def __init__(self, config: PairActionConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__(config, frame_size, num_actions)
        self.config = config
        width = config.channels
        self.encoder = _halvings(6, width, config.patch)
        self.to_latent = nn.Linear(width, config.dim)
        self._add_codebook()
        self.before = _halvings(3, width, config.patch)
        self.from_latent = nn.Linear(config.dim, 2 * width)
        up: list[nn.Module] = []
        for _ in range(config.patch.bit_length() - 1):
            up += [nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)]
            up += [nn.GroupNorm(GROUPS, width), nn.SiLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(width, 3, 3, padding=1))

    @property
    def past(self) -> int:
        """Number of earlier frames that the latent of a frame depends on: one."""
        return 1

    def _latents(self, frames: Tensor, learn: bool = False) -> Tensor:
        pixels = self._pixels(frames)
        pairs = torch.cat([pixels[:, :-1], pixels[:, 1:]], dim=-1)
        features = self.encoder(self._images(pairs)).mean(dim=(2, 3))
        return self.to_latent(features).unflatten(0, pairs.shape[:2])

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        before = pixels[:, :-1]
        scale, shift = self.from_latent(latents).flatten(0, 1)[..., None, None].chunk(2, dim=1)
        features = self.before(self._images(before)) * (1 + scale) + shift  # FiLM
        height, width = self.frame_size
        change = self.decoder(features)[:, :, :height, :width].permute(0, 2, 3, 1)
        return before + change.unflatten(0, before.shape[:2])

    def _images(self, pixels: Tensor) -> Tensor:
        return pad_to_patches(pixels, self.config.patch).flatten(0, 1).permute(0, 3, 1, 2)


def _halvings(channels: int, width: int, patch: int) -> nn.Sequential:
    """Convolutions that make height and width smaller by `patch`."""
    layers: list[nn.Module] = []
    for stage in range(patch.bit_length() - 1):
        layers += [nn.Conv2d(width if stage else channels, width, 4, stride=2, padding=1)]
        layers += [nn.GroupNorm(GROUPS, width), nn.SiLU()]
    return nn.Sequential(*layers)
