"""A tokenizer in training with losses beside the error of pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from genie.core.config import require
from genie.models.external_networks import load_archive
from genie.models.tokenizer_losses.adversarial import PatchDiscriminator, adaptive_weight
from genie.models.tokenizer_losses.flow import flow_error
from genie.models.tokenizer_losses.perceptual import RandomFeatures
from genie.models.tokenizer_losses.temporal import change_error
from genie.models.tokenizers.base import Reconstruction, Tokenizer

CLIP_LOSSES = {"temporal_weight": change_error, "flow_weight": flow_error}
"""Losses of reconstructed clips and the clips, by their weight in the configuration."""


class TokenizerWithLosses(nn.Module):
    """Trains a tokenizer and, if there is one, its discriminator by one optimizer.

    Each of the two losses has no gradient for the other network.

    Args:
        tokenizer: whose configuration has `extra_losses`.

    Raises:
        UserError: the file of the perceptual network is missing or damaged.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer, self.losses = tokenizer, tokenizer.config.extra_losses
        self.discriminator = PatchDiscriminator() if self.losses.adversarial_weight else None
        self.perceptual: nn.Module | None = None
        if self.losses.perceptual_weight:
            path = self.losses.perceptual_network
            require(
                not path or Path(path).is_file(),
                f"tokenizer.extra_losses.perceptual_network: there is no file {path}",
            )
            self.perceptual = load_archive(Path(path), "cpu") if path else RandomFeatures()
            for weight in self.perceptual.parameters():
                weight.requires_grad_(False)

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """Values of `progress` at which the loss changes, beginning with 0."""
        return (0.0, self.losses.adversarial_start) if self.discriminator else (0.0,)

    def loss(self, frames: Tensor, progress: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokenizer's loss of clips u8 (B,T,H,W,3) with the others, and figures."""
        made = self.tokenizer.reconstruction(frames)
        loss, logs = made.pixel_loss + made.quantizer_loss, dict(made.logs)
        for name, error in CLIP_LOSSES.items():
            if weight := getattr(self.losses, name):
                logs[error.__name__] = error(made.pixels, made.target)
                loss = loss + weight * logs[error.__name__]
        if self.perceptual is not None:
            distance = self.perceptual(_images(made.pixels), _images(made.target)).mean()
            logs["perceptual"] = distance
            loss = loss + self.losses.perceptual_weight * distance
        if self.discriminator is not None:
            loss = loss + self._adversarial(made, progress, logs)
        return loss, logs

    def _adversarial(
        self, made: Reconstruction, progress: float, logs: dict[str, Tensor]
    ) -> Tensor:
        assert self.discriminator is not None
        if progress < self.losses.adversarial_start:
            return self.discriminator.unused()
        images = _images(made.pixels)
        fooled = self.discriminator.tokenizer_loss(images)
        own = self.discriminator.own_loss(_images(made.target), images)
        logs["discriminator_loss"] = own
        if not torch.is_grad_enabled():
            return own
        weight = adaptive_weight(made.pixel_loss, fooled, made.pixels)
        return own + self.losses.adversarial_weight * weight * fooled


def tokenizer_of(model: nn.Module) -> nn.Module:
    """Returns the tokenizer in what the stage trains."""
    return model.tokenizer if isinstance(model, TokenizerWithLosses) else model


def _images(clips: Tensor) -> Tensor:
    return clips.flatten(0, 1).permute(0, 3, 1, 2)
