"""Clips that look nearly like a clip before them: copies in another size, codec or brightness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

MOMENTS, CELLS = 8, 8
FARTHEST = 0.15
"""Share of the bits that are set in one of two clips which may be set in one only."""
STEP = 2.0
"""Of 255; less is noise."""
LENGTHS = 0.1
"""Share of the frames by which two lengths may differ."""
COLOUR = 24
"""Of 255, by which a channel of two mean colours may differ."""
_BYTES = MOMENTS * CELLS * CELLS // 8
_ONES = np.array([number.bit_count() for number in range(256)], np.uint8)


def signature(frames: UInt8[np.ndarray, "t h w 3"]) -> str:
    """Returns 512 bits of a clip and its mean colour as hexadecimal digits.

    Eight moments, evenly over the clip, are reduced to grids of 8x9 mean brightnesses. Each bit
    says whether a cell is brighter than its left neighbour, as in the difference hash of pictures.
    A copy in another size, codec or brightness has nearly the same bits. One that begins or ends
    elsewhere does not.
    """
    places = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(np.int64)
    grey = np.array(frames[places], np.float32).mean(axis=3)
    cells = _means(_means(grey, 1, CELLS), 2, CELLS + 1)
    bits = np.packbits(cells[:, :, 1:] > cells[:, :, :-1] + STEP)
    colour = frames[places].mean(axis=(0, 1, 2)).astype(np.uint8)
    return (bits.tobytes() + colour.tobytes()).hex()


def _means(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    edges = np.linspace(0, values.shape[axis], count + 1)[:-1].astype(np.int64)
    sums = np.add.reduceat(values, edges, axis=axis)
    sizes = np.maximum(np.diff([*edges, values.shape[axis]]), 1)
    return sums / sizes.reshape([-1 if each == axis else 1 for each in range(values.ndim)])


class NearDuplicates:
    """Finds clips that look nearly like one that was kept before, in the order of the videos.

    Each clip is compared with all that were kept, 67 bytes each.
    """

    def __init__(self) -> None:
        self._bits = np.empty((64, _BYTES), np.uint8)
        self._colours = np.empty((64, 3), np.int16)
        self._lengths = np.empty(64, np.int64)
        self._count = 0

    def is_new(self, clip: Mapping[str, Any]) -> bool:
        """Returns whether no clip before looks like this one, and remembers it if so."""
        told = np.frombuffer(bytes.fromhex(clip["signature"]), np.uint8)
        bits, colour, length = told[:_BYTES], told[_BYTES:].astype(np.int16), clip["length"]
        lengths, colours = self._lengths[: self._count], self._colours[: self._count]
        near = np.abs(lengths - length) <= LENGTHS * length
        alike = np.flatnonzero(near & (np.abs(colours - colour).max(axis=1) <= COLOUR))
        differing = _ONES[self._bits[alike] ^ bits].sum(axis=1)
        if (differing <= FARTHEST * _ONES[self._bits[alike] | bits].sum(axis=1)).any():
            return False
        self._remember(bits, colour, length)
        return True

    def _remember(self, bits: np.ndarray, colour: np.ndarray, length: int) -> None:
        if self._count == len(self._bits):
            for name in ("_bits", "_colours", "_lengths"):
                kept = getattr(self, name)
                setattr(self, name, np.concatenate([kept, np.empty_like(kept)]))
        self._bits[self._count], self._colours[self._count] = bits, colour
        self._lengths[self._count] = length
        self._count += 1

    def without(self, clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the clips that look like none before."""
        return [clip for clip in clips if self.is_new(clip)]
