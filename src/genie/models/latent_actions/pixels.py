"""The latent action model of the paper: two transformers over all frames so far.

The encoder sees all frames up to the next one. The decoder draws the next one from the frames
before it and their actions (Bruce et al. 2024, arXiv 2402.15391, section 2.1). The paper leaves two
things open. How do the patches of a frame become one latent? Here each frame has one more token for
it. How does the decoder get a latent? Here it is added to each patch of the frame before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from genie.core.config import require
from genie.models.latent_actions.base import BaseConfig, LatentActionModel
from genie.models.layers.patches import PatchEmbedding, unpatchify
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field


@dataclass(frozen=True)
class PixelActionConfig(BaseConfig):
    """The paper's model, its size and losses.

    Attributes:
        kind: "pixels".
        downsample: frames are averaged over squares of this side first; 1 in the paper.
        patch: side of a square patch in pixels.
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
        encoder: sees the frames up to the one that an action led to.
        decoder: sees the frames before it and their actions.
    """

    kind: Literal["pixels"] = "pixels"
    continuous_fraction: float = 0.0
    motion_weight: float = 0.0
    encoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=16))
    decoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=16))

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(
            self.encoder.spatial_attention,
            "encoder.spatial_attention: the latent of a frame reads its patches by it",
        )

    @property
    def layers(self) -> int:
        """Number of blocks of both transformers."""
        return self.encoder.layers + self.decoder.layers

    def build(self, frame_size: tuple[int, int], num_actions: int) -> PixelActionModel:
        """Returns a new model of this configuration."""
        return PixelActionModel(self, frame_size, num_actions)


class PixelActionModel(LatentActionModel):
    """Infers latent actions from raw pixels, and draws the next frame from them.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.
    """

    config: PixelActionConfig

    def __init__(self, config: PixelActionConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__(config, frame_size, num_actions)
        self.config = config
        wide, narrow = config.encoder.width, config.decoder.width
        self.encoder_patches = PatchEmbedding(self.frame_size, config.patch, 3, wide)
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
        return max(1, receptive_field(self.config.encoder))

    def _latents(self, frames: Tensor, learn: bool = False) -> Tensor:
        x = self.encoder_patches(self._pixels(frames))
        token = self.action_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        return self.to_latent(self.encoder(torch.cat([token, x], dim=2))[:, 1:, 0])

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        x = self.decoder_patches(pixels[:, :-1]) + self.from_latent(latents)[:, :, None]
        return unpatchify(self.to_pixels(self.decoder(x)), self.frame_size, self.config.patch)
