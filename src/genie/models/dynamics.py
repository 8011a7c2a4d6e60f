"""The dynamics model: what happens next (MaskGIT over tokens, arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie.core.config import require, require_at_most
from genie.models.coarse_first import coarse_first_masks
from genie.models.copy_head import CopyHead, TokenHead
from genie.models.diversity import diversity_gap
from genie.models.dynamics_state import DynamicsState, StepContext
from genie.models.layers.cache import TemporalCache
from genie.models.layers.compile import compile_method
from genie.models.layers.distributed import rand_rows
from genie.models.layers.modulation import ModulatedBlock
from genie.models.layers.transformer import SpaceTimeBlock, STTransformer, TransformerConfig
from genie.models.masking import (
    MaskRatio,
    corrupt_context,
    masked_cross_entropy,
    sample_mask,
    two_stream_mask,
    with_action_dropout,
)
from genie.models.multiscale import coarse_divergence
from genie.models.token_embedding import Conditioning, TokenEmbedding


@dataclass(frozen=True)
class DynamicsConfig(TransformerConfig):
    """Size and training of the dynamics model.

    The paper's recipe is `context="masked", action_conditioning="add", mask_ratio="uniform",
    context_corruption=0, copy_head=False, changed_token_weight=1, static_action_dropout=0,
    action_dropout=0`.

    Attributes:
        context: "clean" trains each masked frame on clean past frames, as in play, with two streams
            in one forward pass. "masked" is the paper's single stream, in which every frame after
            the first is masked.
        action_conditioning: "add" adds the action to every token of the frame it leads to,
            "prepend" gives that frame one more token, "both" does both. "modulate" scales and
            shifts features of its tokens in every block (`models/layers/modulation.py`).
        mask_ratio: fraction of masked tokens in training. "uniform" is the paper's, in [0.5, 1].
            "cosine" and "linear" follow the mask schedule of that name, down to a single masked
            token. Frames with few masked tokens teach a token to use those sampled before it.
        context_corruption: largest fraction of context tokens replaced by random ones in training.
            The model learns to continue from its own mistakes. The level is an input, 0 in play.
        corruption_levels: number of levels from 0 to `context_corruption`.
        copy_head: each token also gets its 3x3 neighbourhood in the frame before, and those tokens
            of its own frame that are known. One more output is the logit of repeating the token of
            the frame before. Without it, attention has to find neighbours, and copying is learned
            for each token.
        changed_token_weight: weight in the loss of tokens that differ from the frame before.
            `logits` are adjusted for it, so at temperature 1 things change no more often.
        static_action_dropout: fraction of the steps without a changed token that get a random
            action in training. A latent action names what changed, so training never shows an
            action without effect. This option shows it; in return play ignores some actions.
        action_dropout: fraction of all steps that get a random action in training. The model then
            trusts the past more than an action that contradicts it, such as rising in the middle
            of a fall. In return play ignores some actions.
        unconditional_fraction: fraction of all steps whose action is hidden in training ("none
            known"). The model then also learns what comes next whatever the action is, which
            classifier-free guidance needs (Ho and Salimans 2022, arXiv 2207.12598).
        own_context: fraction of the context frames that are the model's own predictions in
            training, as they are in play. The targets stay those of the video, so the model learns
            to come back from its errors (parallel scheduled sampling, Duckworth et al. 2019,
            arXiv 1906.04331). Each pass costs a forward pass more.
        own_context_passes: passes of predictions; each sees those of the pass before as context,
            so errors are as old as the number of passes.
        label_smoothing: smoothing of the cross-entropy's targets, in [0, 1).
        multiscale_weight: weight of a loss at coarser resolutions (`models/multiscale.py`).
        diversity_weight: weight of a loss against predictions that are less diverse than the video
            (`models/diversity.py`).
    """

    layers: int = 4
    width: int = 192
    heads: int = 6
    context: Literal["clean", "masked"] = "clean"
    action_conditioning: Conditioning = "both"
    mask_ratio: MaskRatio = "cosine"
    context_corruption: float = 0.1
    corruption_levels: int = 4
    copy_head: bool = True
    changed_token_weight: float = 5.0
    static_action_dropout: float = 0.0
    action_dropout: float = 0.0
    unconditional_fraction: float = 0.0
    own_context: float = 0.0
    own_context_passes: int = 1
    label_smoothing: float = 0.0
    multiscale_weight: float = 0.0
    diversity_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(self.window >= 2, "window: dynamics need at least 2 frames, the past and the next")
        require(
            self.spatial_attention or self.action_conditioning in ("add", "modulate"),
            f"action_conditioning: {self.action_conditioning!r} gives a frame one more token, and "
            "without attention over space nothing reads it; use 'add' or 'modulate'",
        )
        require(0 <= self.context_corruption <= 1, "context_corruption: must lie in [0, 1]")
        require(self.corruption_levels >= 2, "corruption_levels: must be at least 2")
        require_at_most(self, corruption_levels=1024)
        require(self.changed_token_weight > 0, "changed_token_weight: must be above 0")
        for name in (
            "static_action_dropout",
            "action_dropout",
            "unconditional_fraction",
            "own_context",
        ):
            require(0 <= getattr(self, name) <= 1, f"{name}: must lie in [0, 1]")
        require(self.own_context_passes >= 1, "own_context_passes: must be at least 1")
        require_at_most(self, own_context_passes=64)
        require(0 <= self.label_smoothing < 1, "label_smoothing: must lie in [0, 1)")
        for name in ("multiscale_weight", "diversity_weight"):
            require(getattr(self, name) >= 0, f"{name}: must not be negative")


class Dynamics(nn.Module):
    """The model that predicts the tokens of the next frame from tokens and actions so far.

    Args:
        config: size and training.
        grid: rows and columns of tokens.
        vocabulary: V; token V is the mask.
        num_actions: A; action A means "none known" and stands before the first frame.
        coarse_tokens: of a frame, from the first on, that are drawn before the others.
    """

    def __init__(
        self,
        config: DynamicsConfig,
        grid: tuple[int, int],
        vocabulary: int,
        num_actions: int,
        coarse_tokens: int = 0,
    ):
        super().__init__()
        self.coarse_tokens = coarse_tokens
        self.config, self.grid = config, grid
        self.vocabulary, self.num_actions = vocabulary, num_actions
        self.tokens_per_frame, self.mask_token = grid[0] * grid[1], vocabulary
        self.embedding = TokenEmbedding(
            config.width,
            grid,
            vocabulary,
            num_actions,
            config.corruption_levels,
            config.action_conditioning,
        )
        modulated = config.action_conditioning == "modulate"
        self.transformer = STTransformer(config, ModulatedBlock if modulated else SpaceTimeBlock)
        self.head = (
            CopyHead(config.width, vocabulary, grid)
            if config.copy_head
            else TokenHead(config.width, vocabulary)
        )

    def logits(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]
    ) -> Float[Tensor, "b t s v"]:
        """Computes logits for every token of every frame, in one causal forward pass.

        It is the slow twin of `step_logits` and `commit`. Frame t sees the frames before it as
        given, so play corresponds to a clip in which only the last frame is masked.

        Args:
            tokens: clips; V stands where a token is masked.
            actions: the action between each frame and the next, 0 to A; A means "none known".

        Returns:
            Unnormalised log-probabilities in float32.
        """
        previous = self._shifted(tokens)
        x = self.transformer(self._embed(tokens, previous, self._previous_actions(actions)))
        return self.head(self.embedding.trim(x), previous)

    def prefill(self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]) -> DynamicsState:
        """Makes the state of games that start from clips.

        Args:
            tokens: clips, none masked.
            actions: the action between each frame and the next.
        """
        x = self._embed(tokens, self._shifted(tokens), self._previous_actions(actions))
        return DynamicsState(tokens[:, -1], self.transformer.prefill(x))

    def features(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]
    ) -> Float[Tensor, "b t s f"]:
        """Computes `DynamicsState.features` of every frame of clips, in one causal forward pass.

        Args:
            tokens: clips, none masked.
            actions: the action between each frame and the next.
        """
        x = self._embed(tokens, self._shifted(tokens), self._previous_actions(actions))
        return self.embedding.trim(self.transformer.values(x))

    def step_context(self, action: Int[Tensor, " b"], state: DynamicsState) -> StepContext:
        """Computes what all MaskGIT steps over the next frame share.

        Args:
            action: that leads to the next frame.
            state: of the finished frames.
        """
        previous = self.head.before(state.tokens[:, None])
        embedding = self.embedding.context_embedding(action[:, None], previous)
        return StepContext(state, embedding, state.cache.view())

    def step_logits(
        self, tokens: Int[Tensor, "b s"], context: StepContext, positions: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        """Computes the logits of one MaskGIT step; the state is only read.

        Args:
            tokens: of the next frame; V stands where a token is masked.
            context: what `step_context` returned.
            positions: whose logits are wanted.

        Returns:
            Unnormalised log-probabilities in float32.
        """
        x = self._add_tokens(tokens[:, None], context.embedding)
        rows = positions + self.embedding.prepends
        x = self.transformer.step_without_update(x, context.state.cache, context.view, rows)[:, 0]
        return self.head(x, context.state.tokens.gather(1, positions))

    def commit(self, tokens: Int[Tensor, "b s"], context: StepContext) -> DynamicsState:
        """Adds a finished frame and its action to a new state.

        Args:
            tokens: of the frame, none masked.
            context: what `step_context` returned for the frame.
        """
        return DynamicsState(tokens, self._updated_cache(tokens, context))

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles `step_logits` and `commit`; each batch size has a graph."""
        compile_method(self, "step_logits", *args, dynamic_argument=2, **options)
        compile_method(self, "_updated_cache", *args, **options)

    def _updated_cache(self, tokens: Tensor, context: StepContext) -> TemporalCache:
        x = self._add_tokens(tokens[:, None], context.embedding)
        return self.transformer.updated_cache(x, context.state.cache, context.view)

    def loss(
        self,
        tokens: Int[Tensor, "b t s"],
        actions: Int[Tensor, "b t-1"],
        progress: float = 1.0,
        mask_ratio: MaskRatio | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Computes the cross-entropy of masked tokens in frames 1 to T - 1.

        Args:
            tokens: clips of T >= 2 frames.
            actions: the action between each frame and the next; in training some are replaced
                (`static_action_dropout`, `action_dropout`) or hidden (`unconditional_fraction`).
            progress: fraction of the training budget that is used, in [0, 1]; not needed here.
            mask_ratio: in place of the configuration's, to compare models on the same masks.

        Returns:
            The loss and metrics, as `masked_cross_entropy` defines them.
        """
        config = self.config
        masked, learned = self._masks(tokens[:, 1:], mask_ratio or config.mask_ratio)
        corruption = config.context_corruption if self.training else 0.0
        level, context = corrupt_context(
            tokens, self.vocabulary, corruption, config.corruption_levels
        )
        actions = self._with_dropout(tokens, actions) if self.training else actions
        previous_actions = self._previous_actions(actions)
        if self.training and config.own_context:
            context = self._with_own_frames(context, previous_actions, level)
        streams = self._two_streams if config.context == "clean" else self._one_stream
        x, previous = streams(tokens, context, masked, previous_actions, level)
        loss, logs = masked_cross_entropy(
            self.head,
            x,
            previous,
            tokens,
            learned,
            changed_token_weight=config.changed_token_weight,
            label_smoothing=config.label_smoothing,
        )
        if config.multiscale_weight or config.diversity_weight:
            loss = loss + self._whole_frame_loss(x, previous, tokens[:, 1:], learned)
        return loss, logs

    def weighted_loss(
        self,
        tokens: Int[Tensor, "b t s"],
        actions: Int[Tensor, "b t-1"],
        weights: Float[Tensor, "b t-1"],
    ) -> Float[Tensor, ""]:
        """Computes the loss of clips whose frames count differently, under the conditions of play.

        No context is corrupted and no action replaced, so that a frame is learned as an answer to
        its action.

        Args:
            tokens: clips of T >= 2 frames.
            actions: the action between each frame and the next.
            weights: of frames 1 to T - 1, not negative.

        Returns:
            The weighted cross-entropy of masked tokens over their number, whatever the weights.
        """
        masked, learned = self._masks(tokens[:, 1:], self.config.mask_ratio)
        level = torch.zeros_like(tokens[:, 0, 0])
        streams = self._two_streams if self.config.context == "clean" else self._one_stream
        x, previous = streams(tokens, tokens, masked, self._previous_actions(actions), level)
        loss, _ = masked_cross_entropy(
            self.head,
            x,
            previous,
            tokens,
            learned,
            changed_token_weight=self.config.changed_token_weight,
            label_smoothing=self.config.label_smoothing,
            weights=weights,
        )
        return loss

    def _masks(self, tokens: Tensor, ratio: MaskRatio) -> tuple[Tensor, Tensor]:
        """Where tokens are masked, and which of them are learned."""
        if self.coarse_tokens:
            return coarse_first_masks(tokens, ratio, self.coarse_tokens)
        masked = sample_mask(tokens, ratio)
        return masked, masked

    def _whole_frame_loss(
        self, x: Tensor, previous: Tensor, tokens: Tensor, masked: Tensor
    ) -> Tensor:
        """The losses that look at all tokens of frames at once."""
        config, logits = self.config, self.head(x, previous)
        loss = logits.new_zeros(())
        if config.multiscale_weight:
            coarse = coarse_divergence(logits, tokens, masked, self.grid)
            loss = loss + config.multiscale_weight * coarse
        if config.diversity_weight:
            loss = loss + config.diversity_weight * diversity_gap(logits, tokens, masked)
        return loss

    def _with_dropout(self, tokens: Tensor, actions: Tensor) -> Tensor:
        config = self.config
        return with_action_dropout(
            tokens,
            actions,
            self.num_actions,
            everywhere=config.action_dropout,
            static=config.static_action_dropout,
            hidden=config.unconditional_fraction,
        )

    @torch.no_grad()
    def _with_own_frames(self, given: Tensor, previous_actions: Tensor, level: Tensor) -> Tensor:
        """Replaces some frames of a context by what the model samples for them in one step."""
        streams = self._two_streams if self.config.context == "clean" else self._one_stream
        everywhere = torch.ones_like(given[:, 1:], dtype=torch.bool)
        shape = given[:, 1:, :1].shape
        chosen = rand_rows(*shape, device=given.device) < self.config.own_context
        context = given
        for _ in range(self.config.own_context_passes):
            x, previous = streams(given, context, everywhere, previous_actions, level)
            logits = self.head(x, previous)
            # The same noise in all processes: that of all clips would take too much memory.
            sampled = (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=-1)
            frames = torch.where(chosen, sampled, given[:, 1:])
            context = torch.cat([given[:, :1], frames], dim=1)
        return context

    def _two_streams(
        self,
        tokens: Tensor,
        context: Tensor,
        masked: Tensor,
        previous_actions: Tensor,
        level: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Runs clean frames 0 to T - 2 and masked copies of frames 1 to T - 1 at once.

        Returns features of the copies, and the tokens of the frame before each.
        """
        past = context[:, :-1]
        masked_frames = tokens[:, 1:].masked_fill(masked, self.mask_token)
        frames = torch.arange(tokens.shape[1], device=tokens.device)
        x = self._embed(
            torch.cat([past, masked_frames], dim=1),
            torch.cat([self._shifted(past), past], dim=1),
            torch.cat([previous_actions[:, :-1], previous_actions[:, 1:]], dim=1),
            level,
        )
        positions = torch.cat([frames[:-1], frames[1:]])
        mask = two_stream_mask(tokens.shape[1], self.config.window, tokens.device)
        x = self.embedding.trim(self.transformer(x, positions, mask))
        return x[:, past.shape[1] :], past

    def _one_stream(
        self,
        tokens: Tensor,
        context: Tensor,
        masked: Tensor,
        previous_actions: Tensor,
        level: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Runs the paper's single stream, in which every frame after the first is masked."""
        frames = context[:, 1:].masked_fill(masked, self.mask_token)
        frames = torch.cat([tokens[:, :1], frames], dim=1)
        x = self.transformer(self._embed(frames, self._shifted(frames), previous_actions, level))
        return self.embedding.trim(x)[:, 1:], frames[:, :-1]

    def _embed(
        self,
        tokens: Tensor,
        previous: Tensor,
        previous_actions: Tensor,
        level: Tensor | None = None,
    ) -> Tensor:
        before = self.head.before(previous)
        context = self.embedding.context_embedding(previous_actions, before, level)
        return self._add_tokens(tokens, context)

    def _add_tokens(self, tokens: Tensor, context: Tensor) -> Tensor:
        return self.embedding.add_tokens(tokens, context, self.head.beside(tokens))

    def _shifted(self, tokens: Tensor) -> Tensor:
        """Returns the tokens of the frame before each; before the first they are masked."""
        return torch.cat([torch.full_like(tokens[:, :1], self.mask_token), tokens[:, :-1]], dim=1)

    def _previous_actions(self, actions: Tensor) -> Tensor:
        """Returns the action that led to each frame; for the first, A: none known."""
        none = actions.new_full((len(actions), 1), self.num_actions)
        return torch.cat([none, actions], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[prefix + current_name(name.removeprefix(prefix))] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def current_name(name: str) -> str:
    """Returns today's name of a weight of the dynamics, from its name in files of version 0.1."""
    first = name.partition(".")[0]
    if first in ("position", "token", "action", "level"):
        return f"embedding.{name}"
    if first in ("previous", "drawn", "around", "copy"):
        return f"head.{name}"
    return {"head.weight": "head.linear.weight", "head.bias": "head.linear.bias"}.get(name, name)


def first_name(name: str) -> str:
    """Returns the name of a weight in files of version 0.1; the inverse of `current_name`."""
    outer, _, rest = name.partition(".")
    if outer == "head" and rest.startswith("linear."):
        return "head." + rest.removeprefix("linear.")
    return rest if outer in ("embedding", "head") else name
