"""Attention over space inside a frame and, causally within a window, over time at one position."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TemporalCache:
    """Keys and values of the last `window - 1` finished frames, for every layer: a ring per player.

    A value: `append` returns a new cache and leaves this one usable, so a game can branch.
    Frame number n of a player stands in slot `n % (window - 1)`. Keys are stored rotated by their
    frame number; attention depends on differences of frame numbers only, so they stay valid.

    Attributes:
        keys, values: (L, B, S, heads, window - 1, head width).
        time: (B,) frames committed so far, per player.
    """

    keys: Float[Tensor, "l b s h slots d"]
    values: Float[Tensor, "l b s h slots d"]
    time: Int[Tensor, " b"]

    @property
    def seen(self) -> Bool[Tensor, "b slots"]:
        """True for the slots that hold a frame."""
        slots = torch.arange(self.keys.shape[4], device=self.time.device)
        return slots < self.time[:, None]

    def angles_and_mask(
        self,
    ) -> tuple[Float[Tensor, "2 b 1 1 1 half"], Bool[Tensor, "rows 1 1 seen"]]:
        """What the next frame sees: its rotary angles, and which of slots and itself it looks at.

        The mask has a row for every token of every player.
        """
        angles = rotary(self.time[:, None, None, None], self.keys.shape[5])
        seen = F.pad(self.seen, (0, 1), value=True)
        return angles, seen.repeat_interleave(self.keys.shape[2], dim=0)[:, None, None]

    def append(
        self, keys: Float[Tensor, "l b s h new d"], values: Float[Tensor, "l b s h new d"]
    ) -> TemporalCache:
        """Returns a cache in which the oldest frame of each player has given way to a new one."""
        slots = self.keys.shape[4]
        if slots == 0:
            return replace(self, time=self.time + 1)
        new = torch.arange(slots, device=self.time.device) == (self.time % slots)[:, None]
        new = new[None, :, None, None, :, None]
        return TemporalCache(
            torch.where(new, keys, self.keys), torch.where(new, values, self.values), self.time + 1
        )

    def select(self, rows: Int[Tensor, " n"]) -> TemporalCache:
        """Returns the cache of some of the players, in the order given."""
        return TemporalCache(self.keys[:, rows], self.values[:, rows], self.time[rows])

    @staticmethod
    def concatenate(caches: list[TemporalCache]) -> TemporalCache:
        """Joins the players of several caches into one batch."""
        return TemporalCache(
            torch.cat([cache.keys for cache in caches], dim=1),
            torch.cat([cache.values for cache in caches], dim=1),
            torch.cat([cache.time for cache in caches]),
        )


def causal_window_mask(frames: int, window: int, device: torch.device) -> Bool[Tensor, "t t"]:
    """True where frame i may look at frame j: itself and the `window - 1` frames before it."""
    age = torch.arange(frames, device=device)[:, None] - torch.arange(frames, device=device)
    return (age >= 0) & (age < window)


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


@cache
def _turns_per_frame(pairs: int, device: torch.device) -> Tensor:
    rates = [10_000.0 ** (-pair / pairs) for pair in range(pairs)]
    return torch.tensor([round(rate / (2 * math.pi) * 2**32) for rate in rates], device=device)


class Attention(nn.Module):
    """Projections with normalised queries and keys, for attention over space and over time."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.query_norm = nn.LayerNorm(head_width, bias=False)
        self.key_norm = nn.LayerNorm(head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, each (..., heads, head width)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = qkv.unbind(-3)
        return self.query_norm(query), self.key_norm(key), value


class SpaceAttention(Attention):
    """Every token attends to the tokens of its own frame."""

    def forward(self, x: Float[Tensor, "b t s d"]) -> Float[Tensor, "b t s d"]:
        """Mixes the tokens within each frame."""
        q, k, v = (y.flatten(0, 1).transpose(1, 2) for y in self.project(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]))


class TimeAttention(Attention):
    """Every token attends to the tokens at its own place in other frames, as a mask allows."""

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        angles: Float[Tensor, "2 t half"],
        mask: Bool[Tensor, "t t"],
    ) -> Float[Tensor, "b t s d"]:
        """Mixes the frames of whole clips; `angles` are those of `rotary` for their numbers."""
        b, _, s, _ = x.shape
        q, k, v = (y.permute(0, 2, 3, 1, 4).flatten(0, 1) for y in self.project(x))
        y = F.scaled_dot_product_attention(rotate(q, angles), rotate(k, angles), v, attn_mask=mask)
        return self.out(y.unflatten(0, (b, s)).permute(0, 3, 1, 2, 4).flatten(3))

    def step(
        self,
        x: Float[Tensor, "b 1 s d"],
        cached_keys: Float[Tensor, "b s h slots e"],
        cached_values: Float[Tensor, "b s h slots e"],
        angles: Float[Tensor, "2 b 1 1 1 half"],
        mask: Bool[Tensor, "rows 1 1 seen"],
    ) -> tuple[Float[Tensor, "b 1 s d"], Tensor, Tensor]:
        """One frame after the cached ones; also returns its own key and value, for `append`.

        `angles` and `mask` are those of the cache, the same for all layers (`TemporalCache`).
        """
        b, _, s, _ = x.shape
        q, k, v = (y.permute(0, 2, 3, 1, 4) for y in self.project(x))
        q, k = rotate(q, angles), rotate(k, angles)
        keys = torch.cat([cached_keys, k], dim=3).flatten(0, 1)
        values = torch.cat([cached_values, v], dim=3).flatten(0, 1)
        y = F.scaled_dot_product_attention(q.flatten(0, 1), keys, values, attn_mask=mask)
        y = self.out(y.unflatten(0, (b, s)).permute(0, 3, 1, 2, 4).flatten(3))
        return y, k, v
