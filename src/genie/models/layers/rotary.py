"""Rotary positions in time (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary(positions: Int[Tensor, "*t"], width: int) -> Float[Tensor, "2 *t half"]:
    """Cosines and sines of rotary positions (Su et al. 2021) for vectors of `width` features.

    Turns are counted in whole numbers of 2**-32 turn, so they are exact for a game of any length,
    also on devices without double precision.
    """
    turns = (positions[..., None] * _turns_per_frame(width // 2, positions.device)) & 0xFFFF_FFFF
    angles = turns.to(torch.float32) * (2 * math.pi / 2**32)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Float[Tensor, "*b t d"], angles: Float[Tensor, "2 *t half"]) -> Tensor:
    """Turns each pair of features by the angle that `rotary` gives for its frame number."""
    cos, sin = angles.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


_TURNS: dict[tuple[int, str, int | None], Tensor] = {}
"""Compiled graphs read this table; what `functools.cache` keeps they would make at every call."""


def _turns_per_frame(pairs: int, device: torch.device) -> Tensor:
    key = (pairs, device.type, device.index)
    if key in _TURNS:
        return _TURNS[key]
    rates = [10_000.0 ** (-pair / pairs) for pair in range(pairs)]
    turns = [round(rate / (2 * math.pi) * 2**32) for rate in rates]
    made = torch.tensor(turns, device=device)
    if not torch.compiler.is_exporting():  # which makes tensors without values
        _TURNS[key] = made
    return made
