"""Fréchet distances between sets of frames, in the features of an extractor that is named.

What the distance says depends on the extractor, so a value is only quoted with its name. With an
Inception network it is called FID (Heusel et al. 2017, arXiv 1706.08500), and with an I3D network
FVD (Unterthiner et al. 2018, arXiv 1812.01717). Neither network comes with this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genie.evaluation.metrics.context import Evaluation, RolloutMeasure
from genie.evaluation.metrics.metric import Metric
from genie.evaluation.metrics.rollouts import CONDITIONS
from genie.models.external_networks import Extractor

DRAWS = 10


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
    parts: Sequence[Float[Tensor, "n d"]], count: int, seed: int
) -> tuple[float, int]:
    """Returns how far a few parts of real video, drawn at random, are from the other parts.

    That is what a perfect world would get with as few samples.

    Args:
        parts: features of parts of real video, such as windows.
        count: how many parts are drawn; half of them where there are fewer than twice as many.
        seed: of the draws.

    Returns:
        The mean distance over `DRAWS`, NaN for fewer than two parts; and how many were drawn.
    """
    count = min(count, len(parts) // 2)
    if count < 1:
        return float("nan"), count
    generator = torch.Generator().manual_seed(seed)
    everything, total = Moments.from_features(torch.cat(list(parts))), 0.0
    for _ in range(DRAWS):
        chosen = torch.randperm(len(parts), generator=generator)[:count].tolist()
        drawn = Moments.from_features(torch.cat([parts[i] for i in chosen]))
        total += drawn.distance(everything - drawn)
    return total / DRAWS, count


def features_of_rollouts(extractor: Extractor, prompt_frames: int) -> RolloutMeasure:
    """Returns a function that keeps features of the real frames and of what was played."""

    def measure(frames: Tensor, rollouts: dict[str, Tensor]) -> dict[str, Tensor]:
        before, real = frames[:, prompt_frames - 1 : prompt_frames], frames[:, prompt_frames:]
        return {
            side: extractor.features(torch.cat([before, shown.to(before.device)], dim=1)).cpu()
            for side, shown in ({"real": real} | rollouts).items()
        }

    return measure


def compare_features(
    features: Mapping[str, Float[Tensor, "clips n d"]], name: str, seed: int
) -> dict[str, Any]:
    """Returns the distance of every side from the real frames, and between halves of these.

    Args:
        features: of the "real" frames and of other sides.
        name: of the extractor.
        seed: of the halves.
    """
    moments = {side: Moments.from_features(clips) for side, clips in features.items()}
    real, clips = moments.pop("real"), features["real"]
    return {
        "extractor": name,
        "dimensions": clips.shape[-1],
        "samples": real.count,
        "distance": {side: played.distance(real) for side, played in moments.items()},
        "real_halves": real_data_distance(list(clips), len(clips), seed)[0],
    }


def _frechet(evaluation: Evaluation) -> dict[str, Any]:
    features = {side: torch.cat(parts) for side, parts in evaluation.kept["frechet"].items()}
    return compare_features(features, evaluation.extractor.name, evaluation.config.seed)


FRECHET = Metric(
    key="frechet",
    order=50,
    title="Fréchet distances",
    measure=_frechet,
    rollout_measure=lambda evaluation: features_of_rollouts(
        evaluation.extractor, evaluation.config.prompt_frames
    ),
    cells=(
        (
            "Fréchet distance ({extractor}) of rollouts (copying, reconstruction)",
            *(f"distance.{side}" for side in ("inferred", "copy_last_frame", "reconstruction")),
        ),
    ),
    values={"conditions": CONDITIONS},
)
