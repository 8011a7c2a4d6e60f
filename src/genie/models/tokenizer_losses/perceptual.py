"""A loss on features of frames instead of their pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 2402
"""Of the weights: the network is the same everywhere."""


class RandomFeatures(nn.Module):
    """The distance of images in features of fixed random convolutions, "random-convolutions-1".

    Features of networks that were never trained tell textures apart (He et al. 2016, arXiv
    1606.04801). So the loss needs no weights from elsewhere. The first filters have a mean of zero:
    they see edges and no brightness. Features are normalised at each position and compared by their
    squared error, as in LPIPS (Zhang et al. 2018, arXiv 1801.03924).

    Args:
        channels: of each of the layers; every layer halves height and width.
    """

    name = "random-convolutions-1"

    def __init__(self, channels: tuple[int, ...] = (32, 64, 64)):
        super().__init__()
        generator, before, self.depth = torch.Generator().manual_seed(SEED), 3, len(channels)
        for number, width in enumerate(channels):
            weight = torch.randn(width, before, 3, 3, generator=generator)
            if number == 0:
                weight = weight - weight.mean(dim=(2, 3), keepdim=True)
            weight = weight / (9 * before) ** 0.5
            self.register_buffer(f"weight{number}", weight, persistent=False)
            before = width

    def forward(
        self, one: Float[Tensor, "n 3 h w"], other: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, ""]:
        """Returns the mean distance of images with pixels from -1 to 1."""
        pairs = zip(self._features(one), self._features(other), strict=True)
        return torch.stack([(x - y).square().sum(dim=1).mean() for x, y in pairs]).mean()

    def _features(self, x: Tensor) -> Iterator[Tensor]:
        for number in range(self.depth):
            weight = getattr(self, f"weight{number}").to(x.dtype)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight)
            x = F.leaky_relu(x, 0.2)
            yield F.normalize(x, dim=1, eps=1e-3)
            if min(x.shape[2:]) > 1:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
