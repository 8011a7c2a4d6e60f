"""Rotary positions in time (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary(positions: Int[Tensor, "*t"], width: int) -> Float[Tensor, "2 *t half"]:
    """Computes cosines and sines of rotary positions for vectors of `width` features.

    Angles are counted in integers of 2**-32 of a turn. So they are exact in a game of any length,
    also on devices without double precision. Products wrap at 32 bits, so runtimes without 64-bit
    integers compute the same angles.

    Args:
        positions: frame numbers.
        width: features per head, an even number.
    """
    turns = positions[..., None].int() * _turns_per_frame(width // 2, positions.device)
    low = turns & 0xFF
    high = (turns - low).to(torch.float32)  # exact, because it has 24 bits
    unsigned = torch.where(turns < 0, high + 2**32, high) + low.to(torch.float32)
    angles = unsigned * (2 * math.pi / 2**32)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Float[Tensor, "*b t d"], angles: Float[Tensor, "2 *t half"]) -> Tensor:
    """Rotates each pair of features by an angle.

    Args:
        x: queries or keys.
        angles: of `rotary`, for their frame numbers.
    """
    cos, sin = angles.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


_TURNS: dict[tuple[int, str, int | None], Tensor] = {}
"""A table, because compiled graphs would compute what `functools.cache` keeps at every call."""


def _turns_per_frame(pairs: int, device: torch.device) -> Tensor:
    key = (pairs, device.type, device.index)
    if key in _TURNS:
        return _TURNS[key]
    rates = [10_000.0 ** (-pair / pairs) for pair in range(pairs)]
    turns = [round(rate / (2 * math.pi) * 2**32) for rate in rates]
    made = torch.tensor(turns, dtype=torch.int32, device=device)
    if not torch.compiler.is_exporting():  # which makes tensors without values
        _TURNS[key] = made
    return made
