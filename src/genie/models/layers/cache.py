"""What models keep of past frames, as values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genie.models.layers.rotary import rotary

CacheView = tuple[Float[Tensor, "2 b 1 1 half"], Float[Tensor, "slots b 1 1"]]
"""Rotary angles of a frame, and 0 or -inf to add to its scores of the cached frames."""
KeyValue = tuple[Tensor, Tensor]
"""Keys of a layer, rotated by their frame numbers, and values."""


@dataclass(frozen=True)
class TemporalCache:
    """Keys and values of the last `window - 1` finished frames, in a ring buffer per player.

    It is a value: `append` returns a new cache and leaves this one usable, so a game can branch.
    Frame number n of a player is in slot `n % (window - 1)`. Keys are rotated by their frame
    number. They stay valid, because attention depends only on differences of frame numbers.

    Attributes:
        keys, values: (L, window - 1, B, S, heads, head width).
        time: (B,) frames committed so far, per player.
    """

    keys: Float[Tensor, "l slots b s h d"]
    values: Float[Tensor, "l slots b s h d"]
    time: Int[Tensor, " b"]

    @property
    def seen(self) -> Bool[Tensor, "slots b"]:
        """Whether each slot holds a frame."""
        slots = torch.arange(self.keys.shape[1], device=self.time.device)
        return slots[:, None] < self.time

    def view(self) -> CacheView:
        """Computes what attention of the next frame needs: its angles, and -inf for empty slots."""
        angles = rotary(self.time[:, None, None], self.keys.shape[5])
        hidden = torch.zeros_like(self.seen, dtype=self.keys.dtype)
        return angles, hidden.masked_fill(~self.seen, -torch.inf)[:, :, None, None]

    def append(
        self, keys: Float[Tensor, "l b s h d"], values: Float[Tensor, "l b s h d"]
    ) -> TemporalCache:
        """Returns a cache with a new frame in place of the oldest one of each player.

        Args:
            keys, values: of the new frame, for every layer.
        """
        where = (
            slice(None),
            self.time % self.keys.shape[1],
            torch.arange(len(self.time), device=keys.device),
        )
        old = self.keys.clone(), self.values.clone()
        for ring, new in zip(old, (keys, values), strict=True):
            ring[where] = new.to(ring.dtype)  # autocast has another type
        return TemporalCache(*old, self.time + 1)

    def select(self, rows: Int[Tensor, " n"]) -> TemporalCache:
        """Returns the cache of some of the players.

        Args:
            rows: indices of players, in the order wanted.
        """
        return TemporalCache(self.keys[:, :, rows], self.values[:, :, rows], self.time[rows])

    @staticmethod
    def concatenate(caches: list[TemporalCache]) -> TemporalCache:
        """Joins the players of several caches into one batch."""
        first, copies = caches[0], len(caches)
        if len(first.time) == 1 and all(cache is first for cache in caches):
            # One player several times, as guidance has it: nothing is copied.
            many = (-1, -1, copies, -1, -1, -1)
            times = first.time.expand(copies)
            return TemporalCache(first.keys.expand(many), first.values.expand(many), times)
        return TemporalCache(
            torch.cat([cache.keys for cache in caches], dim=2),
            torch.cat([cache.values for cache in caches], dim=2),
            torch.cat([cache.time for cache in caches]),
        )


@dataclass(frozen=True)
class DecoderCache:
    """What a tokenizer's decoder keeps of past frames: a value that only the decoder looks into.

    Attributes:
        tensors: any number of them, each with the players in its third dimension.
        time: (B,) frames decoded so far, per player.
    """

    tensors: tuple[Tensor, ...]
    time: Int[Tensor, " b"]

    def select(self, rows: Int[Tensor, " n"]) -> DecoderCache:
        """Returns the cache of some of the players.

        Args:
            rows: indices of players, in the order wanted.
        """
        return DecoderCache(tuple(each[:, :, rows] for each in self.tensors), self.time[rows])

    @staticmethod
    def concatenate(caches: list[DecoderCache]) -> DecoderCache:
        """Joins the players of several caches into one batch."""
        tensors = zip(*(cache.tensors for cache in caches), strict=True)
        return DecoderCache(
            tuple(torch.cat(parts, dim=2) for parts in tensors),
            torch.cat([cache.time for cache in caches]),
        )
