"""Tensors that all processes of a training have in common."""

from __future__ import annotations

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


def same_on_all_ranks(values: Tensor) -> None:
    """Replaces a tensor by that of the first process; with one process it stays as it is."""
    if _several():
        dist.broadcast(values, src=0)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
