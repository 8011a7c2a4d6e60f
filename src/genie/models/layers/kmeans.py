"""k-means in parts: k-means++, the iterations of Lloyd, and the distance that is left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nearest(points: Float[Tensor, "n dim"], centres: Tensor) -> Int[Tensor, " n"]:
    """Returns which of the centres (k, dim) is nearest to each point."""
    # |p - c|^2 without the part that is the same for every centre.
    centres = centres.float()
    distance = torch.addmm(centres.square().sum(1), points, centres.T, alpha=-2)
    return distance.argmin(dim=1)


def count(codes: Int[Tensor, "*b"], size: int) -> Float[Tensor, " size"]:
    """Returns how often each code occurs; unlike `bincount` it never waits for the device."""
    codes = codes.flatten()
    ones = torch.ones(len(codes), device=codes.device)
    return ones.new_zeros(size).index_add_(0, codes, ones)


def cluster_sums(
    points: Float[Tensor, "n dim"], codes: Int[Tensor, " n"], size: int
) -> tuple[Float[Tensor, " size"], Float[Tensor, "size dim"]]:
    """Returns how many points have each code, and their sum."""
    sums = points.new_zeros(size, points.shape[1]).index_add_(0, codes, points)
    return count(codes, size), sums


def kmeans_plus_plus(
    points: Float[Tensor, "n dim"],
    centres: Float[Tensor, "m dim"],
    size: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "size dim"]:
    """Returns centres and points added to them, to make `size` in all, as k-means++ adds them.

    A point is the likelier to be taken the farther it is from what is there, by the square of the
    distance. (Arthur and Vassilvitskii 2007.)
    """
    while len(centres) < size:
        distance = torch.cdist(points, centres).amin(dim=1).square()
        chosen = torch.multinomial(distance + 1e-12, 1, generator=generator)
        centres = torch.cat([centres, points[chosen]])
    return centres


def lloyd(
    points: Float[Tensor, "n dim"], centres: Float[Tensor, "k dim"], iterations: int, fixed: int = 0
) -> Float[Tensor, "k dim"]:
    """Moves centres to the mean of the points that they are nearest to, again and again.

    Args:
        points: to be grouped.
        centres: to start from; one that no point is near stays where it is.
        iterations: how often.
        fixed: the first so many centres stay as well.
    """
    for _ in range(iterations):
        counts, sums = cluster_sums(points, nearest(points, centres), len(centres))
        moved = counts > 0
        moved[:fixed] = False
        centres = torch.where(moved[:, None], sums / counts.clamp(min=1)[:, None], centres)
    return centres


def kmeans(
    points: Float[Tensor, "n dim"], start: Callable[[], Tensor], iterations: int, starts: int
) -> Float[Tensor, "k dim"]:
    """Returns centres by Lloyd's iterations, the best of a few starts.

    Args:
        points: to be grouped.
        start: makes centres (k, dim) to start from, others each time.
        iterations: of each start.
        starts: how many.
    """
    found = [lloyd(points, start(), iterations) for _ in range(starts)]
    return min(found, key=lambda centres: distortion(points, centres))


def distortion(points: Float[Tensor, "n dim"], centres: Float[Tensor, "k dim"]) -> float:
    """Returns the mean squared difference between points and their nearest centre."""
    return (points - centres[nearest(points, centres)]).square().mean().item()
