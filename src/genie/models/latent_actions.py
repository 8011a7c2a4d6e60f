"""The latent action model: infers the action between two frames (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.layers.compile import graph_break
from genie.models.layers.distributed import mean_over_ranks
from genie.models.layers.kmeans import count
from genie.models.layers.patches import PatchEmbedding, patchify
from genie.models.layers.pixels import downsample, motion_mask, psnr, to_float, to_uint8
from genie.models.layers.transformer import STTransformer, TransformerConfig
from genie.models.motion_decoder import MotionDecoder
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.vq import VectorQuantizer, VQConfig

STATISTICS_MOMENTUM = 0.05
"""Weight of the newest batch in the moving mean and variance of the latents."""

RECENT_PER_CODE = 64
"""Recent latents kept per code, from which k-means initializes the codebook."""


@dataclass(frozen=True)
class LatentActionConfig:
    """Size and losses of the latent action model.

    Attributes:
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
    """

    downsample: int = 1
    patch: int = 8
    patch_overlap: int = 4
    num_frame_differences: int = 1
    encoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=1))
    decoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=4))
    max_displacement: int = 4
    num_motions: int = 4
    dim: int = 8
    continuous_fraction: float = 0.85
    latent_noise: float = 0.2
    motion_weight: float = 9.0
    commitment_weight: float = 0.25
    ema_decay: float = 0.98

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.downsample >= 1, "downsample: must be at least 1")
        require(self.patch >= 1, "patch: must be at least 1")
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
        sizes = (
            "downsample",
            "patch",
            "patch_overlap",
            "num_frame_differences",
            "max_displacement",
            "num_motions",
            "dim",
        )
        require_at_most(self, **dict.fromkeys(sizes, 1024))
        require(self.dim >= 2, "dim: must be at least 2, because latents are normalised")
        require(0 <= self.continuous_fraction < 1, "continuous_fraction: must lie in [0, 1)")


class LatentActionModel(nn.Module):
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
        mean, variance: (dim,), moving statistics of the latents.
        recent: (n, dim), latents of the last steps, the newest last; zeros where there are none.
            Saved worlds have the buffers by these names.
    """

    mean: Tensor
    variance: Tensor
    recent: Tensor

    def __init__(self, config: LatentActionConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__()
        self.config, self.num_actions = config, num_actions
        self.frame_size = (
            -(-frame_size[0] // config.downsample),
            -(-frame_size[1] // config.downsample),
        )
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
        self.register_buffer("recent", torch.zeros(RECENT_PER_CODE * num_actions, config.dim))
        self.quantizer = VectorQuantizer(
            VQConfig(
                codes=num_actions,
                dim=config.dim,
                ema_decay=config.ema_decay,
                commitment_weight=config.commitment_weight,
            )
        )
        self.from_latent = nn.Linear(config.dim, narrow)
        self.decoder_patches = PatchEmbedding(size, config.patch, 6, narrow, config.patch_overlap)
        self.decoder = STTransformer(config.decoder)
        self.to_motion = MotionDecoder(
            narrow, size, config.patch, config.max_displacement, config.num_motions
        )

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """Returns the action between each frame and the next, from 0 to A - 1."""
        return self.quantizer.encode(self._latents(self.downsampled(frames)))

    @torch.no_grad()
    def latents(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 dim"]:
        """Returns the latent of each step between frames, before it is quantized."""
        return self.quantizer.normalise(self._latents(self.downsampled(frames)))

    def downsampled(self, frames: UInt8[Tensor, "b t h w 3"]) -> UInt8[Tensor, "b t hs ws 3"]:
        """Returns frames at the size that this model works with, smaller by `downsample`."""
        return downsample(frames, self.config.downsample)

    @torch.no_grad()
    def reconstruct(
        self, frames: UInt8[Tensor, "b t h w 3"], actions: Int[Tensor, "b t-1"] | None = None
    ) -> UInt8[Tensor, "b t-1 hs ws 3"]:
        """Predicts each frame but the first from the real frames before it and an action.

        Args:
            frames: the real clips.
            actions: actions to use; the inferred ones when left out.

        Returns:
            Frames at the size of `downsampled`.
        """
        if actions is None:
            actions = self.infer(frames)
        return self.predict(frames, self.quantizer.decode(actions))

    @torch.no_grad()
    def predict(
        self, frames: UInt8[Tensor, "b t h w 3"], latents: Float[Tensor, "b t-1 dim"]
    ) -> UInt8[Tensor, "b t-1 hs ws 3"]:
        """Predicts each frame but the first from the real frames before it and a latent.

        Args:
            frames: the real clips.
            latents: one for each step between frames.

        Returns:
            Frames at the size of `downsampled`.
        """
        pixels = self._pixels(self.downsampled(frames))
        return to_uint8(self._predict(pixels, latents.to(pixels.dtype)))

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """Values of `progress` at which the loss changes, beginning with 0."""
        return 0.0, self.config.continuous_fraction

    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the error of the predicted next frames plus the commitment loss, and figures.

        Args:
            frames: clips.
            progress: share of the training budget that is spent, from 0 to 1. Before
                `continuous_fraction` the latents are continuous.
        """
        frames = self.downsampled(frames)
        pixels = self._pixels(frames)
        latents, codes, commitment = self._bottleneck(frames, progress)
        weight = 1 + self.config.motion_weight * motion_mask(frames)[:, 1:]
        error = self._predict(pixels, latents) - pixels[:, 1:]
        loss = (weight * error.square()).mean() / weight.mean() + commitment
        standing = (pixels[:, 1:] - pixels[:, :-1]).square()
        logs = {
            "psnr": psnr(error.detach().square().mean(), peak=2.0),
            # Share of the change that the prediction explains; 0 is copying the last frame.
            "explained": 1 - error.detach().square().mean() / standing.mean().clamp(min=1e-8),
        }
        if codes is not None:
            logs["perplexity"] = perplexity(count(codes, self.num_actions))
        return loss, logs

    def _bottleneck(self, frames: Tensor, progress: float) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the decoder gets, its codes if there are any, and the commitment loss."""
        fraction = self.config.continuous_fraction
        frozen = 0 < fraction <= progress
        if progress >= fraction and self.training and not self.quantizer.known_initialized:
            graph_break(self._init_codebook)
        features = self._latents(frames, learn=self.training and not frozen)
        if progress < fraction:
            return self._noisy(features), None, features.new_zeros(())
        return self.quantizer(features.detach() if frozen else features)

    def _noisy(self, features: Tensor) -> Tensor:
        latents = self.quantizer.normalise(features)
        if self.training:
            self._record_recent(latents)
            self.quantizer.reset_codebook()  # anew, where a stage goes on with more budget
        return latents + self.config.latent_noise * torch.randn_like(latents)

    def _pixels(self, frames: Tensor) -> Tensor:
        return to_float(frames, self.from_latent.weight.dtype)

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
        latents = self.to_latent(torch.einsum("btsh,btsd->bthd", share, x).flatten(2))
        return self._centred(latents.flatten(0, 1), learn).view_as(latents)

    def _centred(self, latents: Tensor, learn: bool) -> Tensor:
        if not learn or len(latents) < 2:
            return F.batch_norm(latents, self.mean, self.variance)
        with torch.no_grad():  # the same on all ranks
            batch = torch.stack([latents.mean(dim=0), latents.var(dim=0)]).float()
            mean_over_ranks(batch)
            self.mean.lerp_(batch[0], STATISTICS_MOMENTUM)
            self.variance.lerp_(batch[1], STATISTICS_MOMENTUM)
        return F.batch_norm(latents, None, None, training=True)

    @torch.no_grad()
    def _record_recent(self, latents: Tensor) -> None:
        new = latents.detach().flatten(0, -2).to(self.recent.dtype)[-len(self.recent) :]
        self.recent.copy_(torch.cat([self.recent[len(new) :], new]))

    def _init_codebook(self) -> None:
        """Initializes the codes from recent latents; without any, the first batch does it."""
        self.quantizer.init_codebook_once(self.recent[self.recent.any(dim=1)])

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        before = pixels[:, :-1]
        x = self.decoder_patches(_with_differences(before, 1))
        return self.to_motion(self.decoder(x + self.from_latent(latents)[:, :, None]), before)


def _with_differences(pixels: Tensor, count: int) -> Tensor:
    """Each frame with the newest `count` differences up to it; zeros before the first frame."""
    nothing = torch.zeros_like(pixels[:, :1])
    parts = [pixels, torch.cat([nothing, pixels.diff(dim=1)], dim=1)]
    for _ in range(count - 1):
        parts.append(torch.cat([nothing, parts[-1][:, :-1]], dim=1))
    return torch.cat(parts, dim=-1)
