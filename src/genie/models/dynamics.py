"""The dynamics model: what happens next (MaskGIT over tokens, arXiv 2402.15391, section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genie.core.config import require, require_at_most
from genie.models.layers.attention import causal_window_mask
from genie.models.layers.cache import TemporalCache, View
from genie.models.layers.compile import compile_method
from genie.models.layers.patches import grid_positions
from genie.models.layers.transformer import STTransformer, TransformerConfig

MaskRatio = Literal["uniform", "cosine", "linear"]

NEIGHBOUR_WIDTH = 32
"""Features of a neighbour; a token sees nine in the frame before and nine in its own."""


@dataclass(frozen=True)
class DynamicsConfig(TransformerConfig):
    """Size and training of the dynamics model.

    Attributes:
        context: "clean" trains each frame, masked, on clean past frames, as it is played (two
            streams in one forward); "masked" is the paper's single masked stream. All of the
            paper's: `context="masked", action_conditioning="add", mask_ratio="uniform",
            context_corruption=0, copy_head=False, changed_token_weight=1, static_action_dropout=0,
            action_dropout=0`.
        action_conditioning: "add" adds the action to every token of the frame it leads to,
            "prepend" gives that frame one more token, "both" does both.
        mask_ratio: share of masked tokens in training: "uniform" in [0.5, 1] (the paper's),
            "cosine" or "linear", which follow the sampling schedule of that name down to a single
            masked token. The more often few are masked, the more a token heeds those drawn already.
        context_corruption: largest share of context tokens replaced by random ones in training, so
            that the model learns to live with its own mistakes; the level is an input, 0 in play.
        corruption_levels: number of levels from 0 to `context_corruption`.
        copy_head: each token also knows those at its place and beside it, of the frame before and
            of what is drawn already of its own, and can predict the one that stood at its place
            through a single number; otherwise attention has to find neighbours, and copying is
            learned token by token.
        changed_token_weight: weight in the loss of tokens that differ from the one before. `logits`
            are adjusted for it, so that drawn at temperature 1 things change no more often.
        static_action_dropout: share of steps in which no token changes that get a random action in
            training. A latent action names what changed, so a button that cannot be followed is
            never seen; this shows that then nothing changes. In return a button is missed now and
            then.
        action_dropout: share of all steps that get a random action in training. The model then
            takes a button that the past makes impossible, such as rising on in the middle of a
            fall, for noise, and follows the past. In return other buttons are missed now and then.
        unconditional_fraction: share of all steps whose action is hidden in training ("none
            known"). The model then also learns what comes next whatever the action is, which
            classifier-free guidance needs (Ho and Salimans 2022, arXiv 2207.12598).
        label_smoothing: of the cross-entropy.
    """

    layers: int = 4
    width: int = 192
    heads: int = 6
    context: Literal["clean", "masked"] = "clean"
    action_conditioning: Literal["add", "prepend", "both"] = "both"
    mask_ratio: MaskRatio = "cosine"
    context_corruption: float = 0.1
    corruption_levels: int = 4
    copy_head: bool = True
    changed_token_weight: float = 5.0
    static_action_dropout: float = 0.0
    action_dropout: float = 0.0
    unconditional_fraction: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Refuses impossible combinations."""
        super().__post_init__()
        require(self.window >= 2, "window: dynamics need at least 2 frames, the past and the next")
        require(
            self.spatial_attention or self.action_conditioning == "add",
            f"action_conditioning: {self.action_conditioning!r} gives a frame one more token, and "
            "without attention over space nothing reads it; use 'add'",
        )
        require(0 <= self.context_corruption <= 1, "context_corruption: must lie in [0, 1]")
        require(self.corruption_levels >= 2, "corruption_levels: must be at least 2")
        require_at_most(self, corruption_levels=1024)
        require(self.changed_token_weight > 0, "changed_token_weight: must be above 0")
        for name in ("static_action_dropout", "action_dropout", "unconditional_fraction"):
            require(0 <= getattr(self, name) <= 1, f"{name}: must lie in [0, 1]")
        require(0 <= self.label_smoothing < 1, "label_smoothing: must lie in [0, 1)")


@dataclass(frozen=True)
class Past:
    """What the dynamics know of a game for one or more players. A value: no call changes it.

    Attributes:
        tokens: (B, S) of the last finished frame.
        cache: keys and values of the frames in the window.
    """

    tokens: Int[Tensor, "b s"]
    cache: TemporalCache

    @property
    def time(self) -> Int[Tensor, " b"]:
        """Number of finished frames per player."""
        return self.cache.time

    def select(self, rows: Int[Tensor, " n"]) -> Past:
        """Returns the past of some of the players, in the order given."""
        return Past(self.tokens[rows], self.cache.select(rows))

    @staticmethod
    def concatenate(pasts: list[Past]) -> Past:
        """Joins the players of several pasts into one batch."""
        return Past(
            torch.cat([past.tokens for past in pasts]),
            TemporalCache.concatenate([past.cache for past in pasts]),
        )


@dataclass(frozen=True)
class Condition:
    """What is known of the next frame before any of its tokens, the same for all passes over it.

    Attributes:
        past: the frames before it.
        fixed: features of the past and the button that its tokens' are added to.
        view: that of the past's cache.
    """

    past: Past
    fixed: Float[Tensor, "b 1 s d"]
    view: View


class Dynamics(nn.Module):
    """Tokens and actions so far to the tokens of the next frame.

    Args:
        config: size and training.
        grid: rows and columns of tokens.
        vocabulary: V; token V is the mask.
        num_actions: A; action A means "none known" and stands before the first frame.
    """

    def __init__(
        self, config: DynamicsConfig, grid: tuple[int, int], vocabulary: int, num_actions: int
    ):
        super().__init__()
        self.config, self.grid = config, grid
        self.vocabulary, self.num_actions = vocabulary, num_actions
        self.tokens_per_frame, self.mask_token = grid[0] * grid[1], vocabulary
        self.prepends = config.action_conditioning in ("prepend", "both")
        self.adds = config.action_conditioning in ("add", "both")
        self.token = nn.Embedding(vocabulary + 1, config.width)
        self.action = nn.Embedding(num_actions + 1, config.width)
        self.level = nn.Embedding(config.corruption_levels, config.width)
        self.position = nn.Parameter(grid_positions(grid, config.width))
        nn.init.normal_(self.level.weight, std=0.02)
        self.transformer = STTransformer(config)
        self.head = nn.Linear(config.width, vocabulary)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if config.copy_head:
            self.previous = nn.Embedding(vocabulary + 1, NEIGHBOUR_WIDTH)
            self.drawn = nn.Embedding(vocabulary + 1, NEIGHBOUR_WIDTH)
            nn.init.zeros_(self.drawn.weight)  # at first the frame before says more
            self.around = nn.Conv2d(2 * NEIGHBOUR_WIDTH, config.width, kernel_size=3, padding=1)
            self.copy = nn.Linear(config.width, 1)
            nn.init.zeros_(self.copy.weight)  # copying starts as likely as all else together
            nn.init.constant_(self.copy.bias, math.log(vocabulary))

    def logits(
        self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]
    ) -> Float[Tensor, "b t s v"]:
        """Logits for every token of every frame, in one plain causal forward.

        Frame t sees frames before it as given, so for a prediction under play conditions only its
        own tokens should be masked. The slow twin of `draft` and `commit`.
        """
        previous = self._shifted(tokens)
        x = self.transformer(self._embed(tokens, previous, self._leading(actions)))
        return self._predict(self._trim(x), previous)

    def prefill(self, tokens: Int[Tensor, "b t s"], actions: Int[Tensor, "b t-1"]) -> Past:
        """The past of players whose games begin with clips."""
        x = self._embed(tokens, self._shifted(tokens), self._leading(actions))
        return Past(tokens[:, -1], self.transformer.prefill(x))

    def condition(self, action: Int[Tensor, " b"], past: Past) -> Condition:
        """What all passes over the next frame share."""
        before, leading = past.tokens[:, None], action[:, None]
        fixed = self._given(before, leading, self.level.weight[0])
        return Condition(past, fixed, past.cache.view())

    def draft(
        self, tokens: Int[Tensor, "b s"], condition: Condition, places: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        """Logits at some places of a frame whose tokens are partly masked; the past is read."""
        x, rows = self._own(tokens[:, None], condition.fixed), places + self.prepends
        x = self.transformer.read(x, condition.past.cache, condition.view, rows)[:, 0]
        return self._predict(x, condition.past.tokens.gather(1, places))

    def commit(self, tokens: Int[Tensor, "b s"], condition: Condition) -> Past:
        """Takes a finished frame, and the action that led to it, into a new past."""
        return Past(tokens, self._remember(tokens, condition))

    def compile(self, *args: Any, **options: Any) -> None:
        """Passes `draft` and `commit` through `torch.compile`, for each number of players."""
        compile_method(self, "draft", *args, varying=2, **options)
        compile_method(self, "_remember", *args, **options)

    def _remember(self, tokens: Tensor, condition: Condition) -> TemporalCache:
        x = self._own(tokens[:, None], condition.fixed)
        return self.transformer.remember(x, condition.past.cache, condition.view)

    def loss(
        self,
        tokens: Int[Tensor, "b t s"],
        actions: Int[Tensor, "b t-1"],
        progress: float = 1.0,
        mask_ratio: MaskRatio | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Cross-entropy of the masked tokens of frames 1 ... T - 1.

        Tokens that change are few, and say what the actions do, so they weigh more. A weight makes
        a model expect what weighs more too often, so the loss adjusts the logit of copying by its
        logarithm (Menon et al. 2021, arXiv 2007.07314), and `logits` stay calibrated. A token
        whose context was corrupted did not change, it is to be repaired, and weighs 1.

        Args:
            tokens: clips of T >= 2 frames.
            actions: the action between each frame and the next; in training some are replaced
                (`static_action_dropout`, `action_dropout`).
            progress: share of the training budget that is spent; not used here.
            mask_ratio: in place of the configuration's, to compare models on the same masks.
        """
        masked = self._draw_mask(tokens[:, 1:], mask_ratio or self.config.mask_ratio)
        level, context = self._corrupt(tokens)
        actions = self._disturbed(tokens, actions)
        streams = self._two_streams if self.config.context == "clean" else self._one_stream
        x, previous = streams(tokens, context, masked, self._leading(actions), level)
        rows = _rows(masked)
        targets, previous = _at(tokens[:, 1:], rows), _at(previous, rows)
        logits = self._predict(_at(x, rows), previous)
        asked, true = _at(masked, rows), previous == _at(tokens[:, :-1], rows)
        changed = true & (targets != previous)
        adjustment = -math.log(self.config.changed_token_weight) * true[:, None]
        errors = F.cross_entropy(
            self._add_to_copy(logits, previous, adjustment),
            targets,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        # Divided by their number and not by their weight, which depends on the targets: that would
        # take weight off the batches in which much changes, and the adjustment would be too much.
        loss = _mean(errors * torch.where(changed, self.config.changed_token_weight, 1.0), asked)
        with torch.no_grad():
            plain = F.cross_entropy(logits, targets, reduction="none")
            hits = (logits.argmax(dim=-1) == targets).float()
            logs = {
                "masked_cross_entropy": _mean(plain, asked),
                "masked_accuracy": _mean(hits, asked),
                "changed_cross_entropy": _mean(plain, asked & changed),
            }
        return loss, logs

    def _two_streams(
        self, tokens: Tensor, context: Tensor, masked: Tensor, leading: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Clean frames 0 ... T - 2, then masked copies of frames 1 ... T - 1.

        Returns features of those copies, and the tokens of the frame before each.
        """
        past = context[:, :-1]
        drafts = tokens[:, 1:].masked_fill(masked, self.mask_token)
        frames = torch.arange(tokens.shape[1], device=tokens.device)
        x = self._embed(
            torch.cat([past, drafts], dim=1),
            torch.cat([self._shifted(past), past], dim=1),
            torch.cat([leading[:, :-1], leading[:, 1:]], dim=1),
            level,
        )
        positions = torch.cat([frames[:-1], frames[1:]])
        mask = two_stream_mask(tokens.shape[1], self.config.window, tokens.device)
        return self._trim(self.transformer(x, positions, mask))[:, past.shape[1] :], past

    def _one_stream(
        self, tokens: Tensor, context: Tensor, masked: Tensor, leading: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The paper's: every frame after the first is masked where it stands."""
        drafts = context[:, 1:].masked_fill(masked, self.mask_token)
        drafts = torch.cat([tokens[:, :1], drafts], dim=1)
        x = self._trim(self.transformer(self._embed(drafts, self._shifted(drafts), leading, level)))
        return x[:, 1:], drafts[:, :-1]

    def _embed(
        self, tokens: Tensor, previous: Tensor, leading: Tensor, level: Tensor | None = None
    ) -> Tensor:
        shift = self.level.weight[0] if level is None else self.level(level)[:, None, None]
        return self._own(tokens, self._given(previous, leading, shift))

    def _given(self, previous: Tensor, leading: Tensor, shift: Tensor) -> Tensor:
        """What is known of frames but for their own tokens."""
        action = self.action(leading)[:, :, None] + shift
        x = self.position + (action if self.adds else shift)
        if self.config.copy_head:
            x = x + self._around(self.previous(previous), slice(NEIGHBOUR_WIDTH))
        if not self.prepends:
            return x
        return torch.cat([action, x.expand(*action.shape[:2], *x.shape[-2:])], dim=2)

    def _own(self, tokens: Tensor, given: Tensor) -> Tensor:
        """Adds what the tokens say that stand in frames already."""
        x = self.token(tokens)
        if self.config.copy_head:
            x = x + self._around(self.drawn(tokens), slice(NEIGHBOUR_WIDTH, None))
        return given + (F.pad(x, (0, 0, 1, 0)) if self.prepends else x)

    def _around(self, neighbours: Tensor, part: slice) -> Tensor:
        """What stands in the 3x3 places around each: a part of the convolution's channels."""
        grid = neighbours.unflatten(2, self.grid).flatten(0, 1).permute(0, 3, 1, 2)
        bias = self.around.bias if part.start is None else None  # once
        x = F.conv2d(grid, self.around.weight[:, part], bias, padding=1)
        return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, neighbours.shape[:2])

    def _predict(self, x: Tensor, previous: Tensor) -> Tensor:
        logits = self.head(x).float()
        if not self.config.copy_head:
            return logits
        return self._add_to_copy(logits, previous, self.copy(x).float())

    def _add_to_copy(self, logits: Tensor, previous: Tensor, what: Tensor) -> Tensor:
        """Adds to the logit of the token of the frame before, where that is known."""
        known = previous != self.mask_token
        return logits.scatter_add(-1, (previous * known)[..., None], what * known[..., None])

    def _shifted(self, tokens: Tensor) -> Tensor:
        """The tokens of the frame before each; none stood before the first."""
        return torch.cat([torch.full_like(tokens[:, :1], self.mask_token), tokens[:, :-1]], dim=1)

    def _trim(self, x: Tensor) -> Tensor:
        return x[:, :, 1:] if self.prepends else x

    def _leading(self, actions: Tensor) -> Tensor:
        """The action that led to each frame; none led to the first."""
        none = actions.new_full((len(actions), 1), self.num_actions)
        return torch.cat([none, actions], dim=1)

    def _draw_mask(self, tokens: Tensor, mask_ratio: MaskRatio) -> Bool[Tensor, "b t s"]:
        """At least one token of every frame is masked."""
        b, t, s = tokens.shape
        spent = torch.rand(b, t, 1, device=tokens.device)
        rate = {
            "uniform": 0.5 + 0.5 * spent,
            "cosine": torch.cos(spent * (math.pi / 2)),
            "linear": 1 - spent,
        }[mask_ratio]
        noise = torch.rand(b, t, s, device=tokens.device)
        return (noise < rate) | (noise == noise.amin(dim=-1, keepdim=True))

    def _disturbed(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Some actions hidden, some random, and more of those in steps that change nothing."""
        config = self.config
        shares = (
            config.static_action_dropout,
            config.action_dropout,
            config.unconditional_fraction,
        )
        if not self.training or not any(shares):
            return actions
        still = (tokens[:, 1:] == tokens[:, :-1]).all(dim=-1)
        chance, again = torch.rand(2, *actions.shape, device=actions.device)
        chosen = (chance < config.action_dropout) | (still & (again < config.static_action_dropout))
        actions = torch.where(chosen, torch.randint_like(actions, self.num_actions), actions)
        if not config.unconditional_fraction:
            return actions
        hidden = torch.rand(actions.shape, device=actions.device) < config.unconditional_fraction
        return actions.masked_fill(hidden, self.num_actions)

    def _corrupt(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """A level per clip, and the tokens with that share replaced by random ones."""
        levels = self.config.corruption_levels
        level = torch.randint(levels, (len(tokens),), device=tokens.device)
        if not self.training or self.config.context_corruption == 0:
            return torch.zeros_like(level), tokens
        share = level[:, None, None] * (self.config.context_corruption / (levels - 1))
        wrong = torch.rand(tokens.shape, device=tokens.device) < share
        return level, torch.where(wrong, torch.randint_like(tokens, self.vocabulary), tokens)


def _rows(masked: Tensor) -> tuple[Tensor, ...] | None:
    """Where something is masked; None for everywhere, on devices that would wait for the number.

    A CPU saves the head on what is not masked; a graph would break, and a GPU stand still.
    """
    everywhere = masked.device.type != "cpu" or torch.compiler.is_compiling()
    return None if everywhere else masked.nonzero(as_tuple=True)


def _at(values: Tensor, rows: tuple[Tensor, ...] | None) -> Tensor:
    return values.flatten(0, 2) if rows is None else values[rows]


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Not a number where there is nothing to take it over."""
    return (values * where).sum() / where.sum()


def two_stream_mask(frames: int, window: int, device: torch.device) -> Bool[Tensor, "n n"]:
    """Who may look at whom over [clean 0 ... T - 2, masked copies of 1 ... T - 1].

    Clean frames see clean frames of their causal window; a masked copy sees the clean frames
    before it in its window, and itself.
    """
    causal = causal_window_mask(frames, window, device)
    clean_to_clean = causal[:-1, :-1]
    masked_to_clean = causal[1:, :-1] & ~torch.eye(frames, dtype=torch.bool, device=device)[1:, :-1]
    itself = torch.eye(frames - 1, dtype=torch.bool, device=device)
    return torch.cat(
        [
            torch.cat([clean_to_clean, torch.zeros_like(itself)], dim=1),
            torch.cat([masked_to_clean, itself], dim=1),
        ]
    )
