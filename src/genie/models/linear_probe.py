"""A linear probe: what can be read off features without training a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SHRINKAGE = 0.01
"""Share of the mean variance that is added to all, since few samples make it uncertain."""

Probe = Callable[[Tensor], Tensor]


def train_probe(features: Float[Tensor, "n d"], true: Int[Tensor, " n"], size: int) -> Probe:
    """Fits a linear discriminant: classes that share a covariance (Fisher 1936).

    Its solution has a closed form, so that probes take little time beside the games.

    Returns:
        A function from features to the logits of `size` classes.
    """
    features = features.double()
    shown = F.one_hot(true, size).double()
    count = shown.sum(0)
    means = shown.T @ features / count.clamp_min(1)[:, None]
    centred = features - means[true]
    covariance = centred.T @ centred / len(features)
    ridge = SHRINKAGE * covariance.diagonal().mean() + torch.finfo(torch.float32).eps
    covariance += ridge * torch.eye(len(covariance)).to(covariance)
    weight = torch.linalg.solve(covariance, means.T)
    bias = (count / len(true)).log() - (means.T * weight).sum(0) / 2
    return lambda seen: seen.double() @ weight + bias
