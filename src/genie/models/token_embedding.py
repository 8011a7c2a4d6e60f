"""The input features of the dynamics model, from tokens, actions and positions."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genie.models.layers.patches import sincos_positions

Conditioning = Literal["add", "prepend", "both", "modulate"]


class TokenEmbedding(nn.Module):
    """The input features of the dynamics' transformer.

    The parts of a frame that are known before any of its tokens (`context_embedding`) are kept
    apart from what its tokens add (`add_tokens`). All MaskGIT steps over a frame share the first.

    Args:
        width: features per token.
        grid: rows and columns of tokens.
        vocabulary: V; token V is the mask.
        num_actions: A; action A means "none known".
        levels: number of levels of context corruption.
        conditioning: "add" adds the action to every token of the frame it leads to, "prepend" gives
            that frame one more token, "both" does both. "modulate" gives it one more row, which
            `ModulatedBlock` reads.
    """

    def __init__(
        self,
        width: int,
        grid: tuple[int, int],
        vocabulary: int,
        num_actions: int,
        levels: int,
        conditioning: Conditioning,
    ):
        super().__init__()
        self.prepends = conditioning in ("prepend", "both", "modulate")
        self.adds = conditioning in ("add", "both")
        self.token = nn.Embedding(vocabulary + 1, width)
        self.action = nn.Embedding(num_actions + 1, width)
        self.level = nn.Embedding(levels, width)
        self.position = nn.Parameter(sincos_positions(grid, width))
        nn.init.normal_(self.level.weight, std=0.02)

    def context_embedding(
        self,
        previous_actions: Int[Tensor, "b t"],
        before: Float[Tensor, "b t s d"] | None,
        level: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Computes the features of frames without their own tokens.

        Args:
            previous_actions: the action that led to each frame.
            before: features of the tokens of the frame before, if they are used.
            level: of corruption of each clip; 0 when left out.

        Returns:
            One feature vector per token, after that of the action if the action is prepended.
        """
        shift = self.level.weight[0] if level is None else self.level(level)[:, None, None]
        action = self.action(previous_actions)[:, :, None] + shift
        x = self.position + (action if self.adds else shift)
        if before is not None:
            x = x + before
        if not self.prepends:
            return x
        return torch.cat([action, x.expand(*action.shape[:2], *x.shape[-2:])], dim=2)

    def add_tokens(
        self,
        tokens: Int[Tensor, "b t s"],
        context: Float[Tensor, "b t n d"],
        beside: Float[Tensor, "b t s d"] | None,
    ) -> Float[Tensor, "b t n d"]:
        """Adds the features of the tokens that frames have so far.

        Args:
            tokens: of the frames, partly masked.
            context: what `context_embedding` returned.
            beside: features of the tokens around each, if they are used.
        """
        x = self.token(tokens)
        if beside is not None:
            x = x + beside
        return context + (F.pad(x, (0, 0, 1, 0)) if self.prepends else x)

    def trim(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t s d"]:
        """Removes the feature vector of a prepended action."""
        return x[:, :, 1:] if self.prepends else x
