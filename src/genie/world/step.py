"""Play as modules whose `forward` takes and returns tensors only: what an export is made of.

`Genie` keeps a game as a `State` and samples inside `maskgit.sample`. An exported graph can do
neither. These modules call the same methods of the models and the same `sample_tokens`, with these
differences:

- Keys, values and the number of frames come in and go out as tensors of fixed shapes.
- A MaskGIT step computes all positions of a frame and takes its Gumbel noise as an argument.
  `step_inputs` computes that argument as `Genie.step` does, so both play the same tokens.
  `Genie.step` itself computes only the positions that it samples, which is faster.
- Integers come in as 32 or 64 bits and go out as 32 bits, for runtimes without 64 bits.

A game is `EncodePrompt`, `InferActions` where the prompt has several frames, and `StartGame`. Each
step of it is one `MaskGITStep` or `ConfidenceStep` after the other, then `DecodeFrame` and
`CommitFrame`. No module looks at the value of a tensor to decide what it does, so `torch.export`
takes each of them. Compiled models cannot be exported: make the modules of a world that is not.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor, nn

from genie.models.backbone import TokenizerBackbone
from genie.models.dynamics import Dynamics
from genie.models.dynamics_state import DynamicsState, StepContext
from genie.models.latent_actions.base import LatentActionModel
from genie.models.layers.cache import DecoderCache, TemporalCache
from genie.world import maskgit, rng
from genie.world.maskgit import SamplingConfig

Tensors = tuple[Tensor, ...]


class EncodePrompt(nn.Module):
    """The tokens of a prompt.

    Args:
        tokenizer: of the world.
    """

    def __init__(self, tokenizer: TokenizerBackbone):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int32[Tensor, "b t s"]:
        """Frames of the world's size to tokens."""
        return self.tokenizer.encode(frames).int()


class InferActions(nn.Module):
    """The latent actions between the frames of a prompt.

    Args:
        actions: the latent action model of the world.
    """

    def __init__(self, actions: LatentActionModel):
        super().__init__()
        self.actions = actions

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int32[Tensor, "b t-1"]:
        """Two or more frames of the world's size to the action between each and the next."""
        return self.actions.infer(frames).int()


class StartGame(nn.Module):
    """The caches of a game that begins with a prompt.

    Args:
        dynamics, tokenizer: of the world.
    """

    def __init__(self, dynamics: Dynamics, tokenizer: TokenizerBackbone):
        super().__init__()
        self.dynamics, self.tokenizer = dynamics, tokenizer

    def forward(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"] | None = None
    ) -> Tensors:
        """Fills the caches with all frames of a prompt.

        Args:
            tokens: of the prompt.
            actions: between its frames; left out for a prompt of one frame.

        Returns:
            Number of frames (B,) int32, keys and values of the dynamics, each
            (L, window - 1, B, S, heads, head width), and the tensors of the tokenizer's decoder.
        """
        tokens = tokens.long()
        given = tokens.new_empty((len(tokens), 0)) if actions is None else actions.long()
        cache = self.dynamics.prefill(tokens, given).cache
        decoder = self.tokenizer.prefill(tokens)
        return cache.time.int(), cache.keys, cache.values, *decoder.tensors


class _StepFunction(nn.Module):
    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics = dynamics

    def _context(
        self, action: Tensor, previous: Tensor, time: Tensor, keys: Tensor, values: Tensor
    ) -> StepContext:
        state = DynamicsState(previous.long(), TemporalCache(keys, values, time.long()))
        return self.dynamics.step_context(action.long(), state)


class _SamplingFunction(_StepFunction):
    def __init__(self, dynamics: Dynamics, top_k: int = 0):
        super().__init__(dynamics)
        self.top_k = top_k

    def _sampled(
        self,
        tokens: Tensor,
        noise: Tensor,
        temperature: Tensor,
        guidance: Tensor | None,
        action: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, Tensor]:
        logits = self._logits(tokens, action, *rest)
        if guidance is not None:
            unknown = torch.full_like(action, self.dynamics.num_actions)
            logits = maskgit.guided(logits, self._logits(tokens, unknown, *rest), guidance)
        logits = logits.float()
        return logits, maskgit.sample_tokens(logits, noise, temperature, self.top_k)

    def _logits(self, tokens: Tensor, action: Tensor, *rest: Tensor) -> Tensor:
        tokens = tokens.long()
        everywhere = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return self.dynamics.step_logits(tokens, self._context(action, *rest), everywhere)


