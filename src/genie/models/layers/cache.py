"""Keys and values of past frames as a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genie.models.layers.rotary import rotary

CacheView = tuple[Float[Tensor, "2 b 1 1 half"], Float[Tensor, "slots b 1 1"]]
"""Rotary angles of a frame, and what is added to its scores of the cached frames: 0 or -inf."""
KeyValue = tuple[Tensor, Tensor]
"""Keys of a layer, rotated by their frame numbers, and values."""


@dataclass(frozen=True)
class TemporalCache:
    """Keys and values of the last `window - 1` finished frames, for every layer: a ring per player.

    A value: `append` returns a new cache and leaves this one usable, so a game can branch.
    Frame number n of a player stands in slot `n % (window - 1)`. Keys are stored rotated by their
    frame number; attention depends on differences of frame numbers only, so they stay valid.

    Attributes:
        keys, values: (L, window - 1, B, S, heads, head width).
        time: (B,) frames committed so far, per player.
    """

    keys: Float[Tensor, "l slots b s h d"]
    values: Float[Tensor, "l slots b s h d"]
    time: Int[Tensor, " b"]

    @property
    def seen(self) -> Bool[Tensor, "slots b"]:
        """True for the slots that hold a frame."""
        slots = torch.arange(self.keys.shape[1], device=self.time.device)
        return slots[:, None] < self.time

    def view(self) -> CacheView:
        """What the next frame sees: its rotary angles, and which slots it does not look at."""
        angles = rotary(self.time[:, None, None], self.keys.shape[5])
        hidden = torch.zeros_like(self.seen, dtype=self.keys.dtype)
        return angles, hidden.masked_fill(~self.seen, -torch.inf)[:, :, None, None]

    def append(
        self, keys: Float[Tensor, "l b s h d"], values: Float[Tensor, "l b s h d"]
    ) -> TemporalCache:
        """Returns a cache in which the oldest frame of each player has given way to a new one."""
        where = (
            slice(None),
            self.time % self.keys.shape[1],
            torch.arange(len(self.time), device=keys.device),
        )
        old = self.keys.clone(), self.values.clone()
        for ring, new in zip(old, (keys, values), strict=True):
            ring[where] = new.to(ring.dtype)  # another one under autocast
        return TemporalCache(*old, self.time + 1)

    def select(self, rows: Int[Tensor, " n"]) -> TemporalCache:
        """Returns the cache of some of the players, in the order given."""
        return TemporalCache(self.keys[:, :, rows], self.values[:, :, rows], self.time[rows])

    @staticmethod
    def concatenate(caches: list[TemporalCache]) -> TemporalCache:
        """Joins the players of several caches into one batch."""
        return TemporalCache(
            torch.cat([cache.keys for cache in caches], dim=2),
            torch.cat([cache.values for cache in caches], dim=2),
            torch.cat([cache.time for cache in caches]),
        )
