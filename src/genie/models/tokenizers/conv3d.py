"""Convolutions over space and causal time, with space-time attention where the grid is coarse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.layers.cache import DecoderCache, TemporalCache
from genie.models.layers.patches import pad_to_patches, sincos_positions
from genie.models.layers.pixels import to_uint8
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field
from genie.models.tokenizers.base import BaseConfig, Tokenizer
from genie.models.tokenizers.conv import check_stages, normalised, stage_widths

TIME_KERNEL = 3
"""Frames that a convolution sees, including the last one."""


@dataclass(frozen=True)
class Conv3DTokenizerConfig(BaseConfig):
    """A convolutional network over space and time, causal in time.

    Attributes:
        backbone: "conv3d".
        patch: side in pixels of the square that a token stands for, a power of two from 2. Each
            stage halves height and width, so 8 means three stages. Time keeps its resolution.
        quantizer: maps features to tokens; the fields depend on its `kind`.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before.
        extra_losses: losses beside the error of pixels; all of them are off by default.
        channels: features of the first stage, a multiple of 8. The second stage has twice as many,
            and the others four times as many.
        residual_blocks: number of residual blocks in each stage.
        attention: the transformer over the grid of tokens; encoder and decoder have one each.
    """

    backbone: Literal["conv3d"] = "conv3d"
    channels: int = 64
    residual_blocks: int = 1
    attention: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(layers=1, window=8)
    )

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be built."""
        super().__post_init__()
        check_stages(self.patch, self.channels)
        require(self.residual_blocks >= 0, "residual_blocks: must not be negative")
        require_at_most(self, channels=16_384, residual_blocks=64)

    @property
    def convolutions(self) -> int:
        """Number of convolutions over time in the encoder, and in the decoder."""
        return self.residual_blocks * len(stage_widths(self.patch, self.channels))

    @property
    def layers(self) -> int:
        """Number of residual blocks and transformer blocks of encoder and decoder."""
        return 2 * (self.convolutions + self.attention.layers)

    def build(self, frame_size: tuple[int, int]) -> Conv3DTokenizer:
        """Returns a new tokenizer of this configuration."""
        return Conv3DTokenizer(self, frame_size)