class MaskGITStep(_SamplingFunction):
    """One MaskGIT step over a frame whose positions are sampled in a fixed order.

    Args:
        dynamics: of the world.
        top_k: only this many of the most likely tokens count; 0 means all.
    """

    def forward(
        self,
        tokens: Int[Tensor, "b s"],
        fill: Bool[Tensor, "b s"],
        noise: Float[Tensor, "b s v"],
        temperature: Float[Tensor, ""],
        action: Int[Tensor, " b"],
        previous: Int[Tensor, "b s"],
        time: Int[Tensor, " b"],
        keys: Float[Tensor, "l slots b n h d"],
        values: Float[Tensor, "l slots b n h d"],
        guidance: Float[Tensor, ""] | None = None,
    ) -> Int32[Tensor, "b s"]:
        """Samples tokens at some positions of a frame.

        Args:
            tokens: of the frame so far; `vocabulary` stands where a token is masked.
            fill: True at the positions to sample now.
            noise: standard Gumbel noise.
            temperature: above 0. For the most likely tokens take 1, and noise of zeros.
            action: that leads to the frame.
            previous: tokens of the frame before.
            time, keys, values: of the dynamics, as `StartGame` and `CommitFrame` return them.
            guidance: as of `SamplingConfig`, above 0; the dynamics then run twice. None is 0.

        Returns:
            The tokens with those positions filled.
        """
        game = (action, previous, time, keys, values)
        _, sampled = self._sampled(tokens, noise, temperature, guidance, *game)
        return torch.where(fill, sampled, tokens.long()).int()


class ConfidenceStep(_SamplingFunction):
    """One MaskGIT step that keeps the most confident of the tokens it samples.

    Args:
        dynamics: of the world.
        top_k: only this many of the most likely tokens count; 0 means all.
    """

    def forward(
        self,
        tokens: Int[Tensor, "b s"],
        count: Int[Tensor, ""],
        noise: Float[Tensor, "b s v"],
        temperature: Float[Tensor, ""],
        action: Int[Tensor, " b"],
        previous: Int[Tensor, "b s"],
        time: Int[Tensor, " b"],
        keys: Float[Tensor, "l slots b n h d"],
        values: Float[Tensor, "l slots b n h d"],
        guidance: Float[Tensor, ""] | None = None,
    ) -> Int32[Tensor, "b s"]:
        """Samples every masked token of a frame and keeps `count` of them.

        Args:
            tokens: of the frame so far; `vocabulary` stands where a token is masked.
            count: how many tokens to keep.
            noise: standard Gumbel noise.
            temperature: above 0. For the most likely tokens take 1, and noise of zeros.
            action: that leads to the frame.
            previous: tokens of the frame before.
            time, keys, values: of the dynamics, as `StartGame` and `CommitFrame` return them.
            guidance: as of `SamplingConfig`, above 0; the dynamics then run twice. None is 0.

        Returns:
            The tokens with those positions filled.
        """
        game = (action, previous, time, keys, values)
        logits, sampled = self._sampled(tokens, noise, temperature, guidance, *game)
        masked, first = tokens == self.dynamics.mask_token, self.dynamics.coarse_tokens
        if first:  # the others wait for these
            waiting = masked[:, :first].any(dim=1, keepdim=True)
            masked = torch.cat([masked[:, :first], masked[:, first:] & ~waiting], dim=1)
        scores = maskgit.confidence(logits, sampled).masked_fill(~masked, -torch.inf)
        return torch.where(_ranks(scores) < count, sampled, tokens.long()).int()


