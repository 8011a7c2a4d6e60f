"""Attention over space inside a frame and, causally within a window, over time at one position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

View = tuple[Float[Tensor, "2 b 1 1 half"], Float[Tensor, "slots b 1 1"]]
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

    def view(self) -> View:
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


_TURNS: dict[tuple[int, str, int | None], Tensor] = {}
"""Compiled graphs read this table; what `functools.cache` keeps they would make at every call."""


def _turns_per_frame(pairs: int, device: torch.device) -> Tensor:
    key = (pairs, device.type, device.index)
    if key not in _TURNS:
        rates = [10_000.0 ** (-pair / pairs) for pair in range(pairs)]
        turns = [round(rate / (2 * math.pi) * 2**32) for rate in rates]
        _TURNS[key] = torch.tensor(turns, device=device)
    return _TURNS[key]


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

    def forward(
        self, x: Float[Tensor, "b t s d"], places: Int[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b t n d"]:
        """Mixes the tokens within each frame; of a single frame also for some places only."""
        q, k, v = self.project(x)
        if places is not None:
            q = gather_places(q, places)
        q, k, v = (y.flatten(0, 1).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]))


class TimeAttention(Attention):
    """Every token attends to the tokens at its own place in other frames, as a mask allows."""

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        angles: Float[Tensor, "2 t half"],
        mask: Bool[Tensor, "t t"],
    ) -> tuple[Float[Tensor, "b t s d"], KeyValue]:
        """Mixes the frames of whole clips; also returns their keys and values, (B, S, H, T, E).

        Args:
            x: features of the frames.
            angles: those of `rotary` for the numbers of the frames.
            mask: True where frame i may look at frame j.
        """
        q, k, v = (y.permute(0, 2, 3, 1, 4) for y in self.project(x))
        q, k = rotate(q, angles), rotate(k, angles)
        y = _attend(q, k, v, mask)
        return self.out(y.permute(0, 3, 1, 2, 4).flatten(3)), (k, v)

    def step(
        self,
        x: Float[Tensor, "b 1 s d"],
        cached_keys: Float[Tensor, "slots b s h e"],
        cached_values: Float[Tensor, "slots b s h e"],
        view: View,
    ) -> tuple[Float[Tensor, "b 1 s d"], KeyValue]:
        """One frame after the cached ones; also returns its own key and value, for `append`.

        The scores of a single frame are products of vectors. Sums over the cache as it lies need it
        in no other layout, and beat the attention kernels of CPUs (docs/experiments).

        Args:
            x: features of the frame.
            cached_keys, cached_values: this layer's part of the cache.
            view: that of the cache, the same for all layers.
        """
        angles, hidden = view
        q, k, v = (y[:, 0] for y in self.project(x))
        q, k = rotate(q, angles) * self.head_width**-0.5, rotate(k, angles)
        scores = torch.cat([(cached_keys * q).sum(-1) + hidden, (k * q).sum(-1)[None]])
        shares = scores.softmax(dim=0)[..., None]
        y = (shares[:-1] * cached_values).sum(0) + shares[-1] * v
        return self.out(y.flatten(2)[:, None]), (k, v)

    def remember(self, x: Float[Tensor, "b 1 s d"], view: View) -> KeyValue:
        """The key and value of `step` without the rest."""
        _, k, v = (y[:, 0] for y in self.project(x))
        return rotate(k, view[0]), v


def gather_places(
    x: Float[Tensor, "b 1 s *f"], places: Int[Tensor, "b n"]
) -> Float[Tensor, "b 1 n *f"]:
    """The features of some places of a frame, others for each player."""
    return x[rows_of(places), 0, places][:, None]


def rows_of(places: Int[Tensor, "b n"]) -> Int[Tensor, "b 1"]:
    """The player that each place belongs to, as an index beside that of the places."""
    return torch.arange(len(places), device=places.device)[:, None]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "t t"]) -> Tensor:
    """Attention over the last but one dimension, (B, S, heads, T, width)."""
    if q.device.type != "cpu":
        b = len(q)
        q, k, v = (y.flatten(0, 1) for y in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).unflatten(0, (b, -1))
    # The fused kernel of CPUs is for long sequences: over 16 frames, forward and backward, it took
    # 2.5 times as long in fp32 and 10 times in bf16 (docs/experiments).
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v
