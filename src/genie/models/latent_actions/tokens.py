"""Latent actions from tokens instead of pixels, an ablation of the paper (arXiv 2402.15391)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genie.core.config import UserError, require
from genie.models.backbone import TokenizerBackbone
from genie.models.latent_actions.base import BaseConfig, LatentActionModel
from genie.models.layers.patches import PatchEmbedding, sincos_positions, unpatchify
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field


@dataclass(frozen=True)
class TokenActionConfig(BaseConfig):
    """The model that sees tokens, its size and losses.

    Attributes:
        kind: "tokens".
        downsample: must be 1, because the tokenizer encodes whole frames.
        patch: side of a square patch in pixels, of the decoder.
        dim: features of a latent action.
        continuous_fraction: share of the training budget in which the latent is noisy but not
            quantized, and the encoder learns; 0 in the paper.
        latent_noise: standard deviation of that noise. The latent has unit variance.
        motion_weight: extra weight of pixels that changed; 0 in the paper.
        commitment_weight: weight of the loss that keeps latents near their code.
        ema_decay: decay of the moving average that is the codebook, per step.
        embedding_noise: standard deviation of noise on the code's vector in training.
        entropy_weight: weight of the loss that spreads use over the codes. This and the next two
            are in `models/latent_actions/regularizers.py`.
        smoothness_weight: weight of the loss that keeps latents of neighbouring steps close.
        consistency_weight: weight of the loss by which like changes of pixels get like latents.
        lfq_codebooks: number of codebooks for codes by LFQ; 0 for one codebook of vectors
            (`models/latent_actions/lookup_free.py`).
        difference: the encoder sees how the embedding of each token differs from that of the frame
            before, in place of the embedding.
        encoder: sees the tokens of the frames up to the one that an action led to.
        decoder: sees the pixels of the frames before it and their actions.
    """

    kind: Literal["tokens"] = "tokens"
    continuous_fraction: float = 0.0
    motion_weight: float = 0.0
    difference: bool = False
    encoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=16))
    decoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=16))

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(self.downsample == 1, "downsample: the tokenizer encodes whole frames; take 1")
        require(
            self.encoder.spatial_attention,
            "encoder.spatial_attention: the latent of a frame reads its tokens by it",
        )

    @property
    def layers(self) -> int:
        """Number of blocks of both transformers."""
        return self.encoder.layers + self.decoder.layers

    @property
    def from_tokens(self) -> bool:
        """Whether the tokenizer has to be trained before."""
        return True

    def build(self, frame_size: tuple[int, int], num_actions: int) -> LatentActionModel:
        """Refuses: without a tokenizer there are no tokens."""
        raise UserError("actions.kind: 'tokens' needs a tokenizer, so make a whole world of it")

    def build_for(
        self, tokenizer: TokenizerBackbone, frame_size: tuple[int, int], num_actions: int
    ) -> TokenActionModel:
        """Returns a new model of this configuration."""
        return TokenActionModel(self, tokenizer, frame_size, num_actions)


class TokenActionModel(LatentActionModel):
    """Infers latent actions from tokens. The decoder draws the next frame in pixels.

    The paper found actions from tokens less consistent than those from pixels: ΔPSNR 1.33 instead
    of 1.91 on platformers. It decodes to tokens; here the decoder is that of `pixels`, so that the
    figures of both can be compared. After 300 steps ours know less of the
    true actions than those from pixels, too (`docs/experiments/2026-11-28-variants.md`).

    The tokenizer belongs to the world. It is no part of this model: it is neither saved nor trained
    with it, but it goes where the model goes.

    Args:
        config: sizes and losses.
        tokenizer: of the world.
        frame_size: height and width in pixels.
        num_actions: A.
    """

    config: TokenActionConfig

    def __init__(
        self,
        config: TokenActionConfig,
        tokenizer: TokenizerBackbone,
        frame_size: tuple[int, int],
        num_actions: int,
    ):
        super().__init__(config, frame_size, num_actions)
        self.config, self.reads = config, (tokenizer,)
        wide, narrow = config.encoder.width, config.decoder.width
        self.token = nn.Embedding(tokenizer.vocabulary, wide)
        self.position = nn.Parameter(sincos_positions(tokenizer.grid, wide))
        self.action_token = nn.Parameter(0.02 * torch.randn(wide))
        self.encoder = STTransformer(config.encoder)
        self.to_latent = nn.Linear(wide, config.dim)
        self._add_codebook()
        self.decoder_patches = PatchEmbedding(self.frame_size, config.patch, 3, narrow)
        self.from_latent = nn.Linear(config.dim, narrow)
        self.decoder = STTransformer(config.decoder)
        self.to_pixels = nn.Linear(narrow, config.patch**2 * 3)

    @property
    def past(self) -> int:
        """Number of earlier frames that the latent of a frame depends on."""
        seen = receptive_field(self.config.encoder) + self.config.difference
        return max(1, seen + self.reads[0].past)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.reads[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _latents(self, frames: Tensor, learn: bool = False) -> Tensor:
        x = self.token(self.reads[0].encode(frames))
        if self.config.difference:
            x = torch.cat([torch.zeros_like(x[:, :1]), x.diff(dim=1)], dim=1)
        x = x + self.position
        token = self.action_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        return self.to_latent(self.encoder(torch.cat([token, x], dim=2))[:, 1:, 0])

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        x = self.decoder_patches(pixels[:, :-1]) + self.from_latent(latents)[:, :, None]
        return unpatchify(self.to_pixels(self.decoder(x)), self.frame_size, self.config.patch)
