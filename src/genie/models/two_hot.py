"""Distributions over numbers of any size: two-hot targets on bins whose distance grows.

The bins are those of DreamerV3 (Hafner et al. 2023, arXiv 2301.04104): `symexp` of even steps. The
gradient does not depend on the size of a number, and the mean of the bins is the expected number.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LIMIT = 10.0
"""Bins reach from -22,025 to 22,025."""
BINS = 127


def bins(count: int = BINS) -> Float[Tensor, " n"]:
    """Returns the numbers that bins stand for, an odd count of them, 0 in the middle."""
    even = torch.linspace(-LIMIT, LIMIT, count)
    return even.sign() * even.abs().expm1()


def two_hot(values: Float[Tensor, "*b"], at: Float[Tensor, " n"]) -> Float[Tensor, "*b n"]:
    """Shares each number out among the two bins around it, so that their mean is the number.

    Args:
        values: numbers; those outside the bins count as the outermost.
        at: the bins.
    """
    values = values.clamp(at[0], at[-1])
    upper = torch.searchsorted(at, values.contiguous()).clamp(1, len(at) - 1)
    low, high = at[upper - 1], at[upper]
    share = ((values - low) / (high - low))[..., None]
    empty = values.new_zeros(*values.shape, len(at))
    return empty.scatter(-1, upper[..., None], share).scatter(-1, upper[..., None] - 1, 1 - share)


def log_likelihood(
    logits: Float[Tensor, "*b n"], values: Float[Tensor, "*b"], at: Float[Tensor, " n"]
) -> Float[Tensor, "*b"]:
    """Returns the negative cross-entropy of two-hot numbers under a distribution over bins."""
    return (logits.log_softmax(-1) * two_hot(values, at)).sum(-1)


def mean(logits: Float[Tensor, "*b n"], at: Float[Tensor, " n"]) -> Float[Tensor, "*b"]:
    """Returns the expected number.

    Opposite bins are summed in pairs, because the outer ones would drown small numbers.
    """
    shares, middle = logits.softmax(-1), len(at) // 2
    pairs = shares[..., middle + 1 :] - shares[..., :middle].flip(-1)
    return (pairs * at[middle + 1 :]).sum(-1)
