"""Fréchet distances between sets of frames, in the features of an extractor that is named.

What the distance says depends on the extractor, so a figure is only ever quoted with its name. It
is called FID (Heusel et al. 2017, arXiv 1706.08500) for an Inception network and FVD (Unterthiner
et al. 2018, arXiv 1812.01717) for an I3D network; neither comes with this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


@runtime_checkable
class Extractor(Protocol):
    """Makes features of clips; each clip begins with the frame before those that count."""

    @property
    def name(self) -> str:
        """What stands beside every figure."""
        ...

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b n d"]:
        """Rows of features: n is t - 1 for frames or steps between them, 1 for whole clips."""
        ...


class Pixels:
    """Colours averaged over a grid: needs no network and no labels, and is the same everywhere.

    It sees what lies where and in which colour, and neither sharpness nor motion.

    Args:
        side: rows and columns of the grid.
    """

    def __init__(self, side: int = 8):
        self.side, self.name = side, f"pixels-{side}x{side}"

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 d"]:
        """The averages of every frame but the first, from 0 to 1."""
        pixels = frames[:, 1:].flatten(0, 1).movedim(-1, 1).float() / 255.0
        grid = F.adaptive_avg_pool2d(pixels, (self.side, self.side))
        return grid.flatten(1).unflatten(0, (frames.shape[0], frames.shape[1] - 1))


def frechet_distance(
    mean: Float[Tensor, " d"],
    covariance: Float[Tensor, "d d"],
    other_mean: Float[Tensor, " d"],
    other_covariance: Float[Tensor, "d d"],
) -> float:
    """Returns the squared Fréchet distance of two normal distributions (Dowson and Landau 1982).

    The trace of the root of the product of the covariances is that of a symmetric matrix with the
    same eigenvalues, which stays real whatever the rounding.
    """
    a, b = covariance.double(), other_covariance.double()
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    shared = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    apart = (mean.double() - other_mean.double()).square().sum()
    return max(0.0, (apart + a.trace() + b.trace() - 2 * shared).item())


@dataclass(frozen=True)
class Moments:
    """What a Fréchet distance needs to know of a set of features, whatever its size.

    Attributes:
        count: rows of features.
        total: their sum.
        products: the sum of their outer products.
    """

    count: int
    total: Float[Tensor, " d"]
    products: Float[Tensor, "d d"]

    @classmethod
    def from_features(cls, features: Float[Tensor, "*rows d"]) -> Moments:
        """Sums features up in 64 bits."""
        rows = features.flatten(0, -2).double().cpu()
        return cls(len(rows), rows.sum(0), rows.mT @ rows)

    def __sub__(self, part: Moments) -> Moments:
        """A set without one of its parts."""
        return Moments(
            self.count - part.count, self.total - part.total, self.products - part.products
        )

    def distance(self, other: Moments) -> float:
        """Returns the Fréchet distance to another set; NaN where either has fewer than two rows."""
        if min(self.count, other.count) < 2:
            return float("nan")
        return frechet_distance(*self._normal(), *other._normal())

    def _normal(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        covariance = self.products - self.count * torch.outer(mean, mean)
        return mean, covariance / (self.count - 1)


def real_data_distance(
    parts: Sequence[Float[Tensor, "n d"]], count: int, seed: int, draws: int = 10
) -> tuple[float, int]:
    """Returns how far a few parts of real video, drawn at random, are from the other parts.

    That is what a perfect world would get with as few samples.

    Args:
        parts: features of parts of real video, such as windows.
        count: how many parts are drawn; half of them where there are fewer than twice as many.
        seed: of the draws.
        draws: how often, for a mean.

    Returns:
        The distance, NaN for fewer than two parts; and how many were drawn.
    """
    count = min(count, len(parts) // 2)
    if count < 1:
        return float("nan"), count
    generator, everything = (
        torch.Generator().manual_seed(seed),
        Moments.from_features(torch.cat(list(parts))),
    )
    found = []
    for _ in range(draws):
        chosen = torch.randperm(len(parts), generator=generator)[:count].tolist()
        drawn = Moments.from_features(torch.cat([parts[i] for i in chosen]))
        found.append(drawn.distance(everything - drawn))
    return sum(found) / draws, count
