"""Coarse tokens, and fine tokens given the coarse ones (VQ-VAE-2, arXiv 1906.00446)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.layers.patches import grid_size, pad_to_patches
from genie.models.layers.pixels import to_float
from genie.models.quantizers.base import Quantized
from genie.models.tokenizers.base import BaseConfig, Tokenizer
from genie.models.tokenizers.conv import ResidualBlock, check_stages, normalised, stage_widths

BLOCK = 4
"""Sides are padded to so many fine tokens, so that coarse tokens fill rows of the grid."""


@dataclass(frozen=True)
class HierarchicalTokenizerConfig(BaseConfig):
    """A convolutional network of single frames with tokens at two resolutions.

    After 300 steps it is below the default (`docs/experiments/2026-11-28-variants.md`).

    Attributes:
        backbone: "hierarchical".
        patch: side in pixels of the square that a fine token stands for, a power of two from 2. The
            square of a coarse token has twice the side.
        quantizer: maps features to tokens; the fields depend on its `kind`. Both resolutions have
            one of their own.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before.
        extra_losses: losses beside the error of pixels; all of them are off by default.
        channels: features of the first stage, a multiple of 8. The second stage has twice as many,
            and the others four times as many.
        residual_blocks: number of residual blocks in each stage.
    """

    backbone: Literal["hierarchical"] = "hierarchical"
    patch: int = 4
    channels: int = 64
    residual_blocks: int = 1

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be built."""
        super().__post_init__()
        check_stages(self.patch, self.channels)
        require(self.residual_blocks >= 0, "residual_blocks: must not be negative")
        require_at_most(self, channels=16_384, residual_blocks=64)

    @property
    def layers(self) -> int:
        """Number of convolutions that halve or double a side."""
        return 2 * len(stage_widths(self.patch, self.channels)) + 3

    def build(self, frame_size: tuple[int, int]) -> HierarchicalTokenizer:
        """Returns a new tokenizer of this configuration."""
        return HierarchicalTokenizer(self, frame_size)


class HierarchicalTokenizer(Tokenizer):
    """Frames to coarse and fine tokens and back, each frame alone.

    The tokens of a frame are the coarse ones, row by row, and then the fine ones. Token numbers
    mean different codes at the two resolutions. The dynamics draw the coarse ones first
    (`models/coarse_first.py`).

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
    """

    def __init__(self, config: HierarchicalTokenizerConfig, frame_size: tuple[int, int]):
        super().__init__(config, frame_size)
        rows, columns = (BLOCK * side for side in grid_size(frame_size, BLOCK * config.patch))
        self.fine_grid, self.coarse_grid = (rows, columns), (rows // 2, columns // 2)
        self.coarse_tokens = rows * columns // 4
        self.grid = (rows + rows // 4, columns)
        self.tokens_per_frame = self.grid[0] * self.grid[1]
        self.coarse_quantizer = config.quantizer.build()
        widths, dim = stage_widths(config.patch, config.channels), self.quantizer.dim
        wide, blocks = widths[-1], config.residual_blocks
        down: list[nn.Module] = []
        for before, width in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, width, 4, stride=2, padding=1)]
            down += [ResidualBlock(width) for _ in range(blocks)]
        up: list[nn.Module] = [nn.Conv2d(wide + dim, wide, 3, padding=1)]
        for width, after in zip(reversed(widths), [*reversed(widths[:-1]), 3], strict=True):
            up += [ResidualBlock(width) for _ in range(blocks)]
            up += [normalised(width), nn.ConvTranspose2d(width, after, 4, stride=2, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.to_coarse = nn.Sequential(
            normalised(wide),
            nn.Conv2d(wide, wide, 4, stride=2, padding=1),
            normalised(wide),
            nn.Conv2d(wide, dim, 1),
        )
        self.given_coarse = nn.ConvTranspose2d(dim, wide, 4, stride=2, padding=1)
        self.to_fine = nn.Sequential(normalised(2 * wide), nn.Conv2d(2 * wide, dim, 1))
        self.from_coarse = nn.ConvTranspose2d(dim, wide, 4, stride=2, padding=1)

    @property
    def past(self) -> int:
        """Number of earlier frames that the tokens of a frame depend on: none."""
        return 0

    def features(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t s dim"]:
        """Returns the features that are quantized; the fine ones are given the coarse codes."""
        x = self._encoded(pixels)
        coarse = self._coarse(x)
        vectors = self.coarse_quantizer.decode(self.coarse_quantizer.encode(coarse)).to(x.dtype)
        return self._per_frame(torch.cat([coarse, self._fine(x, vectors)], dim=1), pixels)

    def pixels(self, vectors: Float[Tensor, "b t s dim"]) -> Float[Tensor, "b t h w 3"]:
        """Returns the frames of codes' vectors, as pixels from -1 to 1."""
        height, width = self.frame_size
        flat = vectors.flatten(0, 1)
        coarse = _images(flat[:, : self.coarse_tokens], self.coarse_grid)
        fine = _images(flat[:, self.coarse_tokens :], self.fine_grid)
        images = self.decoder(torch.cat([self.from_coarse(coarse), fine], dim=1))
        images = images[:, :, :height, :width].permute(0, 2, 3, 1)
        return images.unflatten(0, vectors.shape[:2])

    def vectors(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the codes' vectors of the tokens of whole frames (..., S)."""
        coarse, fine = tokens[..., : self.coarse_tokens], tokens[..., self.coarse_tokens :]
        parts = self.coarse_quantizer.decode(coarse), self.quantizer.decode(fine)
        return torch.cat(parts, dim=-2).to(self.dtype)

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t s"]:
        """Returns the tokens of frames."""
        features = self.features(to_float(frames, self.dtype))
        coarse, fine = features[:, :, : self.coarse_tokens], features[:, :, self.coarse_tokens :]
        return torch.cat([self.coarse_quantizer.encode(coarse), self.quantizer.encode(fine)], dim=2)

    def quantized(self, pixels: Float[Tensor, "b t h w 3"]) -> Quantized:
        """Quantizes pixels from -1 to 1 at both resolutions; the loss is the mean of both."""
        x = self._encoded(pixels)
        coarse = self.coarse_quantizer(self._coarse(x))
        fine = self.quantizer(self._fine(x, coarse.vectors.to(x.dtype)))
        return Quantized(
            self._per_frame(torch.cat([coarse.vectors, fine.vectors], dim=1), pixels),
            self._per_frame(torch.cat([coarse.codes, fine.codes], dim=1), pixels),
            (coarse.loss + fine.loss) / 2,
        )

    def _encoded(self, pixels: Tensor) -> Tensor:
        padded = pad_to_patches(pixels, BLOCK * self.config.patch)
        return self.encoder(padded.flatten(0, 1).permute(0, 3, 1, 2))

    def _coarse(self, x: Tensor) -> Tensor:
        return self.to_coarse(x).flatten(2).transpose(1, 2)

    def _fine(self, x: Tensor, coarse: Tensor) -> Tensor:
        given = self.given_coarse(_images(coarse, self.coarse_grid))
        return self.to_fine(torch.cat([x, given], dim=1)).flatten(2).transpose(1, 2)

    def _per_frame(self, flat: Tensor, pixels: Tensor) -> Tensor:
        return flat.unflatten(0, pixels.shape[:2])


def _images(vectors: Tensor, grid: tuple[int, int]) -> Tensor:
    return vectors.transpose(1, 2).unflatten(2, grid)
