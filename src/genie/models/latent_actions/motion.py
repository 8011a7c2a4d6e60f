"""Latent actions from patches that change, with a decoder that moves pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.latent_actions.base import BaseConfig, LatentActionModel
from genie.models.layers.distributed import count_over_ranks, mean_with_gradients
from genie.models.layers.patches import PatchEmbedding, patchify
from genie.models.layers.pixels import motion_mask
from genie.models.layers.transformer import STTransformer, TransformerConfig, receptive_field
from genie.models.motion_decoder import MotionDecoder

STATISTICS_MOMENTUM = 0.05
EPSILON = 1e-5
"""Weight of the newest batch in the moving mean and variance of the latents."""


@dataclass(frozen=True)
class LatentActionConfig(BaseConfig):
    """The model whose decoder moves pixels, its size and losses.

    Attributes:
        kind: "motion".
        downsample: frames are averaged over squares of this side first, because telling actions
            apart needs little detail. All lengths below are in pixels after that. A pixel that
            changes by less than 12 grey levels counts as still.
        patch: side of a square patch in pixels.
        patch_overlap: pixels around its patch that a token also sees, so that a thing which moves
            over an edge moves inside one token. The encoder does not know where a token lies, so
            this bounds the moves whose direction can be told.
        num_frame_differences: how many differences, of each frame to the one before, the encoder
            sees beside the frame. One shows a displacement. Two show a change of speed, which is
            what an action does where things keep their speed by themselves.
        encoder: sees the frames up to the one that an action led to, each with its differences. A
            window of 1 is enough.
        decoder: predicts that frame from the action and the frames before it. Its window is the
            real history. With one frame only, the code would have to carry velocity.
        max_displacement: how far the decoder can move a pixel, in pixels along each axis.
        num_motions: motions that a patch can hold at once, such as two things that cross.
        dim: features of a latent action. Few leave little room for anything but the action.
        continuous_fraction: share of the training budget in which the latent is noisy but not
            quantized. Then k-means initializes the codes and the encoder stops learning, because a
            pull towards codes merges actions (docs/experiments). With 0 the model trains through
            the codes from the first step, as in the paper.
        latent_noise: standard deviation of that noise. The latent has unit variance.
        motion_weight: extra weight of pixels that changed.
        commitment_weight: weight of the loss that keeps latents near their code, while the encoder
            learns.
        ema_decay: decay of the moving average that is the codebook, per step.
        embedding_noise: standard deviation of noise on the code's vector in training.
        entropy_weight: weight of the loss that spreads use over the codes. This and the next two
            are in `models/latent_actions/regularizers.py`.
        smoothness_weight: weight of the loss that keeps latents of neighbouring steps close.
        consistency_weight: weight of the loss by which like changes of pixels get like latents.
        lfq_codebooks: number of codebooks for codes by LFQ; 0 for one codebook of vectors
            (`models/latent_actions/lookup_free.py`).
    """

    kind: Literal["motion"] = "motion"
    patch_overlap: int = 4
    num_frame_differences: int = 1
    encoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=1))
    decoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=4))
    max_displacement: int = 4
    num_motions: int = 4

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(
            self.patch_overlap >= 1,
            "patch_overlap: must be at least 1, or no direction can be told",
        )
        require(
            self.num_frame_differences >= 1,
            "num_frame_differences: must be at least 1, or no motion can be seen",
        )
        require(self.max_displacement >= 0, "max_displacement: must not be negative")
        require(self.num_motions >= 1, "num_motions: must be at least 1")
        sizes = ("patch_overlap", "num_frame_differences", "max_displacement", "num_motions")
        require_at_most(self, **dict.fromkeys(sizes, 1024))

    @property
    def layers(self) -> int:
        """Number of blocks of both transformers."""
        return self.encoder.layers + self.decoder.layers

    def build(self, frame_size: tuple[int, int], num_actions: int) -> MotionActionModel:
        """Returns a new model of this configuration."""
        return MotionActionModel(self, frame_size, num_actions)


class MotionActionModel(LatentActionModel):
    """Infers one of A actions for each step between frames.

    The encoder takes each frame with its difference to the frame before. It pools the patches that
    changed into one small latent. The latent of frame t + 1 is action t, and it is always the same
    where nothing changed.

    - Patches that stand still are not pooled. They outnumber those of a small avatar, and the
      latents would describe the scene.
    - The encoder does not know where a patch lies. Otherwise a code could mean one thing here and
      another there, which predicts as well but is no action (docs/experiments).

    The decoder knows positions. It adds the latent to the patches of frame t and of its last
    difference, and predicts how pixels move (`MotionDecoder`). Play needs neither of the two: there
    a player gives the action.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.

    Attributes:
        mean, variance: (dim,), moving statistics of the latents. Saved worlds have the buffers by
            these names.
    """

    config: LatentActionConfig
    mean: Tensor
    variance: Tensor

    def __init__(self, config: LatentActionConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__(config, frame_size, num_actions)
        self.config = config
        wide, narrow = config.encoder.width, config.decoder.width
        size, channels = self.frame_size, 3 + 3 * config.num_frame_differences
        self.encoder_patches = PatchEmbedding(
            size, config.patch, channels, wide, config.patch_overlap, positional=False
        )
        self.encoder = STTransformer(config.encoder)
        self.attend = nn.Linear(wide, config.encoder.heads)
        self.to_latent = nn.Linear(config.encoder.heads * wide, config.dim)
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("variance", torch.ones(config.dim))
        self._add_codebook()
        self.from_latent = nn.Linear(config.dim, narrow)
        self.decoder_patches = PatchEmbedding(size, config.patch, 6, narrow, config.patch_overlap)
        self.decoder = STTransformer(config.decoder)
        self.to_motion = MotionDecoder(
            narrow, size, config.patch, config.max_displacement, config.num_motions
        )

    @property
    def past(self) -> int:
        """Number of earlier frames that the latent of a frame depends on.

        The differences to frames before reach further back than the attention does.
        """
        return receptive_field(self.config.encoder) + self.config.num_frame_differences

    def _latents(self, frames: Tensor, learn: bool = False) -> Tensor:
        pixels = self._pixels(frames)
        x = self.encoder(
            self.encoder_patches(_with_differences(pixels, self.config.num_frame_differences))
        )[:, 1:]
        changed = (
            patchify(motion_mask(frames)[:, 1:], self.config.patch).amax(dim=-1, keepdim=True) > 0
        )
        any_changed = changed.any(dim=2, keepdim=True)
        still = any_changed & ~changed  # where nothing changed at all, the pool is empty
        share = self.attend(x).masked_fill(still, -torch.inf).softmax(dim=2) * any_changed
        pooled = torch.einsum("btsh,btsd->bthd", share, x).flatten(2)
        latents = F.linear(pooled, self.to_latent.weight, _fixed(self.to_latent.bias))
        return self._centred(latents.flatten(0, 1), learn).view_as(latents)

    def _centred(self, latents: Tensor, learn: bool) -> Tensor:
        if not learn or len(latents) < 2:
            return F.batch_norm(latents, self.mean, self.variance)
        mean, variance, count = _statistics(latents)
        with torch.no_grad():
            self.mean.lerp_(mean.float(), STATISTICS_MOMENTUM)
            self.variance.lerp_((variance * count / (count - 1)).float(), STATISTICS_MOMENTUM)
        if count == len(latents):
            return F.batch_norm(latents, None, None, training=True)
        return (latents - mean) * (variance + EPSILON).rsqrt()

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        before = pixels[:, :-1]
        x = self.decoder_patches(_with_differences(before, 1))
        return self.to_motion(self.decoder(x + self.from_latent(latents)[:, :, None]), before)


def _fixed(bias: Tensor) -> Tensor:
    """The same values, with a gradient of exactly 0.

    Centring removes the bias, so its true gradient is 0. What is computed is rounding. Adam would
    scale it to whole steps, which differ with the number of processes.
    """
    return bias.detach() + 0 * bias


def _statistics(latents: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of the latents of all processes, and their number."""
    mean = mean_with_gradients(latents.mean(dim=0))
    variance = mean_with_gradients((latents - mean).square().mean(dim=0))
    return mean, variance, count_over_ranks(len(latents))


def _with_differences(pixels: Tensor, count: int) -> Tensor:
    """Each frame with the newest `count` differences up to it; zeros before the first frame."""
    nothing = torch.zeros_like(pixels[:, :1])
    parts = [pixels, torch.cat([nothing, pixels.diff(dim=1)], dim=1)]
    for _ in range(count - 1):
        parts.append(torch.cat([nothing, parts[-1][:, :-1]], dim=1))
    return torch.cat(parts, dim=-1)
