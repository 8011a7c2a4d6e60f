"""The latent action model: what a player could have pressed (arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.config import require
from genie.nn.pixels import moved, to_float, to_uint8
from genie.nn.quantize import QuantizerConfig, VectorQuantizer, perplexity
from genie.nn.transformer import PatchEmbedding, STTransformer, TransformerConfig, frames_of


@dataclass(frozen=True)
class LatentActionConfig:
    """Size and losses of the latent action model.

    Attributes:
        patch: side of a square patch in pixels.
        margin: pixels around its patch that a token also sees, so that a thing which moves over
            an edge moves inside one token.
        encoder: sees the frames up to the one that an action led to, each with its difference to
            the one before, so that a window of 1 is enough.
        decoder: predicts that frame from the action and the frames before it. Its window is the
            real history; with one frame only, the code has to carry velocity.
        dim: features of a latent action; few, so that there is little room for anything else.
        continuous_share: share of the training budget in which the latent is not quantized, only
            noisy: the decoder first learns to use it, then k-means places the codes.
        noise: standard deviation of that noise (the latent has unit variance).
        motion: extra weight of pixels that changed.
        commitment: weight of the loss that keeps latents near their code.
        decay: of the codebook's moving average, per step.
    """

    patch: int = 8
    margin: int = 4
    encoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=1))
    decoder: TransformerConfig = field(default_factory=lambda: TransformerConfig(window=4))
    dim: int = 8
    continuous_share: float = 0.4
    noise: float = 0.2
    motion: float = 9.0
    commitment: float = 0.25
    decay: float = 0.98

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        require(self.patch >= 1, "patch: must be at least 1")
        require(self.margin >= 0, "margin: must not be negative")
        require(self.dim >= 2, "dim: must be at least 2, because latents are normalised")
        require(0 <= self.continuous_share < 1, "continuous_share: must lie in [0, 1)")


class LatentActionModel(nn.Module):
    """Infers one of A actions for each step between frames.

    The encoder takes each frame together with its difference to the frame before, and pools each
    frame into one small latent; the latent of frame t + 1 is action t. The decoder adds it to the
    patches of frame t and predicts what changes. Neither is needed to play: a person's button
    takes the place of the code.

    Args:
        config: sizes and losses.
        frame_size: height and width in pixels.
        num_actions: A.
    """

    def __init__(self, config: LatentActionConfig, frame_size: tuple[int, int], num_actions: int):
        super().__init__()
        self.config, self.frame_size, self.num_actions = config, frame_size, num_actions
        wide, narrow = config.encoder.width, config.decoder.width
        self.encoder_patches = PatchEmbedding(frame_size, config.patch, 6, wide, config.margin)
        self.encoder = STTransformer(config.encoder)
        self.attend = nn.Linear(wide, config.encoder.heads)
        self.to_latent = nn.Linear(config.encoder.heads * wide, config.dim)
        self.quantizer = VectorQuantizer(
            QuantizerConfig(
                codes=num_actions,
                dim=config.dim,
                decay=config.decay,
                commitment=config.commitment,
            )
        )
        self.from_latent = nn.Linear(config.dim, narrow)
        self.decoder_patches = PatchEmbedding(frame_size, config.patch, 3, narrow, config.margin)
        self.decoder = STTransformer(config.decoder)
        self.to_change = nn.Linear(narrow, config.patch**2 * 3)
        nn.init.zeros_(self.to_change.weight)  # start from "nothing changes"
        nn.init.zeros_(self.to_change.bias)

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """The action between each frame and the next, 0 ... A - 1."""
        return self.quantizer.assign(self._latents(self._pixels(frames)))

    @torch.no_grad()
    def reconstruct(
        self, frames: UInt8[Tensor, "b t h w 3"], actions: Int[Tensor, "b t-1"] | None = None
    ) -> UInt8[Tensor, "b t-1 h w 3"]:
        """Predicts frames 1 ... T - 1, each from the real frames before it and an action.

        Args:
            frames: the real clip.
            actions: actions to use; the inferred ones when left out.
        """
        if actions is None:
            actions = self.infer(frames)
        pixels = self._pixels(frames)
        return to_uint8(self._predict(pixels, self.quantizer.lookup(actions).to(pixels.dtype)))

    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Error of the predicted next frames, and the commitment loss.

        Args:
            frames: clips in uint8.
            progress: share of the training budget that is spent; before `continuous_share` the
                latents stay continuous.
        """
        pixels = self._pixels(frames)
        features = self._latents(pixels)
        if progress < self.config.continuous_share:
            latents = self.quantizer.normalise(features)
            codes, commitment = None, features.new_zeros(())
            latents = latents + self.config.noise * torch.randn_like(latents)
        else:
            latents, codes, commitment = self.quantizer(features)
        weight = 1 + self.config.motion * moved(frames)[:, 1:]
        error = self._predict(pixels, latents) - pixels[:, 1:]
        loss = (weight * error.square()).mean() / weight.mean() + commitment
        standing = (pixels[:, 1:] - pixels[:, :-1]).square()
        logs = {
            "psnr": 10 * torch.log10(4 / error.detach().square().mean()),
            # Share of the change that the prediction explains; 0 is copying the last frame.
            "explained": 1 - error.detach().square().mean() / standing.mean().clamp(min=1e-8),
        }
        if codes is not None:
            logs["perplexity"] = perplexity(codes, self.num_actions)
        return loss, logs

    def _pixels(self, frames: Tensor) -> Tensor:
        return to_float(frames, self.to_change.weight.dtype)

    def _latents(self, pixels: Tensor) -> Tensor:
        change = torch.cat([torch.zeros_like(pixels[:, :1]), pixels[:, 1:] - pixels[:, :-1]], dim=1)
        x = self.encoder(self.encoder_patches(torch.cat([pixels, change], dim=-1)))[:, 1:]
        share = self.attend(x).softmax(dim=2)
        return self.to_latent(torch.einsum("btsh,btsd->bthd", share, x).flatten(2))

    def _predict(self, pixels: Tensor, latents: Tensor) -> Tensor:
        x = self.decoder_patches(pixels[:, :-1]) + self.from_latent(latents)[:, :, None]
        change = frames_of(self.to_change(self.decoder(x)), self.frame_size, self.config.patch)
        return pixels[:, :-1] + change
