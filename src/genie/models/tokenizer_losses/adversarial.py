"""A discriminator of patches, and the losses of both sides (VQGAN, arXiv 2012.09841)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 2
"""Resolutions: that of the frames, and half of it."""

LARGEST_WEIGHT = 1e4
"""Bound of the adaptive weight, as in the paper."""


class PatchDiscriminator(nn.Module):
    """Says of patches of frames at two resolutions whether they are real.

    Args:
        channels: of the first convolution, a multiple of 8.
    """

    def __init__(self, channels: int = 32):
        super().__init__()
        self.scales = nn.ModuleList(_patches(channels) for _ in range(SCALES))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """Returns scores of all patches at each scale; above 0 means real."""
        scores = []
        for scale in self.scales:
            scores.append(scale(images))
            images = F.avg_pool2d(images, 2, ceil_mode=True)
        return scores

    def own_loss(
        self, real: Float[Tensor, "n 3 h w"], made: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, ""]:
        """Returns the hinge loss of the discriminator; it has no gradient for the images."""
        pairs = zip(self(real.detach()), self(made.detach()), strict=True)
        return sum_of([F.relu(1 - x).mean() + F.relu(1 + y).mean() for x, y in pairs])

    def tokenizer_loss(self, made: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """Returns the loss of the images; it has no gradient for the discriminator."""
        fixed = {name: weight.detach() for name, weight in self.named_parameters()}
        scores = torch.func.functional_call(self, fixed, (made,))
        return -sum_of([score.mean() for score in scores])

    def unused(self) -> Float[Tensor, ""]:
        """Returns 0 with a gradient of zeros, for steps in which nothing is discriminated."""
        return sum_of([0 * weight.sum() for weight in self.parameters()])


def adaptive_weight(
    error: Float[Tensor, ""], adversarial: Float[Tensor, ""], images: Float[Tensor, "*b"]
) -> Float[Tensor, ""]:
    """Returns by how much the gradient of the error is longer than that of the adversarial loss.

    The paper takes the gradients of the decoder's last layer. Here they are those of the images,
    because backbones end in different layers.

    Args:
        error: of the pixels.
        adversarial: what `tokenizer_loss` returned.
        images: that both depend on.
    """
    one, other = (
        torch.autograd.grad(loss, images, retain_graph=True)[0].norm()
        for loss in (error, adversarial)
    )
    return (one / other.clamp_min(1e-6)).clamp_max(LARGEST_WEIGHT).detach()


def sum_of(parts: list[Tensor]) -> Float[Tensor, ""]:
    """Returns the sum of scalars."""
    return torch.stack(parts).sum()


def _patches(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
        nn.GroupNorm(8, 2 * channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * channels, 1, 3, padding=1),
    )
