"""A convolutional VQ-VAE of single frames (van den Oord et al. 2017, arXiv 1711.00937)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.layers.patches import pad_to_patches
from genie.models.tokenizers.base import BaseConfig, Tokenizer

NORM_GROUPS = 8
"""Groups of channels that are normalised together."""

MOST_GROWTH = 4
"""How many times as wide as the first stage the later ones are at most."""


@dataclass(frozen=True)
class ConvTokenizerConfig(BaseConfig):
    """A convolutional network that sees each frame alone.

    Attributes:
        backbone: "conv".
        patch: side in pixels of the square that a token stands for, a power of two from 2. Each
            stage halves height and width, so 8 means three stages.
        quantizer: maps features to tokens; the fields depend on its `kind`.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before.
        extra_losses: losses beside the error of pixels; all of them are off by default.
        channels: features of the first stage, a multiple of 8. The second stage has twice as many,
            and the others four times as many.
        residual_blocks: number of residual blocks in each stage.
    """

    backbone: Literal["conv"] = "conv"
    channels: int = 64
    residual_blocks: int = 2

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be built."""
        super().__post_init__()
        check_stages(self.patch, self.channels)
        require(self.residual_blocks >= 0, "residual_blocks: must not be negative")
        require_at_most(self, channels=16_384, residual_blocks=64)

    @property
    def layers(self) -> int:
        """Number of residual blocks of encoder and decoder."""
        return 2 * self.residual_blocks * len(stage_widths(self.patch, self.channels))

    def build(self, frame_size: tuple[int, int]) -> ConvTokenizer:
        """Returns a new tokenizer of this configuration."""
        return ConvTokenizer(self, frame_size)


def check_stages(patch: int, channels: int) -> None:
    """Refuses a patch that stages cannot make, and channels that cannot be normalised.

    Raises:
        UserError: the message names the field.
    """
    power = patch >= 2 and patch & (patch - 1) == 0
    require(power, f"patch: each stage halves a frame, so take 2, 4, 8, 16 or so; got {patch}")
    grouped = channels >= 1 and channels % NORM_GROUPS == 0
    require(grouped, f"channels: must be a multiple of {NORM_GROUPS}, got {channels}")


def stage_widths(patch: int, channels: int) -> list[int]:
    """Returns the channels of each stage, from the one with the most pixels on."""
    return [channels * min(2**stage, MOST_GROWTH) for stage in range(patch.bit_length() - 1)]


class ConvTokenizer(Tokenizer):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back, each frame alone.

    Frames whose sides are not multiples of the patch are padded by repeating their edge.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
    """

    def __init__(self, config: ConvTokenizerConfig, frame_size: tuple[int, int]):
        super().__init__(config, frame_size)
        widths = stage_widths(config.patch, config.channels)
        down: list[nn.Module] = []
        for before, width in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, width, 4, stride=2, padding=1)]
            down += [ResidualBlock(width) for _ in range(config.residual_blocks)]
        up: list[nn.Module] = [nn.Conv2d(self.quantizer.dim, widths[-1], 3, padding=1)]
        for width, after in zip(reversed(widths), [*reversed(widths[:-1]), 3], strict=True):
            up += [ResidualBlock(width) for _ in range(config.residual_blocks)]
            up += [normalised(width), nn.ConvTranspose2d(width, after, 4, stride=2, padding=1)]
        to_code = nn.Conv2d(widths[-1], self.quantizer.dim, 1)
        self.encoder = nn.Sequential(*down, normalised(widths[-1]), to_code)
        self.decoder = nn.Sequential(*up)

    @property
    def past(self) -> int:
        """Number of earlier frames that the tokens of a frame depend on: none."""
        return 0

    def features(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t s dim"]:
        """Returns the features that are quantized, of pixels from -1 to 1."""
        images = pad_to_patches(pixels, self.config.patch).flatten(0, 1).permute(0, 3, 1, 2)
        x = self.encoder(images).flatten(2).transpose(1, 2)
        return x.unflatten(0, pixels.shape[:2])

    def pixels(self, vectors: Float[Tensor, "b t s dim"]) -> Float[Tensor, "b t h w 3"]:
        """Returns the frames of codes' vectors, as pixels from -1 to 1."""
        height, width = self.frame_size
        x = vectors.flatten(0, 1).transpose(1, 2).unflatten(2, self.grid)
        images = self.decoder(x)[:, :, :height, :width].permute(0, 2, 3, 1)
        return images.unflatten(0, vectors.shape[:2])


class ResidualBlock(nn.Module):
    """Adds a 3x3 and a 1x1 convolution of normalised features.

    Args:
        width: channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            normalised(width),
            nn.Conv2d(width, width, 3, padding=1),
            normalised(width),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Returns features of the same shape."""
        return x + self.layers(x)


def normalised(width: int) -> nn.Sequential:
    """Returns a normalisation of a frame's channels in groups, and the activation after it."""
    return nn.Sequential(nn.GroupNorm(NORM_GROUPS, width), nn.SiLU())
