"""Attention over space inside a frame, and causal attention over time at one position."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genie.models.layers.cache import CacheView, KeyValue
from genie.models.layers.rotary import rotate


def causal_window_mask(frames: int, window: int, device: torch.device) -> Bool[Tensor, "t t"]:
    """Makes a causal mask in which a frame sees itself and the `window - 1` frames before it.

    Args:
        frames: T.
        window: number of frames, including the frame itself.
        device: of the mask.

    Returns:
        True where frame i may attend to frame j.
    """
    age = torch.arange(frames, device=device)[:, None] - torch.arange(frames, device=device)
    return (age >= 0) & (age < window)


class Attention(nn.Module):
    """Projections with normalised queries and keys, for attention over space and over time.

    Args:
        width: features per token.
        heads: attention heads.
        head_width: features per head.
    """

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.query_norm = nn.LayerNorm(head_width, bias=False)
        self.key_norm = nn.LayerNorm(head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes queries, keys and values, each (..., heads, head width)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = qkv.unbind(-3)
        return self.query_norm(query), self.key_norm(key), value


class SpatialAttention(Attention):
    """Attention of every token to the tokens of its own frame."""

    def forward(
        self, x: Float[Tensor, "b t s d"], positions: Int[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b t n d"]:
        """Attends within each frame.

        Args:
            x: features of the tokens.
            positions: of a single frame, the only positions to compute; all when left out.
        """
        q, k, v = self.project(x)
        if positions is not None:
            q = gather_positions(q, positions)
        q, k, v = (y.flatten(0, 1).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]))


class TemporalAttention(Attention):
    """Attention of every token to the tokens at its position in other frames."""

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        angles: Float[Tensor, "2 t half"],
        mask: Bool[Tensor, "t t"],
    ) -> tuple[Float[Tensor, "b t s d"], KeyValue]:
        """Attends over the frames of whole clips.

        Args:
            x: features of the frames.
            angles: of `rotary`, for the numbers of the frames.
            mask: True where frame i may attend to frame j.

        Returns:
            Features, and keys and values (B, S, heads, T, head width).
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
        view: CacheView,
    ) -> tuple[Float[Tensor, "b 1 s d"], KeyValue]:
        """Attends from one frame to the cached frames and itself.

        The scores of a single frame are products of vectors. Sums over the cache in its own layout
        are faster on CPUs than their attention kernels (docs/experiments).

        Args:
            x: features of the frame.
            cached_keys, cached_values: this layer's part of the cache.
            view: of the cache, the same for all layers.

        Returns:
            Features, and the key and value of this frame for `TemporalCache.append`.
        """
        angles, hidden = view
        q, k, v = (y[:, 0] for y in self.project(x))
        q, k = rotate(q, angles) * self.head_width**-0.5, rotate(k, angles)
        scores = torch.cat([(cached_keys * q).sum(-1) + hidden, (k * q).sum(-1)[None]])
        shares = scores.softmax(dim=0)[..., None]
        y = (shares[:-1] * cached_values).sum(0) + shares[-1] * v
        return self.out(y.flatten(2)[:, None]), (k, v)

    def key_value(self, x: Float[Tensor, "b 1 s d"], view: CacheView) -> KeyValue:
        """Computes the key and value that `step` returns, and nothing else."""
        _, k, v = (y[:, 0] for y in self.project(x))
        return rotate(k, view[0]), v


def gather_positions(
    x: Float[Tensor, "b 1 s *f"], positions: Int[Tensor, "b n"]
) -> Float[Tensor, "b 1 n *f"]:
    """Selects the features of some positions of a frame.

    Args:
        x: features of one frame.
        positions: indices of tokens, different ones for each player.
    """
    return x[batch_index_of(positions), 0, positions][:, None]


def batch_index_of(positions: Int[Tensor, "b n"]) -> Int[Tensor, "b 1"]:
    """Returns the index of the player, to be used beside an index of positions."""
    return torch.arange(len(positions), device=positions.device)[:, None]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "t t"]) -> Tensor:
    """Attends over the last but one dimension of (B, S, heads, T, width)."""
    if q.device.type != "cpu":
        b = len(q)
        q, k, v = (y.flatten(0, 1) for y in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).unflatten(0, (b, -1))
    # The fused kernel of CPUs is for long sequences: over 16 frames, forward and backward, it took
    # 2.5 times as long in fp32 and 10 times in bf16 (docs/experiments).
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v
