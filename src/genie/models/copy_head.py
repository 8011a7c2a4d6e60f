"""Output layers of the dynamics: features to logits, with or without a logit for copying."""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

NEIGHBOUR_DIM = 32
"""Features per neighbour. A token has nine in the frame before and nine in its own frame."""


class TokenHead(nn.Module):
    """A linear layer from features to logits; neighbours are left to attention.

    Args:
        width: features per token.
        vocabulary: V.
    """

    def __init__(self, width: int, vocabulary: int):
        super().__init__()
        self.mask_token = vocabulary
        self.linear = nn.Linear(width, vocabulary)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def before(self, previous: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"] | None:
        """Returns features of the tokens of the frame before: none here."""
        return None

    def beside(self, tokens: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"] | None:
        """Returns features of the tokens around each token: none here."""
        return None

    def forward(
        self, x: Float[Tensor, "*b d"], previous: Int[Tensor, "*b"]
    ) -> Float[Tensor, "*b v"]:
        """Computes logits.

        Args:
            x: features.
            previous: tokens of the frame before, at the same positions.
        """
        return self.linear(x).float()

    def add_copy_logit(self, logits: Tensor, previous: Tensor, what: Tensor) -> Tensor:
        """Adds to the logit of the token of the frame before, where that is known.

        Args:
            logits: (..., V).
            previous: (...) tokens of the frame before; V stands where one is not known.
            what: (..., 1) to add.
        """
        known = previous != self.mask_token
        return logits.scatter_add(-1, (previous * known)[..., None], what * known[..., None])


class CopyHead(TokenHead):
    """An output layer with one more logit, for repeating the token of the frame before.

    Each token also gets features of its 3x3 neighbourhood, in the frame before and among the known
    tokens of its own frame. Without them attention has to find neighbours, and copying is learned
    for each token.

    Args:
        width: features per token.
        vocabulary: V.
        grid: rows and columns of tokens.
    """

    def __init__(self, width: int, vocabulary: int, grid: tuple[int, int]):
        super().__init__(width, vocabulary)
        self.grid = grid
        self.previous = nn.Embedding(vocabulary + 1, NEIGHBOUR_DIM)
        self.drawn = nn.Embedding(vocabulary + 1, NEIGHBOUR_DIM)
        nn.init.zeros_(self.drawn.weight)  # at the start the frame before is more useful
        self.around = nn.Conv2d(2 * NEIGHBOUR_DIM, width, kernel_size=3, padding=1)
        self.copy = nn.Linear(width, 1)
        nn.init.zeros_(self.copy.weight)  # copying starts as likely as all other tokens together
        nn.init.constant_(self.copy.bias, math.log(vocabulary))

    def before(self, previous: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"]:
        """Returns features of the 3x3 neighbourhood of each token in the frame before."""
        return self._neighbourhood(self.previous(previous), slice(NEIGHBOUR_DIM))

    def beside(self, tokens: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"]:
        """Returns features of the 3x3 neighbourhood of each token in its own frame."""
        return self._neighbourhood(self.drawn(tokens), slice(NEIGHBOUR_DIM, None))

    def forward(
        self, x: Float[Tensor, "*b d"], previous: Int[Tensor, "*b"]
    ) -> Float[Tensor, "*b v"]:
        """Computes logits.

        Args:
            x: features.
            previous: tokens of the frame before, at the same positions.
        """
        return self.add_copy_logit(super().forward(x, previous), previous, self.copy(x).float())

    def _neighbourhood(self, neighbours: Tensor, part: slice) -> Tensor:
        """Applies the part of the convolution that belongs to one of the two frames."""
        grid = neighbours.unflatten(2, self.grid).flatten(0, 1).permute(0, 3, 1, 2)
        bias = self.around.bias if part.start is None else None  # once
        x = F.conv2d(grid, self.around.weight[:, part], bias, padding=1)
        return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, neighbours.shape[:2])
