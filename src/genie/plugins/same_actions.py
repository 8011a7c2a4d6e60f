"""Which actions do the same: games of two actions from the same prompts, told apart or not.

Games are compared frame by frame. An action is told from another where two of its games are nearer
to each other than to one of the other. Assigning the games to the actions at random says how often
that happens by chance, as in the test of `genie.evaluation.metrics.separation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

MAX_SIDE = 16
"""Frames are compared at this size at most."""
SAME_BELOW = 0.7
"""Actions whose games are told apart less often than this do the same for a player."""
SIGNIFICANT = 0.05


def distances(frames: UInt8[Tensor, "N G T H W 3"]) -> Float[Tensor, "N G G"]:
    """Returns mean absolute differences, in grey levels, of games that have a prompt in common."""
    n, g = frames.shape[:2]
    side = (min(frames.shape[3], MAX_SIDE), min(frames.shape[4], MAX_SIDE))
    small = [
        F.adaptive_avg_pool2d(part.flatten(0, 1).movedim(-1, 1).float(), side) for part in frames
    ]
    points = torch.stack(small).reshape(n, g, -1)
    return torch.cdist(points, points, p=1) / points.shape[-1]


@dataclass
class GameTest:
    """Tells games of different actions apart.

    Attributes:
        between: distances of all games of each prompt, ordered by their action.
        repeats: games of each action.
        permutations: of the games of each prompt.
        generator: of the permutations.
    """

    between: Float[Tensor, "N G G"]
    repeats: int
    permutations: int
    generator: torch.Generator

    def pairs(self, count: int) -> tuple[Float[Tensor, "A A"], Bool[Tensor, "A A"]]:
        """How often two actions are told apart, 0.5 by chance, and which do the same."""
        apart, same = torch.full((count, count), 0.5), torch.ones(count, count, dtype=torch.bool)
        for a in range(count):
            for b in range(a):
                share, p = self._pair(a, b)
                apart[a, b] = apart[b, a] = share
                same[a, b] = same[b, a] = p >= SIGNIFICANT or share < SAME_BELOW
        return apart, same

    def _pair(self, a: int, b: int) -> tuple[float, float]:
        games = self._of(a) + self._of(b)
        between, orders = self.between[:, games][:, :, games], self._orders(len(games))
        both = [_nearer(between, order, self.repeats) for order in (orders, orders.flip(-1))]
        shares = (both[0] + both[1]) / 2
        return shares[0].item(), _p(shares)

    def rest(self, action: int, count: int) -> tuple[float, bool]:
        """How often an action is told from a random other one, and whether that is no chance."""
        games = self._of(action) + [g for b in range(count) if b != action for g in self._of(b)]
        between = self.between[:, games][:, :, games]
        shares = _nearer(between, self._orders(len(games)), self.repeats)
        rarest = max(SIGNIFICANT / count, 1 / (self.permutations + 1))
        return shares[0].item(), shares[0].item() > 0.5 and _p(shares) <= rarest + 1e-9

    def _of(self, action: int) -> list[int]:
        return list(range(action * self.repeats, (action + 1) * self.repeats))

    def _orders(self, games: int) -> Int[Tensor, "P N games"]:
        size = (self.permutations + 1, len(self.between), games)
        orders = torch.rand(size, generator=self.generator).argsort(-1)
        orders[0] = torch.arange(games)
        return orders


def _nearer(
    between: Float[Tensor, "N G G"], orders: Int[Tensor, "P N G"], repeats: int
) -> Float[Tensor, " P"]:
    """How often two of the first games are nearer to each other than to one of the rest."""
    rows = torch.arange(len(between))[:, None, None]
    mine, rest = orders[..., :repeats], orders[..., repeats:]
    inside = between[rows, mine[..., :, None], mine[..., None, :]][..., None]
    outside = between[rows, mine[..., :, None], rest[..., None, :]][..., None, :]
    nearer = (inside < outside).float() + 0.5 * (inside == outside)
    two = ~torch.eye(repeats, dtype=torch.bool)
    return nearer[:, :, two].mean((1, 2, 3))


def _p(shares: Float[Tensor, " P"]) -> float:
    return (shares >= shares[0] - 1e-6).float().mean().item()


def merge(apart: Float[Tensor, "A A"], same: Bool[Tensor, "A A"]) -> list[list[int]]:
    """Joins the nearest groups again and again, as long as all of their actions do the same."""
    groups = [[action] for action in range(len(apart))]
    while True:
        joined = [
            (apart[a][:, b].max().item(), i, j)
            for j, b in enumerate(groups)
            for i, a in enumerate(groups[:j])
            if same[a][:, b].all()
        ]
        if not joined:
            return groups
        _, i, j = min(joined)
        groups[i] += groups.pop(j)
