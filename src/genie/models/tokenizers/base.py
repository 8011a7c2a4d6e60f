"""What all tokenizers with a quantizer have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.core.config import require, require_at_most
from genie.models.backbone import TokenizerBackbone
from genie.models.layers.cache import DecoderCache
from genie.models.layers.distributed import mean_over_ranks
from genie.models.layers.kmeans import count
from genie.models.layers.patches import grid_size
from genie.models.layers.pixels import motion_mask, psnr, to_float, to_uint8
from genie.models.quantizers.base import Quantized, perplexity
from genie.models.quantizers.registry import QuantizerConfig
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizer_losses.config import ExtraLosses


@dataclass(frozen=True)
class BaseConfig:
    """The part of a tokenizer's configuration that all backbones have.

    A backbone inherits from it, gives `backbone` its name and adds its own fields.

    Attributes:
        backbone: name of the network.
        patch: side in pixels of the square that a token stands for.
        quantizer: maps features to tokens; the fields depend on its `kind`.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before. Without it,
            leaving out a small moving thing costs almost nothing.
        extra_losses: losses beside the error of pixels; all of them are off by default.
    """

    backbone: str
    patch: int = 8
    quantizer: QuantizerConfig = field(default_factory=VQConfig)
    l2_weight: float = 1.0
    l1_weight: float = 0.1
    motion_weight: float = 2.0
    extra_losses: ExtraLosses = field(default_factory=ExtraLosses)

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.patch >= 1, "patch: must be at least 1")
        require_at_most(self, patch=1024)
        require(
            self.l2_weight > 0 or self.l1_weight > 0,
            "l2_weight: both pixel losses are switched off",
        )
        require(self.motion_weight >= 0, "motion_weight: must not be negative")

    @property
    def layers(self) -> int:
        """Number of blocks of layers, each with a tensor of its own or more."""
        raise NotImplementedError

    def build(self, frame_size: tuple[int, int]) -> Tokenizer:
        """Returns a new tokenizer of this configuration.

        Args:
            frame_size: height and width in pixels.
        """
        raise NotImplementedError


class Reconstruction(NamedTuple):
    """What a tokenizer makes of clips in training.

    Attributes:
        target: (B, T, H, W, 3), the pixels of the clips from -1 to 1.
        pixels: (B, T, H, W, 3), those that were decoded.
        pixel_loss: weighted error between them.
        quantizer_loss: loss of the quantizer.
        logs: figures to log.
    """

    target: Tensor
    pixels: Tensor
    pixel_loss: Tensor
    quantizer_loss: Tensor
    logs: dict[str, Tensor]


class Tokenizer(TokenizerBackbone):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back, with a quantizer between.

    A backbone adds the two networks around the quantizer. If its decoder sees past frames, it
    overrides `prefill` and `decode_step`.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.

    Attributes:
        grid: rows and columns of tokens.
        tokens_per_frame: S.
        vocabulary: V.
    """

    def __init__(self, config: BaseConfig, frame_size: tuple[int, int]):
        super().__init__()
        self.config, self.frame_size = config, frame_size
        self.quantizer = config.quantizer.build()
        self.grid = grid_size(frame_size, config.patch)
        self.tokens_per_frame = self.grid[0] * self.grid[1]
        self.vocabulary = self.quantizer.size

    @property
    def can_collapse(self) -> bool:
        """True if training can end with most of the vocabulary unused."""
        return self.config.quantizer.can_collapse

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    @abstractmethod
    def features(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t s dim"]:
        """Returns the features that are quantized, of pixels from -1 to 1."""

    @abstractmethod
    def pixels(self, vectors: Float[Tensor, "b t s dim"]) -> Float[Tensor, "b t h w 3"]:
        """Returns the frames of codes' vectors, as pixels from -1 to 1."""

    def quantized(self, pixels: Float[Tensor, "b t h w 3"]) -> Quantized:
        """Quantizes pixels from -1 to 1. In training mode the quantizer learns."""
        return self.quantizer(self.features(pixels))

    def vectors(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the codes' vectors of tokens."""
        return self.quantizer.decode(tokens).to(self.dtype)

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t s"]:
        """Returns the tokens of frames."""
        return self.quantizer.encode(self.features(to_float(frames, self.dtype)))

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "b t s"]) -> UInt8[Tensor, "b t h w 3"]:
        """Returns the frames of tokens, each from its tokens and those of the frames before it."""
        return to_uint8(self.pixels(self.vectors(tokens)))

    @torch.no_grad()
    def prefill(self, tokens: Int[Tensor, "b t s"]) -> DecoderCache:
        """Returns what `decode_step` must know: nothing, unless a backbone overrides both."""
        return DecoderCache((), torch.full_like(tokens[:, 0, 0], tokens.shape[1]))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b s"], cache: DecoderCache
    ) -> tuple[UInt8[Tensor, "b h w 3"], DecoderCache]:
        """Returns the frame that follows the cached ones, and the cache with it."""
        return self.decode(tokens[:, None])[:, 0], DecoderCache((), cache.time + 1)

    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the reconstruction loss plus the quantizer's loss, and figures to log.

        Args:
            frames: clips.
            progress: share of the training budget that is spent; not used here.
        """
        made = self.reconstruction(frames)
        return made.pixel_loss + made.quantizer_loss, made.logs

    def reconstruction(self, frames: UInt8[Tensor, "b t h w 3"]) -> Reconstruction:
        """Encodes and decodes clips, with their losses. In training mode the quantizer learns."""
        target = to_float(frames, self.dtype)
        quantized = self.quantized(target)
        pixels = self.pixels(quantized.vectors.to(self.dtype))
        error = pixels - target
        weight = 1 + self.config.motion_weight * motion_mask(frames)
        mean_weight = weight.mean()
        if self.training:
            mean_over_ranks(mean_weight)
        squared = (weight * error.square()).mean() / mean_weight
        absolute = (weight * error.abs()).mean() / mean_weight
        loss = self.config.l2_weight * squared + self.config.l1_weight * absolute
        logs = {
            "psnr": psnr(error.detach().square().mean(), peak=2.0),
            "perplexity": perplexity(count(quantized.codes, self.vocabulary)),
            "quantizer_loss": quantized.loss.detach(),
        }
        return Reconstruction(target, pixels, loss, quantized.loss, logs)