class CommitFrame(_StepFunction):
    """The dynamics' caches once a finished frame is added.

    Args:
        dynamics: of the world.
    """

    def forward(
        self,
        tokens: Int[Tensor, "b s"],
        action: Int[Tensor, " b"],
        previous: Int[Tensor, "b s"],
        time: Int[Tensor, " b"],
        keys: Float[Tensor, "l slots b n h d"],
        values: Float[Tensor, "l slots b n h d"],
    ) -> Tensors:
        """Adds a frame to the caches.

        Args:
            tokens: of the frame, none masked.
            action: that led to it.
            previous: tokens of the frame before.
            time, keys, values: before this frame.

        Returns:
            The number of frames (B,) int32, keys and values with this frame.
        """
        context = self._context(action, previous, time, keys, values)
        cache = self.dynamics.commit(tokens.long(), context).cache
        return cache.time.int(), cache.keys, cache.values


class DecodeFrame(nn.Module):
    """The decoder: tokens of a frame to its pixels.

    Args:
        tokenizer: of the world.
    """

    def __init__(self, tokenizer: TokenizerBackbone):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(
        self,
        tokens: Int[Tensor, "b s"],
        time: Int[Tensor, " b"],
        *cached: Tensor,
    ) -> Tensors:
        """Decodes a frame after those in the decoder's caches.

        Args:
            tokens: of the frame, none masked.
            time: number of frames before this one.
            cached: tensors of the decoder, as `StartGame` and this module return them.

        Returns:
            The frame (B, H, W, 3) uint8, and the decoder's tensors with it.
        """
        cache = DecoderCache(cached, time.long())
        frame, cache = self.tokenizer.decode_step(tokens.long(), cache)
        return frame, *cache.tensors


def step_inputs(
    tokens: Int[Tensor, "b s"],
    number: int,
    keys: Int[Tensor, " b"],
    dynamics: Dynamics,
    sampling: SamplingConfig,
) -> tuple[Bool[Tensor, "b s"], Int32[Tensor, ""], Float[Tensor, "b s v"], Float[Tensor, ""]]:
    """Computes what is random in a MaskGIT step, from the same counters as `Genie.step`.

    Args:
        tokens: of the frame so far.
        number: of the MaskGIT step, from 1 to the length of `maskgit.step_counts`.
        keys: `rng.make_keys` of the games' seeds and numbers of frames.
        dynamics: of the world; its sizes are used.
        sampling: as of `Genie.step`.

    Returns:
        Where to sample, how many tokens to keep, the noise, and the temperature above 0.
    """
    total, vocabulary = dynamics.tokens_per_frame, dynamics.vocabulary
    counts = [total, *maskgit.step_counts(total, sampling, dynamics.coarse_tokens)]
    before, after = counts[number - 1], counts[number]
    ranked = maskgit.fixed_order(sampling.order, dynamics.grid, keys, dynamics.coarse_tokens)
    first = dynamics.coarse_tokens
    positions = maskgit.step_positions(
        tokens.long(), dynamics.mask_token, ranked, total - before, after, first
    )
    fill = torch.zeros(len(keys), total, dtype=torch.bool, device=keys.device)
    noise = torch.zeros(len(keys), total, vocabulary, device=keys.device)
    greedy = sampling.temperature == 0
    if not greedy:
        sampled = rng.gumbel(keys + number, (positions.shape[1], vocabulary))
        noise.scatter_(1, positions[..., None].expand_as(sampled), sampled)
    temperature = torch.tensor(1.0 if greedy else sampling.temperature, device=keys.device)
    count = torch.tensor(before - after, dtype=torch.int32, device=keys.device)
    return fill.scatter(1, positions, True), count, noise, temperature


def _ranks(scores: Float[Tensor, "b s"]) -> Int[Tensor, "b s"]:
    """Returns the place of each score in a stable order from the largest, without a sort.

    Exported graphs run where sorting is missing or not stable.
    """
    index = torch.arange(scores.shape[1], device=scores.device)
    one, other = scores[:, :, None], scores[:, None, :]
    earlier = index < index[:, None]
    return ((other > one) | ((other == one) & earlier)).sum(dim=2)