class Conv3DTokenizer(Tokenizer):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back, causal in time.

    The decoder's cache holds, for each convolution over time, its features of the last two frames,
    and the keys and values of the attention.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
    """

    def __init__(self, config: Conv3DTokenizerConfig, frame_size: tuple[int, int]):
        super().__init__(config, frame_size)
        self.config = config
        blocks, width = config.residual_blocks, config.attention.width
        widths = stage_widths(config.patch, config.channels)
        down: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
            down += [CausalResidualBlock(after) for _ in range(blocks)]
        up: list[nn.Module] = []
        for before, after in zip(reversed(widths), [*reversed(widths[:-1]), 3], strict=True):
            up += [CausalResidualBlock(before) for _ in range(blocks)]
            up += [nn.Sequential(normalised(before), depth_to_space(before, after))]
        self.down, self.up = CausalStack(down), CausalStack(up)
        self.to_encoder = nn.Linear(widths[-1], width)
        self.encoder_position = nn.Parameter(sincos_positions(self.grid, width))
        self.encoder = STTransformer(config.attention)
        self.to_code = nn.Linear(width, self.quantizer.dim)
        self.from_code = nn.Linear(self.quantizer.dim, width)
        self.decoder_position = nn.Parameter(sincos_positions(self.grid, width))
        self.decoder = STTransformer(config.attention)
        self.from_decoder = nn.Linear(width, widths[-1])

    @property
    def past(self) -> int:
        """Number of earlier frames that the tokens of a frame depend on."""
        convolved = self.config.convolutions * (TIME_KERNEL - 1)
        return convolved + receptive_field(self.config.attention)

    def features(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t s dim"]:
        """Returns the features that are quantized, of pixels from -1 to 1."""
        images = pad_to_patches(pixels, self.config.patch).permute(0, 1, 4, 2, 3)
        x, _ = self.down(images)
        x = self.to_encoder(x.flatten(3).transpose(2, 3)) + self.encoder_position
        return self.to_code(self.encoder(x))

    def pixels(self, vectors: Float[Tensor, "b t s dim"]) -> Float[Tensor, "b t h w 3"]:
        """Returns the frames of codes' vectors, as pixels from -1 to 1."""
        return self._upsampled(self.decoder(self._embed(vectors)))[0]

    @torch.no_grad()
    def prefill(self, tokens: Int[Tensor, "b t s"]) -> DecoderCache:
        """Returns the decoder's cache of clips, for `decode_step`."""
        x = self._embed(self.vectors(tokens))
        _, past = self._upsampled(self.decoder(x))
        return _cache(self.decoder.prefill(x), past)

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b s"], cache: DecoderCache
    ) -> tuple[UInt8[Tensor, "b h w 3"], DecoderCache]:
        """Returns the frame that follows the cached ones, and the cache with it.

        The frame equals the last one of `decode` for all tokens, except that rounding may move a
        pixel by one grey level.
        """
        keys, values, *past = cache.tensors
        attended = TemporalCache(keys, values, cache.time)
        x, attended = self.decoder.step(self._embed(self.vectors(tokens[:, None])), attended)
        frames, kept = self._upsampled(x, [each.movedim(2, 0) for each in past])
        return to_uint8(frames)[:, 0], _cache(attended, kept)

    def _embed(self, vectors: Tensor) -> Tensor:
        return self.from_code(vectors) + self.decoder_position

    def _upsampled(self, x: Tensor, past: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        """Pixels of the decoder's features, and what its convolutions keep of these frames."""
        height, width = self.frame_size
        x = self.from_decoder(x).transpose(2, 3).unflatten(3, self.grid)
        images, kept = self.up(x, past)
        return images.permute(0, 1, 3, 4, 2)[:, :, :height, :width], kept


class CausalResidualBlock(nn.Module):
    """Adds a convolution over space and past frames, and one of each position, to features.

    Each frame is normalised alone, so that later frames have no influence.

    Args:
        width: channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.before, self.after = normalised(width), normalised(width)
        self.mix = nn.Conv3d(width, width, (TIME_KERNEL, 3, 3), padding=(0, 1, 1))
        self.out = nn.Conv2d(width, width, 1)

    def forward(
        self, x: Float[Tensor, "b t c h w"], past: Float[Tensor, "b k c h w"] | None = None
    ) -> tuple[Float[Tensor, "b t c h w"], Float[Tensor, "b k c h w"]]:
        """Runs frames after those before them.

        Args:
            x: features of the frames.
            past: what this block kept of the frames before; left out if there are none.

        Returns:
            Features, and what to keep for the frame after them.
        """
        y = each_frame(self.before, x)
        if past is None:
            past = y.new_zeros(len(y), TIME_KERNEL - 1, *y.shape[2:])
        y = torch.cat([past, y], dim=1)
        mixed = self.mix(y.transpose(1, 2)).transpose(1, 2)
        mixed = each_frame(self.out, each_frame(self.after, mixed))
        return x + mixed, y[:, 1 - TIME_KERNEL :]


class CausalStack(nn.Module):
    """Layers one after the other: causal blocks, and layers that see each frame alone.

    Args:
        layers: modules of images (N, C, H, W), or causal blocks.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self, x: Float[Tensor, "b t c h w"], past: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "b t c2 h2 w2"], list[Tensor]]:
        """Runs frames after those before them.

        Args:
            x: features of the frames.
            past: what each causal block kept of the frames before; empty if there are none.

        Returns:
            Features, and what each causal block keeps for the frame after them.
        """
        kept: list[Tensor] = []
        for layer in self.layers:
            if isinstance(layer, CausalResidualBlock):
                x, new = layer(x, past[len(kept)] if past else None)
                kept.append(new)
            else:
                x = each_frame(layer, x)
        return x, kept


def depth_to_space(before: int, after: int) -> nn.Sequential:
    """Returns a layer that doubles height and width: each position becomes four."""
    return nn.Sequential(nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2))


def each_frame(layer: nn.Module, x: Float[Tensor, "b t *image"]) -> Float[Tensor, "b t *other"]:
    """Returns what a layer of images makes of each frame."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _cache(attended: TemporalCache, past: Sequence[Tensor]) -> DecoderCache:
    # Copies, because what is kept is a view of the features of whole clips.
    convolved = (each.movedim(0, 2).clone() for each in past)
    return DecoderCache((attended.keys, attended.values, *convolved), attended.time)
