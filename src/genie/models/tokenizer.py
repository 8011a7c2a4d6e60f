"""The video tokenizer: a visual vocabulary (ST-ViViT, arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.backbone import TokenizerBackbone
from genie.models.layers.cache import CacheView, TemporalCache
from genie.models.layers.compile import compile_method
from genie.models.layers.kmeans import count
from genie.models.layers.patches import PatchEmbedding, sincos_positions, unpatchify
from genie.models.layers.pixels import motion_mask, psnr, to_float, to_uint8
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.registry import QuantizerConfig
from genie.models.quantizers.vq import VQConfig


@dataclass(frozen=True)
class VideoTokenizerConfig:
    """Size and losses of the tokenizer.

    Attributes:
        patch: side of a square patch in pixels; one token per patch.
        encoder, decoder: the two transformers, both causal in time. An encoder with a window of 1
            encodes every frame alone, so tokens do not depend on where a clip begins. Without
            spatial attention it does not know positions either. A token then means the same
            everywhere, and with a window of 1 it changes only where the image does.
        quantizer: maps features to tokens; the fields depend on its `kind`.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before. Without it,
            leaving out a small moving thing costs almost nothing.
    """

    patch: int = 8
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)
    quantizer: QuantizerConfig = field(default_factory=VQConfig)
    l2_weight: float = 1.0
    l1_weight: float = 0.1
    motion_weight: float = 2.0

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.patch >= 1, "patch: must be at least 1")
        require_at_most(self, patch=1024)
        require(
            self.l2_weight > 0 or self.l1_weight > 0,
            "l2_weight: both pixel losses are switched off",
        )
        require(self.motion_weight >= 0, "motion_weight: must not be negative")


class VideoTokenizer(TokenizerBackbone):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.

    Attributes:
        grid: rows and columns of tokens.
        tokens_per_frame: S.
        vocabulary: V.
    """

    def __init__(self, config: VideoTokenizerConfig, frame_size: tuple[int, int]):
        super().__init__()
        self.config, self.frame_size = config, frame_size
        self.quantizer = config.quantizer.build()
        encoder = config.encoder
        self.patches = PatchEmbedding(
            frame_size, config.patch, 3, encoder.width, positional=encoder.spatial_attention
        )
        self.grid = self.patches.grid
        self.tokens_per_frame = self.grid[0] * self.grid[1]
        self.vocabulary = self.quantizer.size
        self.encoder = STTransformer(config.encoder)
        self.to_code = nn.Linear(config.encoder.width, self.quantizer.dim)
        self.from_code = nn.Linear(self.quantizer.dim, config.decoder.width)
        self.position = nn.Parameter(sincos_positions(self.grid, config.decoder.width))
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(config.decoder.width, config.patch**2 * 3)

    @property
    def past(self) -> int:
        """Number of earlier frames that the tokens of a frame depend on."""
        return receptive_field(self.config.encoder)

    @property
    def can_collapse(self) -> bool:
        """True if training can end with most of the vocabulary unused."""
        return self.config.quantizer.can_collapse

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t s"]:
        """Returns the tokens of frames."""
        return self.quantizer.encode(self._features(to_float(frames, self.to_code.weight.dtype)))

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "b t s"]) -> UInt8[Tensor, "b t h w 3"]:
        """Returns the frames of tokens, each from its tokens and those of the frames before it."""
        features = self.decoder(self._embed(self.quantizer.decode(tokens)))
        return to_uint8(self._pixels(features))

    @torch.no_grad()
    def prefill(self, tokens: Int[Tensor, "b t s"]) -> TemporalCache:
        """Returns the decoder's cache of clips, for `decode_step`."""
        return self.decoder.prefill(self._embed(self.quantizer.decode(tokens)))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b s"], cache: TemporalCache
    ) -> tuple[UInt8[Tensor, "b h w 3"], TemporalCache]:
        """Returns the frame that follows the cached ones, and the cache with it.

        The frame equals the last one of `decode` for all tokens, except that rounding may move a
        pixel by one grey level.
        """
        return self._decode_step(tokens, cache, cache.view())

    def _decode_step(
        self, tokens: Tensor, cache: TemporalCache, view: CacheView
    ) -> tuple[Tensor, TemporalCache]:
        features = self._embed(self.quantizer.decode(tokens[:, None]))
        features, cache = self.decoder.step(features, cache, view)
        return to_uint8(self._pixels(features))[:, 0], cache

    def compile(self, *args: Any, **options: Any) -> None:
        """Passes `decode_step` through `torch.compile`, a graph for each number of players."""
        compile_method(self, "_decode_step", *args, **options)

    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the reconstruction loss plus the quantizer's loss, and figures to log.

        Args:
            frames: clips.
            progress: share of the training budget that is spent; not used here.
        """
        target = to_float(frames, self.to_code.weight.dtype)
        quantized = self.quantizer(self._features(target))
        error = self._pixels(self.decoder(self._embed(quantized.vectors))) - target
        weight = 1 + self.config.motion_weight * motion_mask(frames)
        squared = (weight * error.square()).mean() / weight.mean()
        absolute = (weight * error.abs()).mean() / weight.mean()
        loss = self.config.l2_weight * squared + self.config.l1_weight * absolute + quantized.loss
        logs = {
            "psnr": psnr(error.detach().square().mean(), peak=2.0),
            "perplexity": perplexity(count(quantized.codes, self.vocabulary)),
            "quantizer_loss": quantized.loss.detach(),
        }
        return loss, logs

    def _features(self, pixels: Tensor) -> Tensor:
        return self.to_code(self.encoder(self.patches(pixels)))

    def _embed(self, vectors: Tensor) -> Tensor:
        return self.from_code(vectors.to(self.from_code.weight.dtype)) + self.position

    def _pixels(self, features: Tensor) -> Tensor:
        return unpatchify(self.to_pixels(features), self.frame_size, self.config.patch)
