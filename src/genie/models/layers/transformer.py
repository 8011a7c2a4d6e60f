"""The space-time transformer that all three models are (arXiv 2402.15391, section 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genie.core.config import require, require_at_most
from genie.models.layers.attention import (
    SpatialAttention,
    TemporalAttention,
    batch_index_of,
    causal_window_mask,
    gather_positions,
)
from genie.models.layers.cache import CacheView, KeyValue, TemporalCache
from genie.models.layers.rotary import rotary


@dataclass(frozen=True)
class TransformerConfig:
    """Size of a stack of space-time blocks.

    Attributes:
        layers: number of blocks.
        width: features per token.
        heads: attention heads.
        head_width: features per head; 0 means `width / heads`.
        ffn_width: features inside the feed-forward part; 0 means `4 * width`.
        window: frames that a frame sees: itself and `window - 1` before it. 1 leaves attention over
            time out, so that every frame is treated alone.
        spatial_attention: False leaves attention over space out, so that every patch is treated
            alone.
        activation_checkpointing: recompute activations in the backward pass: less memory, a third
            more time.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    head_width: int = 0
    ffn_width: int = 0
    window: int = 16
    spatial_attention: bool = True
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be built."""
        for name in ("layers", "width", "heads", "window"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        for name in ("head_width", "ffn_width"):
            require(getattr(self, name) >= 0, f"{name}: must not be negative (0 derives it)")
        wide = dict.fromkeys(("width", "heads", "head_width", "window"), 65_536)
        require_at_most(self, layers=1024, ffn_width=2**20, **wide)
        require(
            self.head_width > 0 or self.width % self.heads == 0,
            f"heads: width {self.width} is not divisible by {self.heads} heads; "
            "change one of them or set head_width",
        )
        require(self.key_width % 2 == 0, "head_width: must be even, for rotary positions")

    @property
    def key_width(self) -> int:
        """Features per head."""
        return self.head_width or self.width // self.heads

    @property
    def hidden_width(self) -> int:
        """Features inside the feed-forward part."""
        return self.ffn_width or 4 * self.width


class SpaceTimeBlock(nn.Module):
    """Attention over space, attention over time, one feed-forward part; each normalised before."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        sizes = (config.width, config.heads, config.key_width)
        self.space_norm = (
            nn.LayerNorm(config.width, bias=False) if config.spatial_attention else None
        )
        self.space = SpatialAttention(*sizes) if config.spatial_attention else None
        self.time_norm = nn.LayerNorm(config.width, bias=False) if config.window > 1 else None
        self.time = TemporalAttention(*sizes) if config.window > 1 else None
        self.ffn_norm = nn.LayerNorm(config.width, bias=False)
        self.ffn = nn.Sequential(
            nn.Linear(config.width, config.hidden_width, bias=False),
            nn.GELU(),
            nn.Linear(config.hidden_width, config.width, bias=False),
        )

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> tuple[Tensor, KeyValue | None]:
        """Whole clips at once: x is (B, T, S, D). Also what there is to remember of them."""
        x, memory = self._over_space(x), None
        if self.time is not None and self.time_norm is not None:
            y, memory = self.time(self.time_norm(x), angles, mask)
            x = x + y
        return x + self.ffn(self.ffn_norm(x)), memory

    def step(
        self, x: Tensor, past: KeyValue, view: CacheView, positions: Tensor | None = None
    ) -> tuple[Tensor, KeyValue | None]:
        """One frame, x is (B, 1, S, D), with this layer's part of the cache and its view."""
        x, memory = self._over_space(x, positions), None
        if self.time is not None and self.time_norm is not None:
            keys, values = past
            if positions is not None:
                keys, values = (old[:, batch_index_of(positions), positions] for old in past)
            y, memory = self.time.step(self.time_norm(x), keys, values, view)
            x = x + y
        return x + self.ffn(self.ffn_norm(x)), memory

    def key_value(self, x: Tensor, view: CacheView) -> KeyValue:
        """What `step` gives to remember, without the rest; only with attention over time."""
        assert self.time is not None
        assert self.time_norm is not None
        return self.time.key_value(self.time_norm(self._over_space(x)), view)

    def _over_space(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        if self.space is None or self.space_norm is None:
            return x if positions is None else gather_positions(x, positions)
        mixed = self.space(self.space_norm(x), positions)
        return mixed + (x if positions is None else gather_positions(x, positions))


class STTransformer(nn.Module):
    """A stack of space-time blocks with a final normalisation: (B, T, S, D) to the same shape."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(SpaceTimeBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # What is added to the residual stream starts small, the more so in a deep stack.
                last = name.endswith(("out.weight", "ffn.2.weight"))
                scale = 1 / math.sqrt(2 * config.layers) if last else 1.0
                nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        positions: Int[Tensor, " t"] | None = None,
        mask: Bool[Tensor, "t t"] | None = None,
    ) -> Float[Tensor, "b t s d"]:
        """Runs whole clips.

        Args:
            x: token features.
            positions: frame numbers; 0, 1, 2, ... when left out.
            mask: True where frame i may look at frame j; the causal window when left out.
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        if mask is None:
            mask = causal_window_mask(x.shape[1], self.config.window, x.device)
        angles = rotary(positions, self.config.key_width)
        for block in self.blocks:
            if self.config.activation_checkpointing and self.training:
                x, _ = checkpoint(block, x, angles, mask, use_reentrant=False)  # type: ignore[misc]
            else:
                x, _ = block(x, angles, mask)
        return self.norm(x)

    def empty_cache(self, batch: int, tokens: int) -> TemporalCache:
        """The cache of `batch` players before their first frame of `tokens` tokens."""
        config, weight = self.config, self.norm.weight
        shape = (config.layers, config.window - 1, batch, tokens, config.heads, config.key_width)
        return TemporalCache(
            weight.new_zeros(shape),
            weight.new_zeros(shape),
            torch.zeros(batch, dtype=torch.int64, device=weight.device),
        )

    def prefill(self, x: Float[Tensor, "b t s d"]) -> TemporalCache:
        """The cache after all frames of clips, in one forward; what `step` gives frame by frame."""
        frames, cache = x.shape[1], self.empty_cache(len(x), x.shape[2])
        if self.config.window > 1:
            numbers = torch.arange(frames, device=x.device)
            angles = rotary(numbers, self.config.key_width)
            mask = causal_window_mask(frames, self.config.window, x.device)
            kept = numbers[1 - self.config.window :]
            slots = kept % (self.config.window - 1)
            for layer, block in enumerate(self.blocks):
                x, memory = block(x, angles, mask)
                for ring, new in zip((cache.keys, cache.values), memory, strict=True):
                    frames_first = new[..., kept, :].permute(3, 0, 1, 2, 4)
                    ring[layer, slots] = frames_first.to(ring.dtype)  # another one under autocast
        return replace(cache, time=cache.time + frames)

    def step(
        self, x: Float[Tensor, "b 1 s d"], cache: TemporalCache, view: CacheView | None = None
    ) -> tuple[Float[Tensor, "b 1 s d"], TemporalCache]:
        """Runs one frame after the cached ones; equals the last frame of `forward`.

        Args:
            x: token features.
            cache: the frames before.
            view: that of the cache; made when left out.

        Returns:
            The features, and a cache with this frame in it; building that copies the cache once.
        """
        view = view or cache.view()
        made = []
        for block, past in self._layers(cache):
            x, memory = block.step(x, past, view)
            made.append(memory)
        return self.norm(x), self._append(cache, made)

    def updated_cache(
        self, x: Float[Tensor, "b 1 s d"], cache: TemporalCache, view: CacheView | None = None
    ) -> TemporalCache:
        """The cache that `step` returns; of the last block only what goes into it is computed."""
        if self.config.window == 1:
            return self._append(cache, [])
        view = view or cache.view()
        *earlier, (last, _) = self._layers(cache)
        made = []
        for block, past in earlier:
            x, memory = block.step(x, past, view)
            made.append(memory)
        return self._append(cache, [*made, last.key_value(x, view)])

    def step_without_update(
        self,
        x: Float[Tensor, "b 1 s d"],
        cache: TemporalCache,
        view: CacheView | None = None,
        positions: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b 1 n d"]:
        """Like `step`, for a frame that is partly masked: the cache is only read.

        With `positions` it returns the features of these only. Of the last block no others are
        computed, except the keys and values of attention over space.
        """
        view = view or cache.view()
        *earlier, (last, last_past) = self._layers(cache)
        for block, past in earlier:
            x, _ = block.step(x, past, view)
        return self.norm(last.step(x, last_past, view, positions)[0])

    def _layers(self, cache: TemporalCache) -> Iterator[tuple[SpaceTimeBlock, KeyValue]]:
        blocks = cast("Iterable[SpaceTimeBlock]", self.blocks)
        return zip(blocks, zip(cache.keys, cache.values, strict=True), strict=True)

    def _append(self, cache: TemporalCache, made: list[KeyValue | None]) -> TemporalCache:
        memories = [memory for memory in made if memory is not None]
        if not memories:
            return replace(cache, time=cache.time + 1)
        keys, values = zip(*memories, strict=True)
        return cache.append(torch.stack(keys), torch.stack(values))
