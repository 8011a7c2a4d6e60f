"""k-means in parts: k-means++, the iterations of Lloyd, and the distance that is left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nearest(points: Float[Tensor, "n dim"], centres: Tensor) -> Int[Tensor, " n"]:
    """Returns the index of the nearest centre for each point; centres are (k, dim)."""
    # |p - c|^2 without the part that is the same for every centre.
    centres = centres.float()
    distance = torch.addmm(centres.square().sum(1), points, centres.T, alpha=-2)
    return distance.argmin(dim=1)


def count(codes: Int[Tensor, "*b"], size: int) -> Float[Tensor, " size"]:
    """Counts how often each of `size` codes occurs; unlike `bincount` it never waits for a GPU."""
    codes = codes.flatten()
    ones = torch.ones(len(codes), device=codes.device)
    return ones.new_zeros(size).index_add_(0, codes, ones)


def cluster_sums(
    points: Float[Tensor, "n dim"], codes: Int[Tensor, " n"], size: int
) -> tuple[Float[Tensor, " size"], Float[Tensor, "size dim"]]:
    """Returns the number of points of each of `size` codes, and their sums."""
    sums = points.new_zeros(size, points.shape[1]).index_add_(0, codes, points)
    return count(codes, size), sums


def kmeans_plus_plus(
    points: Float[Tensor, "n dim"],
    centres: Float[Tensor, "m dim"],
    size: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "size dim"]:
    """Adds points to centres by k-means++ (Arthur and Vassilvitskii 2007) until there are `size`.

    Each new centre is a point, chosen with probability proportional to its squared distance from
    the nearest centre.

    Args:
        points: to choose from.
        centres: that are given, at least one.
        size: number of centres wanted.
        generator: of random numbers; PyTorch's own when left out.
    """
    while len(centres) < size:
        distance = torch.cdist(points, centres).amin(dim=1).square()
        chosen = torch.multinomial(distance + 1e-12, 1, generator=generator)
        centres = torch.cat([centres, points[chosen]])
    return centres


def lloyd(
    points: Float[Tensor, "n dim"], centres: Float[Tensor, "k dim"], iterations: int, fixed: int = 0
) -> Float[Tensor, "k dim"]:
    """Runs Lloyd's algorithm: moves each centre to the mean of the points nearest to it.

    Args:
        points: to be grouped.
        centres: to start from; a centre without points does not move.
        iterations: number of updates.
        fixed: the first so many centres do not move either.
    """
    for _ in range(iterations):
        counts, sums = cluster_sums(points, nearest(points, centres), len(centres))
        moves = counts > 0
        moves[:fixed] = False
        centres = torch.where(moves[:, None], sums / counts.clamp(min=1)[:, None], centres)
    return centres


def kmeans(
    points: Float[Tensor, "n dim"], start: Callable[[], Tensor], iterations: int, starts: int
) -> Float[Tensor, "k dim"]:
    """Runs k-means from several starts and returns the best centres.

    Args:
        points: to be grouped.
        start: makes centres (k, dim) to start from, different ones at each call.
        iterations: of each start.
        starts: number of starts.
    """
    found = [lloyd(points, start(), iterations) for _ in range(starts)]
    return min(found, key=lambda centres: distortion(points, centres))


def distortion(points: Float[Tensor, "n dim"], centres: Float[Tensor, "k dim"]) -> float:
    """Returns the mean squared difference between points and their nearest centre."""
    return (points - centres[nearest(points, centres)]).square().mean().item()
