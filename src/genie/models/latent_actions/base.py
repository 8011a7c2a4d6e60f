"""What all latent action models have in common (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.backbone import TokenizerBackbone
from genie.models.latent_actions.lookup_free import LookupFreeActions
from genie.models.latent_actions.regularizers import code_entropy_gap, inconsistency, roughness
from genie.models.layers.compile import graph_break
from genie.models.layers.distributed import (
    count_over_ranks,
    mean_over_ranks,
    randn_rows,
    rows_over_ranks,
)
from genie.models.layers.kmeans import count
from genie.models.layers.pixels import downsample, motion_mask, psnr, to_float, to_uint8
from genie.models.quantizers.base import perplexity
from genie.models.quantizers.product import codes_per_book
from genie.models.quantizers.vq import VectorQuantizer, VQConfig

RECENT_PER_CODE = 64
"""Recent latents kept per code, from which k-means initializes the codebook."""


@dataclass(frozen=True)
class BaseConfig:
    """The part of a latent action model's configuration that all kinds have.

    A kind inherits from it, gives `kind` its name and adds its own fields.

    Attributes:
        kind: name of the model.
        downsample: frames are averaged over squares of this side first, because telling actions
            apart needs little detail. All lengths below are in pixels after that. A pixel that
            changes by less than 12 grey levels counts as still.
        patch: side of a square patch in pixels.
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
        embedding_noise: standard deviation of noise on the code's vector that the decoder gets in
            training, so that nearby vectors come to mean the same.
        entropy_weight: weight of `code_entropy_gap`: all codes are to be used alike.
        smoothness_weight: weight of `roughness`: an action is likely to go on.
        consistency_weight: weight of `inconsistency`: like changes are to have like latents. These
            three act while the encoder learns, the first one only where there are codes.
        lfq_codebooks: above 0, the codes are those of LFQ, in so many codebooks, and not a moving
            average. The number of actions must be a power of two and `continuous_fraction` 0
            (`models/latent_actions/lookup_free.py`).
    """

    kind: str
    downsample: int = 1
    patch: int = 8
    dim: int = 8
    continuous_fraction: float = 0.85
    latent_noise: float = 0.2
    motion_weight: float = 9.0
    commitment_weight: float = 0.25
    ema_decay: float = 0.98
    embedding_noise: float = 0.0
    entropy_weight: float = 0.0
    smoothness_weight: float = 0.0
    consistency_weight: float = 0.0
    lfq_codebooks: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.downsample >= 1, "downsample: must be at least 1")
        require(self.patch >= 1, "patch: must be at least 1")
        require_at_most(self, downsample=1024, patch=1024, dim=1024)
        require(self.dim >= 2, "dim: must be at least 2, because latents are normalised")
        require(0 <= self.continuous_fraction < 1, "continuous_fraction: must lie in [0, 1)")
        for name in (
            "embedding_noise",
            "entropy_weight",
            "smoothness_weight",
            "consistency_weight",
        ):
            require(getattr(self, name) >= 0, f"{name}: must not be negative")
        require(self.lfq_codebooks >= 0, "lfq_codebooks: must not be negative")
        require(
            self.lfq_codebooks == 0 or self.continuous_fraction == 0,
            "lfq_codebooks: LFQ has no codes to place later; set continuous_fraction to 0",
        )

    @property
    def from_tokens(self) -> bool:
        """Whether the tokenizer has to be trained before."""
        return False

    @property
    def layers(self) -> int:
        """Number of blocks of layers, each with a tensor of its own or more."""
        raise NotImplementedError

    def build(self, frame_size: tuple[int, int], num_actions: int) -> LatentActionModel:
        """Returns a new model of this configuration.

        Args:
            frame_size: height and width in pixels.
            num_actions: A.
        """
        raise NotImplementedError

    def build_for(
        self, tokenizer: TokenizerBackbone, frame_size: tuple[int, int], num_actions: int
    ) -> LatentActionModel:
        """Returns a new model for a world; only a kind that sees tokens uses its tokenizer."""
        return self.build(frame_size, num_actions)

    def check_number(self, num_actions: int) -> None:
        """Refuses a number of actions that the codes cannot have.

        Raises:
            UserError: the message names the field.
        """
        if self.lfq_codebooks:
            power = num_actions & (num_actions - 1) == 0
            require(power, f"num_actions: LFQ needs a power of two, got {num_actions}")
            codes_per_book(num_actions, self.lfq_codebooks)


class LatentActionModel(nn.Module, ABC):
    """Infers one of A actions for each step between frames.

    The latent of frame t + 1 is action t. A kind adds the encoder, which computes latents, and the
    decoder, which predicts a frame from a latent and the frames before it. Play needs neither of
    the two: there a player gives the action.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.

    Attributes:
        frame_size: height and width of the frames after `downsample`.
        recent: (n, dim), latents of the last steps, the newest last; zeros where there are none.
            Saved worlds have the buffer by this name.
        quantizer: the codebook.
        reads: other models that latents are computed with, which are no part of this one.
    """

    recent: Tensor
    quantizer: VectorQuantizer | LookupFreeActions
    reads: tuple[TokenizerBackbone, ...] = ()

    def __init__(self, config: BaseConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__()
        self.config, self.num_actions = config, num_actions
        self.frame_size = (
            -(-frame_size[0] // config.downsample),
            -(-frame_size[1] // config.downsample),
        )

    @property
    @abstractmethod
    def past(self) -> int:
        """Number of earlier frames that the latent of a frame depends on, at least 1."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def _latents(
        self, frames: UInt8[Tensor, "b t hs ws 3"], learn: bool = False
    ) -> Float[Tensor, "b t-1 dim"]:
        """Computes the latent of each step; `learn` says whether the encoder is being trained."""

    @abstractmethod
    def _predict(
        self, pixels: Float[Tensor, "b t hs ws 3"], latents: Float[Tensor, "b t-1 dim"]
    ) -> Float[Tensor, "b t-1 hs ws 3"]:
        """Predicts each frame but the first from the frames before it and a latent."""

    def _add_codebook(self) -> None:
        """Adds the buffers that all kinds have, at the kind's own place among its weights."""
        config = self.config
        self.register_buffer("recent", torch.zeros(RECENT_PER_CODE * self.num_actions, config.dim))
        if config.lfq_codebooks:
            self.quantizer = LookupFreeActions(
                self.num_actions, config.dim, config.lfq_codebooks, config.commitment_weight
            )
            return
        self.quantizer = VectorQuantizer(
            VQConfig(
                codes=self.num_actions,
                dim=config.dim,
                ema_decay=config.ema_decay,
                commitment_weight=config.commitment_weight,
            )
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
        """Returns the error of the predicted next frames plus the losses of latents, and figures.

        Args:
            frames: clips.
            progress: share of the training budget that is spent, from 0 to 1. Before
                `continuous_fraction` the latents are continuous.
        """
        frames = self.downsampled(frames)
        pixels = self._pixels(frames)
        latents, codes, own_loss = self._bottleneck(frames, pixels, progress)
        weight = 1 + self.config.motion_weight * motion_mask(frames)[:, 1:]
        mean_weight = weight.mean()
        if self.training:
            mean_over_ranks(mean_weight)
        error = self._predict(pixels, latents) - pixels[:, 1:]
        loss = (weight * error.square()).mean() / mean_weight + own_loss
        standing = (pixels[:, 1:] - pixels[:, :-1]).square()
        logs = {
            "psnr": psnr(error.detach().square().mean(), peak=2.0),
            # Share of the change that the prediction explains; 0 is copying the last frame.
            "explained": 1 - error.detach().square().mean() / standing.mean().clamp(min=1e-8),
        }
        if codes is not None:
            logs["perplexity"] = perplexity(count(codes, self.num_actions))
        return loss, logs

    def _bottleneck(
        self, frames: Tensor, pixels: Tensor, progress: float
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the decoder gets, its codes if there are any, and the losses of the latents."""
        fraction = self.config.continuous_fraction
        frozen = 0 < fraction <= progress
        if progress >= fraction and self.training and not self.quantizer.known_initialized:
            graph_break(self._init_codebook)
        features = self._latents(frames, learn=self.training and not frozen)
        if progress < fraction:
            return self._noisy(features), None, self._regularization(features, pixels, False)
        vectors, codes, commitment = self.quantizer(features.detach() if frozen else features)
        if self.training and self.config.embedding_noise:
            vectors = vectors + self.config.embedding_noise * randn_rows(vectors)
        if frozen:
            return vectors, codes, commitment
        return vectors, codes, commitment + self._regularization(features, pixels, True)

    def _regularization(self, features: Tensor, pixels: Tensor, has_codes: bool) -> Tensor:
        config, latents = self.config, self.quantizer.normalise(features)
        loss = features.new_zeros(())
        if config.entropy_weight and has_codes:
            gap = code_entropy_gap(latents, self.quantizer.codebook)
            loss = loss + config.entropy_weight * gap
        if config.smoothness_weight:
            loss = loss + config.smoothness_weight * roughness(latents)
        if config.consistency_weight:
            loss = loss + config.consistency_weight * inconsistency(latents, pixels)
        return loss

    def _noisy(self, features: Tensor) -> Tensor:
        latents = self.quantizer.normalise(features)
        if self.training:
            self._record_recent(latents)
            self.quantizer.reset_codebook()  # anew, where a stage goes on with more budget
        return latents + self.config.latent_noise * randn_rows(latents)

    def _pixels(self, frames: Tensor) -> Tensor:
        return to_float(frames, next(self.parameters()).dtype)

    @torch.no_grad()
    def _record_recent(self, latents: Tensor) -> None:
        own = latents.detach().flatten(0, -2).to(self.recent.dtype)
        end = count_over_ranks(len(own))
        newest = torch.arange(max(0, end - len(self.recent)), end, device=own.device)
        new = rows_over_ranks(own, newest)
        self.recent.copy_(torch.cat([self.recent[len(new) :], new]))

    def _init_codebook(self) -> None:
        """Initializes the codes from recent latents; without any, the first batch does it."""
        self.quantizer.init_codebook_once(self.recent[self.recent.any(dim=1)])
