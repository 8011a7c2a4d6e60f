"""What all processes of a training have in common, so that their number changes no result.

A batch is the clips of the first process, then those of the second, and so on. All processes start
a step with the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(values: Tensor) -> None:
    """Replaces a tensor by its sum over all processes; with one process it stays as it is."""
    if _several():
        dist.all_reduce(values)


def mean_over_ranks(values: Tensor) -> None:
    """Replaces a tensor by its mean over all processes; with one process it stays as it is."""
    if _several():
        dist.all_reduce(values)
        values /= dist.get_world_size()


def mean_with_gradients(values: Tensor) -> Tensor:
    """Returns the mean over all processes; gradients reach what each of them put in."""
    return _Mean.apply(values) if _several() else values  # type: ignore[return-value]


def rows_over_ranks(values: Tensor, rows: Tensor) -> Tensor:
    """Returns rows of the tensors of all processes, as if one stood after the other.

    Args:
        values: (n, ...) of this process, of the same shape in all.
        rows: (m,) numbers below `count_over_ranks(n)`, the same in all processes.
    """
    if not _several():
        return values[rows]
    own = rows - dist.get_rank() * len(values)
    here = (own >= 0) & (own < len(values))
    picked = values[own.clamp(0, len(values) - 1)]
    picked = picked * here.view(-1, *[1] * (values.ndim - 1))
    dist.all_reduce(picked)
    return picked


def count_over_ranks(count: int) -> int:
    """Returns how many all processes have, of what each has `count`."""
    return count * dist.get_world_size() if _several() else count


def own_rows(draw: Callable[[int], Tensor], rows: int, dim: int = 0) -> Tensor:
    """Returns what is drawn for the clips of this process, when it is drawn for those of all.

    Args:
        draw: gives random numbers for so many clips.
        rows: clips of this process.
        dim: the dimension of clips.
    """
    drawn = draw(count_over_ranks(rows))
    return drawn.narrow(dim, dist.get_rank() * rows, rows) if _several() else drawn


def rand_rows(*shape: int, device: torch.device) -> Tensor:
    """Returns uniform random numbers in [0, 1); the first dimension is that of clips."""
    return own_rows(lambda rows: torch.rand(rows, *shape[1:], device=device), shape[0])


def randint_rows(values: Tensor, high: int) -> Tensor:
    """Returns random integers below `high` of the shape of a tensor (B, ...)."""
    options = {"dtype": values.dtype, "device": values.device}
    return own_rows(
        lambda rows: torch.randint(high, (rows, *values.shape[1:]), **options), len(values)
    )


def randn_rows(values: Tensor) -> Tensor:
    """Returns normal random numbers of the shape of a tensor (B, ...)."""
    options = {"dtype": values.dtype, "device": values.device}
    return own_rows(lambda rows: torch.randn(rows, *values.shape[1:], **options), len(values))


class _Mean(torch.autograd.Function):
    """A mean over processes, of values and of gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        mean = values.clone()
        mean_over_ranks(mean)
        return mean

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        mean = gradient.clone()
        mean_over_ranks(mean)
        return mean


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
