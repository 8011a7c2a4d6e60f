"""The latent action model: what a player could have pressed (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.layers.compile import graph_break
from genie.models.layers.distributed import mean_over_ranks
from genie.models.layers.kmeans import count
from genie.models.layers.patches import PatchEmbedding, patchify, unpatchify
from genie.models.layers.pixels import downsample, motion_mask, psnr, to_float, to_uint8
from genie.models.layers.transformer import STTransformer, TransformerConfig
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.vq import VectorQuantizer, VQConfig

FORGET = 0.05
"""Share of the newest batch in the remembered mean and variance of the latents."""

RECENT = 64
"""Latents remembered per code, from which k-means places the codes."""


@dataclass(frozen=True)
class LatentActionConfig:
    """Size and losses of the latent action model.

    Attributes:
        downsample: frames are averaged over squares of this side first; telling actions apart needs
            less detail than drawing. All lengths below count in the pixels that result, and what
            changes less than 12 grey levels there counts as still.
        patch: side of a square patch in pixels.
        patch_overlap: pixels around its patch that a token also sees, so that a thing which moves
            over an edge moves inside one token. Tokens know nothing of where they lie, so this
            bounds the moves whose direction can be told.
        num_frame_differences: how many differences, of each frame to the one before, the encoder
            sees beside the frame. One shows a displacement. Where things keep their speed by
            themselves, a button is what changes it: two differences show that.
        encoder: sees the frames up to the one that an action led to, each with its differences, so
            that a window of 1 is enough.
        decoder: predicts that frame from the action and the frames before it. Its window is the
            real history; with one frame only, the code has to carry velocity.
        max_displacement: how far the decoder can move a pixel, in pixels along each axis.
        num_motions: motions that a patch can hold at once, such as two things that cross.
        dim: features of a latent action; few, so that there is little room for anything else.
        continuous_fraction: share of the training budget in which the latent is not quantized, only
            noisy. Then k-means places the codes and the encoder learns no more: being pulled to
            codes, it merges what they do not tell apart (docs/experiments). 0 trains through the
            codes from the first step, as the paper does.
        latent_noise: standard deviation of that noise (the latent has unit variance).
        motion_weight: extra weight of pixels that changed.
        commitment_weight: weight of the loss that keeps latents near their code, where the encoder
            learns.
        ema_decay: of the codebook's moving average, per step.
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

    The encoder takes each frame together with its difference to the frame before, and pools the
    patches that changed into one small latent; the latent of frame t + 1 is action t, and always
    the same where nothing changed. Patches that stand still are not pooled: they outnumber those
    of a small avatar, and latents would describe the scene. Nor does the encoder know where a patch
    lies: a code could then mean one thing here and another there, which predicts as well but is no
    button (docs/experiments). The decoder, which knows, adds the latent to the patches of frame t
    and of its last change, and predicts how pixels move, as Finn et al. 2016 (arXiv 1605.07157) do
    for robots, and what appears. Neither is needed to play: a person's button takes the place of
    the code.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.
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
        self.register_buffer("recent", torch.zeros(RECENT * num_actions, config.dim))
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
        self.to_motion = Motion(narrow, self.frame_size, config)

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """The action between each frame and the next, 0 ... A - 1."""
        return self.quantizer.encode(self._latents(self.seen(frames)))

    @torch.no_grad()
    def latents(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 dim"]:
        """The latents that codes are near to, one for each step between frames."""
        return self.quantizer.normalise(self._latents(self.seen(frames)))

    def seen(self, frames: UInt8[Tensor, "b t h w 3"]) -> UInt8[Tensor, "b t hs ws 3"]:
        """Frames as this model sees them: smaller by `downsample`."""
        return downsample(frames, self.config.downsample)

    @torch.no_grad()
    def reconstruct(
        self, frames: UInt8[Tensor, "b t h w 3"], actions: Int[Tensor, "b t-1"] | None = None
    ) -> UInt8[Tensor, "b t-1 hs ws 3"]:
        """Predicts frames 1 ... T - 1 of `seen`, each from the real frames before and an action.

        Args:
            frames: the real clip.
            actions: actions to use; the inferred ones when left out.
        """
        if actions is None:
            actions = self.infer(frames)
        return self.predict(frames, self.quantizer.decode(actions))

    @torch.no_grad()
    def predict(
        self, frames: UInt8[Tensor, "b t h w 3"], latents: Float[Tensor, "b t-1 dim"]
    ) -> UInt8[Tensor, "b t-1 hs ws 3"]:
        """Predicts frames 1 ... T - 1 of `seen`, each from the real frames before and a latent."""
        pixels = self._pixels(self.seen(frames))
        return to_uint8(self._predict(pixels, latents.to(pixels.dtype)))

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """Values of `progress` at which the loss changes, beginning with 0."""
        return 0.0, self.config.continuous_fraction

    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Error of the predicted next frames, and the commitment loss.

        Args:
            frames: clips in uint8.
            progress: share of the training budget that is spent; before `continuous_fraction` the
                latents stay continuous.
        """
        frames = self.seen(frames)
        pixels = self._pixels(frames)
        share = self.config.continuous_fraction
        stands = 0 < share <= progress
        features = self._latents(frames, learn=self.training and not stands)
        if progress < share:
            latents = self.quantizer.normalise(features)
            codes, commitment = None, features.new_zeros(())
            if self.training:
                self._remember(latents)
                self.quantizer.reset_codebook()  # anew, where a stage goes on with more budget
            latents = latents + self.config.latent_noise * torch.randn_like(latents)
        else:
            if stands:
                features = features.detach()
            if self.training and not self.quantizer.known_initialized:
                graph_break(self._init_codebook)
            latents, codes, commitment = self.quantizer(features)
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

    def _pixels(self, frames: Tensor) -> Tensor:
        return to_float(frames, self.from_latent.weight.dtype)

    def _latents(self, seen: Tensor, learn: bool = False) -> Tensor:
        pixels = self._pixels(seen)
        x = self.encoder(
            self.encoder_patches(_with_changes(pixels, self.config.num_frame_differences))
        )[:, 1:]
        changed = (
            patchify(motion_mask(seen)[:, 1:], self.config.patch).amax(dim=-1, keepdim=True) > 0
        )
        any_changed = changed.any(dim=2, keepdim=True)
        still = any_changed & ~changed  # where nothing changed at all, the pool is empty
        share = self.attend(x).masked_fill(still, -torch.inf).softmax(dim=2) * any_changed
        latents = self.to_latent(torch.einsum("btsh,btsd->bthd", share, x).flatten(2))
        return self._centred(latents.flatten(0, 1), learn).view_as(latents)

    def _centred(self, latents: Tensor, learn: bool) -> Tensor:
        if not learn or len(latents) < 2:
            return F.batch_norm(latents, self.mean, self.variance)
        with torch.no_grad():  # all ranks remember the same
            seen = torch.stack([latents.mean(dim=0), latents.var(dim=0)]).float()
            mean_over_ranks(seen)
            self.mean.lerp_(seen[0], FORGET)
            self.variance.lerp_(seen[1], FORGET)
        return F.batch_norm(latents, None, None, training=True)

    @torch.no_grad()
    def _remember(self, latents: Tensor) -> None:
        new = latents.detach().flatten(0, -2).to(self.recent.dtype)[-len(self.recent) :]
        self.recent.copy_(torch.cat([self.recent[len(new) :], new]))

    def _init_codebook(self) -> None:
        """Places the codes where the latents of the last steps lie; without any, the batch does."""
        self.quantizer.init_codebook_once(self.recent[self.recent.any(dim=1)])

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        before = pixels[:, :-1]
        x = self.decoder_patches(_with_changes(before, 1))
        return self.to_motion(self.decoder(x + self.from_latent(latents)[:, :, None]), before)


class Motion(nn.Module):
    """The next frame as the one before with its pixels moved, and a correction.

    Each patch has a few motions, each a distribution over where pixels come from; each pixel mixes
    the motions of its patch and adds a correction. It starts close to "nothing changes". It reads
    `(2 * reach + 1) ** 2` values for each one it writes.

    Args:
        width: features of a patch.
        frame_size: height and width in pixels.
        config: patch, displacement and number of motions.
    """

    def __init__(self, width: int, frame_size: tuple[int, int], config: LatentActionConfig):
        super().__init__()
        self.frame_size, self.patch = frame_size, config.patch
        self.reach, self.kernels = config.max_displacement, config.num_motions
        places, pixels = (2 * config.max_displacement + 1) ** 2, config.patch**2
        self.to_sources = nn.Linear(width, config.num_motions * places)
        self.to_mixture = nn.Linear(width, pixels * config.num_motions)
        self.to_correction = nn.Linear(width, pixels * 3)
        for part in (self.to_sources, self.to_mixture):
            nn.init.normal_(part.weight, std=0.01)
        nn.init.zeros_(self.to_correction.weight)
        nn.init.zeros_(self.to_correction.bias)
        with torch.no_grad():  # the first motion is to stand still, and is used most
            sources = self.to_sources.bias.view(config.num_motions, places)
            sources.normal_(std=0.5)[0].zero_()[places // 2] = math.log(places) + 3
            mixture = self.to_mixture.bias.view(pixels, config.num_motions)
            mixture.zero_()[:, 0] = math.log(config.num_motions) + 2

    def forward(
        self, x: Float[Tensor, "b t s d"], before: Float[Tensor, "b t h w 3"]
    ) -> Float[Tensor, "b t h w 3"]:
        """Moves the pixels of each frame `before` by what the features of its patches say."""
        patch, count = self.patch, x.shape[:3].numel()
        around = patchify(before, patch, self.reach).unflatten(
            -1, (patch + 2 * self.reach,) * 2 + (3,)
        )
        side = 2 * self.reach + 1
        around = around.flatten(0, 2).unfold(1, side, 1).unfold(2, side, 1)
        around = around.reshape(count, patch * patch * 3, side * side)
        sources = self.to_sources(x).view(count, self.kernels, side * side).softmax(dim=-1)
        moved_by = torch.bmm(around, sources.transpose(1, 2)).view(count, patch**2, 3, self.kernels)
        mixture = self.to_mixture(x).view(count, patch**2, 1, self.kernels).softmax(dim=-1)
        patches = (moved_by * mixture).sum(dim=-1).view(*x.shape[:3], -1) + self.to_correction(x)
        return unpatchify(patches, self.frame_size, patch)


def _with_changes(pixels: Tensor, count: int) -> Tensor:
    """Each frame, and the newest `count` changes up to it; none came before the first frame."""
    change = torch.cat([torch.zeros_like(pixels[:, :1]), pixels.diff(dim=1)], dim=1)
    parts = [pixels, change]
    for _ in range(count - 1):
        parts.append(torch.cat([torch.zeros_like(pixels[:, :1]), parts[-1][:, :-1]], dim=1))
    return torch.cat(parts, dim=-1)
