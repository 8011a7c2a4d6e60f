"""Random numbers as a function of a key and a counter: the same in any batch and on any device.

SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195) on whole tensors: a counter is
multiplied and mixed until each bit depends on all of its bits. No state is kept between calls, and
nothing is sent to a GPU. Bits are equal everywhere; noise is equal up to rounding of logarithms.
"""

from __future__ import annotations

import math
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor

INITIAL_COUNTERS = 2**20
"""Enough for a frame of 1,024 tokens and 2,048 codes; with more, graphs are compiled again."""

STRIDE = 0x9E37_79B9_7F4A_7C15 - 2**64
"""Between the counters of a sequence. Factors are signed numbers, which wrap in the same way."""


def make_keys(seeds: Int[Tensor, " b"], numbers: Int[Tensor, " b"] | int) -> Int[Tensor, " b"]:
    """Makes a key for each pair of seed and number.

    The integers after a key, key + 1 and so on, are independent keys as well.
    """
    return _mixed(_mixed(seeds) + numbers)


def random_bits(keys: Int[Tensor, " b"], count: int) -> Int[Tensor, "b n"]:
    """Returns the first `count` random 64-bit integers of each key."""
    prepare_counters(count, keys.device)
    counters = _COUNTERS[keys.device.type, keys.device.index][:count]
    return _mixed(keys[:, None] + counters)


def integers(keys: Int[Tensor, " b"], count: int, high: int) -> Int[Tensor, "b n"]:
    """Returns random integers from 0 to `high` - 1, `count` for each key."""
    return (random_bits(keys, count) & (2**63 - 1)) % high


def gumbel(keys: Int[Tensor, " b"], shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Returns standard Gumbel noise in float32, between -2.9 and 16.7.

    Args:
        keys: one per player.
        shape: of the noise of each player.
    """
    count = math.prod(shape)
    halves = random_bits(keys, (count + 1) // 2).view(torch.int32)[:, :count]
    # 23 bits as the fraction of a number in [1, 2), and half of the last one: never 0, never 1.
    uniform = (halves & 0x7F_FFFF).bitwise_or_(0x3F80_0000).view(torch.float32).sub_(1 - 2**-24)
    return uniform.log_().neg_().log_().neg_().view(-1, *shape)


_COUNTERS: dict[tuple[str, int | None], Tensor] = {}
_GROWING = Lock()


def prepare_counters(count: int, device: torch.device) -> None:
    """Fills the table of counters up to `count`, if it is shorter.

    Call it before a compiled graph runs. Counters made inside graphs were wrong for sizes that
    vary (PyTorch 2.13 on a CPU; docs/experiments).
    """
    place = (device.type, device.index)
    if place in _COUNTERS and len(_COUNTERS[place]) >= count:
        return
    with _GROWING:  # another thread must not put fewer in their place
        size = max(INITIAL_COUNTERS, 1 << (count - 1).bit_length(), len(_COUNTERS.get(place, ())))
        _COUNTERS[place] = torch.arange(1, size + 1, device=device) * STRIDE


def _mixed(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    x = (x ^ _shifted(x, 30)).mul_(0xBF58_476D_1CE4_E5B9 - 2**64)
    x = x.bitwise_xor_(_shifted(x, 27)).mul_(0x94D0_49BB_1331_11EB - 2**64)
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Tensor, places: int) -> Tensor:
    """Shifts to the right as if numbers had no sign."""
    return (x >> places).bitwise_and_((1 << (64 - places)) - 1)
