"""Random numbers as a function of a key and a counter: the same in any batch and on any device.

SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195) in whole tensors: a counter is
multiplied and mixed until each bit depends on all of them. There is nothing to remember between
calls, and nothing to send to a GPU. Bits are equal everywhere, noise but for how logarithms round.
"""

from __future__ import annotations

import math
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor

INITIAL_COUNTERS = 2**20
"""Enough for a frame of 1,024 tokens of 2,048 kinds; more would have graphs compiled again."""

STRIDE = 0x9E37_79B9_7F4A_7C15 - 2**64
"""Between the counters of a sequence. Factors are written as signed numbers, which wrap alike."""


def make_keys(seeds: Int[Tensor, " b"], numbers: Int[Tensor, " b"] | int) -> Int[Tensor, " b"]:
    """A key for each pair of seed and number.

    The numbers beside a key, key + 1 and so on, are keys as good: mixing leaves nothing in common.
    """
    return _mixed(_mixed(seeds) + numbers)


def random_bits(keys: Int[Tensor, " b"], count: int) -> Int[Tensor, "b n"]:
    """The first `count` numbers of 64 random bits that belong to each key."""
    prepare_counters(count, keys.device)
    counters = _COUNTERS[keys.device.type, keys.device.index][:count]
    return _mixed(keys[:, None] + counters)


def integers(keys: Int[Tensor, " b"], count: int, high: int) -> Int[Tensor, "b n"]:
    """Numbers 0 ... `high` - 1, all as likely as far as 63 bits can tell."""
    return (random_bits(keys, count) & (2**63 - 1)) % high


def gumbel(keys: Int[Tensor, " b"], shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """Standard Gumbel noise in float32; it lies between -2.9 and 16.7, so logits always count."""
    count = math.prod(shape)
    halves = random_bits(keys, (count + 1) // 2).view(torch.int32)[:, :count]
    # 23 bits as the fraction of a number in [1, 2), and half of the last one: never 0, never 1.
    uniform = (halves & 0x7F_FFFF).bitwise_or_(0x3F80_0000).view(torch.float32).sub_(1 - 2**-24)
    return uniform.log_().neg_().log_().neg_().view(-1, *shape)


_COUNTERS: dict[tuple[str, int | None], Tensor] = {}
_GROWING = Lock()


def prepare_counters(count: int, device: torch.device) -> None:
    """Makes what `random_bits` reads for `count` numbers, where it is not there.

    To be called before compiled graphs are: what they make themselves came out wrong (PyTorch 2.13
    on a CPU, sizes that vary; docs/experiments), what they find here does not.
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
    """To the right, as if there were no sign."""
    return (x >> places).bitwise_and_((1 << (64 - places)) - 1)
