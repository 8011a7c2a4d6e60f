"""The video tokenizer: a visual vocabulary (ST-ViViT, arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.models.layers.cache import CacheView, DecoderCache, TemporalCache
from genie.models.layers.compile import compile_method
from genie.models.layers.patches import PatchEmbedding, sincos_positions, unpatchify
from genie.models.layers.pixels import to_uint8
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field
from genie.models.tokenizers.base import BaseConfig, Tokenizer


@dataclass(frozen=True)
class VideoTokenizerConfig(BaseConfig):
    """The space-time transformer of the paper.

    Attributes:
        backbone: "transformer".
        patch: side of a square patch in pixels; one token per patch.
        encoder: the transformer from patches to tokens, causal in time. With a window of 1 it
            encodes every frame alone, so tokens do not depend on where a clip begins. Without
            spatial attention it does not know positions either. A token then means the same
            everywhere, and with a window of 1 it changes only where the image does.
        decoder: the transformer from tokens to patches, causal in time.
        quantizer: maps features to tokens; the fields depend on its `kind`.
        l2_weight: weight of the squared error.
        l1_weight: weight of the absolute error.
        motion_weight: extra weight of pixels that changed since the frame before. Without it,
            leaving out a small moving thing costs almost nothing.
        extra_losses: losses beside the error of pixels; all of them are off by default.
    """

    backbone: Literal["transformer"] = "transformer"
    encoder: TransformerConfig = field(default_factory=TransformerConfig)
    decoder: TransformerConfig = field(default_factory=TransformerConfig)

    @property
    def layers(self) -> int:
        """Number of blocks of both transformers."""
        return self.encoder.layers + self.decoder.layers

    def build(self, frame_size: tuple[int, int]) -> VideoTokenizer:
        """Returns a new tokenizer of this configuration."""
        return VideoTokenizer(self, frame_size)


class VideoTokenizer(Tokenizer):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back, by space-time transformers.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.

    Attributes:
        grid: rows and columns of tokens.
        tokens_per_frame: S.
        vocabulary: V.
    """

    def __init__(self, config: VideoTokenizerConfig, frame_size: tuple[int, int]):
        super().__init__(config, frame_size)
        self.config = config
        encoder = config.encoder
        self.patches = PatchEmbedding(
            frame_size, config.patch, 3, encoder.width, positional=encoder.spatial_attention
        )
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

    def features(self, pixels: Float[Tensor, "b t h w 3"]) -> Float[Tensor, "b t s dim"]:
        """Returns the features that are quantized, of pixels from -1 to 1."""
        return self.to_code(self.encoder(self.patches(pixels)))

    def pixels(self, vectors: Float[Tensor, "b t s dim"]) -> Float[Tensor, "b t h w 3"]:
        """Returns the frames of codes' vectors, as pixels from -1 to 1."""
        return self._to_frames(self.decoder(self._embed(vectors)))

    @torch.no_grad()
    def prefill(self, tokens: Int[Tensor, "b t s"]) -> DecoderCache:
        """Returns the decoder's cache of clips, for `decode_step`."""
        return _without_names(self.decoder.prefill(self._embed(self.vectors(tokens))))

    @torch.no_grad()
    def decode_step(
        self, tokens: Int[Tensor, "b s"], cache: DecoderCache
    ) -> tuple[UInt8[Tensor, "b h w 3"], DecoderCache]:
        """Returns the frame that follows the cached ones, and the cache with it.

        The frame equals the last one of `decode` for all tokens, except that rounding may move a
        pixel by one grey level.
        """
        keys, values = cache.tensors
        past = TemporalCache(keys, values, cache.time)
        return self._decode_step(tokens, past, past.view())

    def _decode_step(
        self, tokens: Tensor, cache: TemporalCache, view: CacheView
    ) -> tuple[Tensor, DecoderCache]:
        features = self._embed(self.vectors(tokens[:, None]))
        features, cache = self.decoder.step(features, cache, view)
        return to_uint8(self._to_frames(features))[:, 0], _without_names(cache)

    def compile(self, *args: Any, **options: Any) -> None:
        """Passes `decode_step` through `torch.compile`, a graph for each number of players."""
        compile_method(self, "_decode_step", *args, **options)

    def _embed(self, vectors: Tensor) -> Tensor:
        return self.from_code(vectors) + self.position

    def _to_frames(self, features: Tensor) -> Tensor:
        return unpatchify(self.to_pixels(features), self.frame_size, self.config.patch)


def _without_names(cache: TemporalCache) -> DecoderCache:
    return DecoderCache((cache.keys, cache.values), cache.time)
