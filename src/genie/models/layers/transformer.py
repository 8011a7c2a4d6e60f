"""The space-time transformer of all three models (arXiv 2402.15391, section 2)."""

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
        window: number of frames that a frame sees, including itself. 1 leaves attention over time
            out, so that frames do not depend on each other.
        spatial_attention: False leaves attention over space out, so that patches do not depend on
            each other.
        activation_checkpointing: recomputes activations in the backward pass. It takes less memory
            and a third more time.
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
        """Raises `UserError` for sizes that cannot be built."""
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


def receptive_field(config: TransformerConfig) -> int:
    """Returns how many frames back a stack of windowed attention can see."""
    return config.layers * (config.window - 1)


class SpaceTimeBlock(nn.Module):
    """Attention over space, attention over time and a feed-forward part, each normalised before.

    Args:
        config: sizes.
    """

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
        """Runs whole clips (B, T, S, D); also returns their keys and values, if there are any."""
        x, key_value = self._over_space(x), None
        if self.time is not None and self.time_norm is not None:
            y, key_value = self.time(self.time_norm(x), angles, mask)
            x = x + y
        return x + self.ffn(self.ffn_norm(x)), key_value

    def step(
        self, x: Tensor, past: KeyValue, view: CacheView, positions: Tensor | None = None
    ) -> tuple[Tensor, KeyValue | None]:
        """Runs one frame (B, 1, S, D) with this layer's part of the cache and the cache's view."""
        x, key_value = self._over_space(x, positions), None
        if self.time is not None and self.time_norm is not None:
            keys, values = past
            if positions is not None:
                keys, values = (old[:, batch_index_of(positions), positions] for old in past)
            y, key_value = self.time.step(self.time_norm(x), keys, values, view)
            x = x + y
        return x + self.ffn(self.ffn_norm(x)), key_value

    def key_value(self, x: Tensor, view: CacheView) -> KeyValue:
        """Computes the key and value that `step` returns; only with attention over time."""
        assert self.time is not None
        assert self.time_norm is not None
        return self.time.key_value(self.time_norm(self._over_space(x)), view)

    def _over_space(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        if self.space is None or self.space_norm is None:
            return x if positions is None else gather_positions(x, positions)
        mixed = self.space(self.space_norm(x), positions)
        return mixed + (x if positions is None else gather_positions(x, positions))


class STTransformer(nn.Module):
    """A stack of space-time blocks with a final normalisation: (B, T, S, D) to the same shape.

    Args:
        config: sizes.
        block: class of the blocks.
    """

    def __init__(self, config: TransformerConfig, block: type[SpaceTimeBlock] = SpaceTimeBlock):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and not name.endswith("modulation.weight"):
                # Additions to the residual stream start small, and smaller in a deep stack.
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
            mask: True where frame i may attend to frame j; the causal window when left out.
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
        """Makes the cache of `batch` players before their first frame of `tokens` tokens."""
        config, weight = self.config, self.norm.weight
        shape = (config.layers, config.window - 1, batch, tokens, config.heads, config.key_width)
        return TemporalCache(
            weight.new_zeros(shape),
            weight.new_zeros(shape),
            torch.zeros(batch, dtype=torch.int64, device=weight.device),
        )

    def prefill(self, x: Float[Tensor, "b t s d"]) -> TemporalCache:
        """Fills a cache with all frames of clips at once; equals `step` frame by frame."""
        frames, cache = x.shape[1], self.empty_cache(len(x), x.shape[2])
        if self.config.window > 1:
            numbers = torch.arange(frames, device=x.device)
            angles = rotary(numbers, self.config.key_width)
            mask = causal_window_mask(frames, self.config.window, x.device)
            kept = numbers[1 - self.config.window :]
            slots = kept % (self.config.window - 1)
            for layer, block in enumerate(self.blocks):
                x, key_value = block(x, angles, mask)
                for ring, new in zip((cache.keys, cache.values), key_value, strict=True):
                    frames_first = new[..., kept, :].permute(3, 0, 1, 2, 4)
                    ring[layer, slots] = frames_first.to(ring.dtype)  # autocast has another type
        return replace(cache, time=cache.time + frames)

    def values(self, x: Float[Tensor, "b t s d"]) -> Float[Tensor, "b t s f"]:
        """Computes the values that a cache would hold of each frame, of all layers side by side."""
        angles = rotary(torch.arange(x.shape[1], device=x.device), self.config.key_width)
        mask = causal_window_mask(x.shape[1], self.config.window, x.device)
        kept = []
        for block in self.blocks:
            x, (_, value) = block(x, angles, mask)
            kept.append(value.permute(0, 3, 1, 2, 4).flatten(3))
        return torch.cat(kept, dim=-1)

    def step(
        self, x: Float[Tensor, "b 1 s d"], cache: TemporalCache, view: CacheView | None = None
    ) -> tuple[Float[Tensor, "b 1 s d"], TemporalCache]:
        """Runs one frame after the cached ones; equals the last frame of `forward`.

        Args:
            x: token features.
            cache: the frames before.
            view: of the cache; computed when left out.

        Returns:
            The features, and a copy of the cache with this frame added.
        """
        view = view or cache.view()
        made = []
        for block, past in self._layers(cache):
            x, key_value = block.step(x, past, view)
            made.append(key_value)
        return self.norm(x), self._append(cache, made)

    def updated_cache(
        self, x: Float[Tensor, "b 1 s d"], cache: TemporalCache, view: CacheView | None = None
    ) -> TemporalCache:
        """Computes the cache that `step` returns, and of the last block nothing else."""
        if self.config.window == 1:
            return self._append(cache, [])
        view = view or cache.view()
        *earlier, (last, _) = self._layers(cache)
        made = []
        for block, past in earlier:
            x, key_value = block.step(x, past, view)
            made.append(key_value)
        return self._append(cache, [*made, last.key_value(x, view)])

    def step_without_update(
        self,
        x: Float[Tensor, "b 1 s d"],
        cache: TemporalCache,
        view: CacheView | None = None,
        positions: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b 1 n d"]:
        """Runs one frame like `step`, without adding it to the cache.

        Args:
            x: token features.
            cache: the frames before.
            view: of the cache; computed when left out.
            positions: the only positions to return; all when left out. The last block computes no
                others, except for the keys and values of attention over space.
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
        pairs = [key_value for key_value in made if key_value is not None]
        if not pairs:
            return replace(cache, time=cache.time + 1)
        keys, values = zip(*pairs, strict=True)
        return cache.append(torch.stack(keys), torch.stack(values))
