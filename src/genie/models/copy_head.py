"""From features to logits of tokens, with or without a way to repeat the frame before."""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

NEIGHBOUR_DIM = 32
"""Features of a neighbour; a token sees nine in the frame before and nine in its own."""


class TokenHead(nn.Module):
    """Features to logits of tokens, nothing else: neighbours are left to attention.

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
        """Features of the tokens of the frame before; none."""
        return None

    def beside(self, tokens: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"] | None:
        """Features of the tokens around each; none."""
        return None

    def forward(
        self, x: Float[Tensor, "*b d"], previous: Int[Tensor, "*b"]
    ) -> Float[Tensor, "*b v"]:
        """Logits, from features and the token of the frame before at the same place."""
        return self.linear(x).float()

    def add_copy_logit(self, logits: Tensor, previous: Tensor, what: Tensor) -> Tensor:
        """Adds to the logit of the token of the frame before, where that is known."""
        known = previous != self.mask_token
        return logits.scatter_add(-1, (previous * known)[..., None], what * known[..., None])


class CopyHead(TokenHead):
    """A head that can predict the token of the frame before through a single number.

    Each token also knows those at its place and beside it, of the frame before and of what its own
    frame has already. Otherwise attention has to find neighbours, and copying is learned token by
    token.

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
        nn.init.zeros_(self.drawn.weight)  # at first the frame before says more
        self.around = nn.Conv2d(2 * NEIGHBOUR_DIM, width, kernel_size=3, padding=1)
        self.copy = nn.Linear(width, 1)
        nn.init.zeros_(self.copy.weight)  # copying starts as likely as all else together
        nn.init.constant_(self.copy.bias, math.log(vocabulary))

    def before(self, previous: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"]:
        """Features of the tokens of the frame before, at the same place and beside it."""
        return self._neighbourhood(self.previous(previous), slice(NEIGHBOUR_DIM))

    def beside(self, tokens: Int[Tensor, "b t s"]) -> Float[Tensor, "b t s d"]:
        """Features of the tokens around each that its own frame has already."""
        return self._neighbourhood(self.drawn(tokens), slice(NEIGHBOUR_DIM, None))

    def forward(
        self, x: Float[Tensor, "*b d"], previous: Int[Tensor, "*b"]
    ) -> Float[Tensor, "*b v"]:
        """Logits, from features and the token of the frame before at the same place."""
        return self.add_copy_logit(super().forward(x, previous), previous, self.copy(x).float())

    def _neighbourhood(self, neighbours: Tensor, part: slice) -> Tensor:
        """What stands in the 3x3 places around each: a part of the convolution's channels."""
        grid = neighbours.unflatten(2, self.grid).flatten(0, 1).permute(0, 3, 1, 2)
        bias = self.around.bias if part.start is None else None  # once
        x = F.conv2d(grid, self.around.weight[:, part], bias, padding=1)
        return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, neighbours.shape[:2])
