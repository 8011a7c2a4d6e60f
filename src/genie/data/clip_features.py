"""Cheap figures of a clip that tell gameplay from menus, overlays, stills and noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64, UInt8

PAIRS = 32
"""Most pairs of successive frames that are looked at, evenly over a clip."""
CHANGED = 12
"""Of 255; less is compression."""
EDGE = 24
"""Of 255, between neighbouring pixels."""
_BRIGHTNESS, _SATURATION = 8, 4
_GREY = np.array([0.299, 0.587, 0.114], np.float32)

FEATURES = (
    *(f"brightness_{number}" for number in range(_BRIGHTNESS)),
    *(f"saturation_{number}" for number in range(_SATURATION)),
    "contrast", "edges", "flat", "motion", "motion_spread", "changed", "changed_spread",
    "never_changed",
)  # fmt: skip
"""Names of the features, in their order."""


def pairs_of(length: int) -> Int64[np.ndarray, " n"]:
    """Returns the first frames of the pairs that are looked at in a clip of `length` frames."""
    count = min(length - 1, PAIRS)
    return np.linspace(0, length - 2, count).round().astype(np.int64)


def clip_features(pairs: UInt8[np.ndarray, "n 2 h w 3"]) -> Float64[np.ndarray, " features"]:
    """Returns the figures of a clip, in the order of `FEATURES`.

    Args:
        pairs: successive frames, at the places of `pairs_of`.

    Returns:
        Shares of pixels by brightness and by saturation. Then the standard deviation of brightness,
        the share of pixels at edges, and of those like their neighbour. Then the logarithm of the
        mean difference between frames and its spread, the share of pixels that change and its
        spread, and the share that never changes.
    """
    first = pairs[:, 0]
    grey = pairs.astype(np.float32) @ _GREY
    change = np.abs(pairs[:, 1].astype(np.int16) - first).max(axis=3)
    motion, changed = change.mean(axis=(1, 2)) / 255, (change > CHANGED).mean(axis=(1, 2))
    still = grey.max(axis=(0, 1)) - grey.min(axis=(0, 1)) <= CHANGED
    steps = np.abs(np.diff(grey[:, 0], axis=2))
    largest, smallest = first.max(axis=3), first.min(axis=3)
    saturation = 1 - smallest / np.maximum(largest, 1)
    return np.array(
        [
            *_shares(grey[:, 0] / 256, _BRIGHTNESS),
            *_shares(saturation, _SATURATION),
            grey[:, 0].std(axis=(1, 2)).mean() / 255,
            (steps > EDGE).mean(),
            (steps < 1).mean(),
            np.log(1e-4 + motion.mean()),
            np.log(1e-4 + motion.std()),
            changed.mean(),
            changed.std(),
            still.mean(),
        ],
        np.float64,
    )


def features_of(
    read: Callable[[Int64[np.ndarray, " n"]], UInt8[np.ndarray, "n 2 h w 3"]],
    start: int,
    length: int,
) -> Float64[np.ndarray, " features"]:
    """Returns the figures of a clip.

    Args:
        read: returns the frames at given places, each with the one after it.
        start: first frame of the clip.
        length: number of its frames, at least two.
    """
    return clip_features(read(start + pairs_of(length)))


def _shares(values: np.ndarray, bins: int) -> np.ndarray:
    """Returns the share of values, 0..1, in each of some equal bins."""
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    return np.bincount(places.ravel(), minlength=bins) / places.size
