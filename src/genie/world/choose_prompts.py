"""Choosing prompts by a rule: held-out frames that show what a game has to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from genie.core.config import require
from genie.data.clips import ClipBatches
from genie.models.layers.pixels import motion_mask, moving_pixels

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.models.backbone import TokenizerBackbone

First = Literal["still", "typical"]

PROMPTS = 12
CANDIDATES = 1024
BATCH = 64
GRID = 8
"""Rows and columns of the small picture in which layouts are compared."""
COLOUR_LEVELS = 4
"""Of each channel, in the histogram of colours."""
MAX_TOKENS = 1024
"""The most frequent tokens that are counted."""
MIN_OF_MEDIAN = 0.75
"""A candidate's contrast, motion and kinds of tokens are at least this fraction of the median."""
REST = 1 / 3
"""Seconds before and after a frame in which its motion is measured."""


def choose_prompts(
    store: ClipStore,
    tokenizer: TokenizerBackbone,
    count: int = PROMPTS,
    first: First = "still",
) -> UInt8[np.ndarray, "n h w 3"]:
    """Chooses frames that games start from. The same store and tokenizer give the same frames.

    Candidates are spread evenly over the held-out episodes, without the first and the last second
    of each. Those of little contrast or few kinds of tokens, and those after which little moves for
    a second, are left out. The most typical one is chosen, then each time the one that is farthest
    from all that were chosen (k-centre: Gonzalez 1985). Frames are compared by the histograms of
    their tokens and colours, and by a small picture.

    Args:
        store: of frames of the world's size. Its training split is used where none is held out.
        tokenizer: of the world.
        count: how many prompts are wanted; fewer are returned from a tiny store.
        first: which of them games start from when none is named. "still" takes the one around which
            least moves: an avatar that jumps at other times stands on the ground there. "typical"
            takes the most typical one, for games in which one that hardly moves is caught.

    Returns:
        The frames: the first one, then the others in the order of their choice.
    """
    starts, margin = candidates(store, count)
    frames, motion = _read(store, starts, margin)
    tokens = _tokens(tokenizer, frames)
    shown = shows_enough(frames, tokens, motion)
    frames, tokens, starts = frames[shown], tokens[shown], starts[shown.numpy()]
    chosen = farthest_points(_features(frames, tokens), count)
    if first == "still":
        reach = min(margin, round(REST * store.fps))
        at = int(motion_around(store, starts[chosen.numpy()], reach).argmin())
        chosen = torch.cat([chosen[[at]], chosen[:at], chosen[at + 1 :]])
    return frames[chosen].numpy()


def candidates(store: ClipStore, count: int) -> tuple[Int[np.ndarray, " n"], int]:
    """Returns frames that may become prompts, and how far they are from the ends of an episode.

    That is a second, or half of it again and again until `count` episodes are long enough.
    """
    split = "val" if store.num_frames("val") else "train"
    episodes, margin = store.episodes_in_split(split), round(store.fps)
    while margin and sum(e.length > 2 * margin for e in episodes) < min(count, len(episodes)):
        margin //= 2
    inside = [np.arange(e.start + margin, e.start + e.length - margin) for e in episodes]
    frames = np.concatenate([np.empty(0, np.int64), *inside])
    require(len(frames) > 0, "data: the store has no frames of training or held-out videos")
    spread = np.linspace(0, len(frames) - 1, min(CANDIDATES, len(frames)))
    return frames[spread.round().astype(np.int64)], margin


def shows_enough(
    frames: UInt8[Tensor, "n h w 3"], tokens: Int[Tensor, "n s"], motion: Float[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Returns which frames are neither blank nor empty nor still, beside the median of the game.

    Args:
        frames: the frames.
        tokens: of each.
        motion: the fraction of pixels that differ later.
    """
    contrast = frames.float().mean(-1).flatten(1).std(dim=1)
    kinds = 1.0 + (tokens.sort(dim=1).values.diff(dim=1) != 0).sum(dim=1)
    kept = torch.ones(len(frames), dtype=torch.bool)
    for values in (contrast, kinds, motion):
        kept &= values >= MIN_OF_MEDIAN * values.median()
    return kept if kept.any() else ~kept


def motion_around(
    store: ClipStore, starts: Int[np.ndarray, " n"], reach: int
) -> Float[Tensor, " n"]:
    """Returns the fraction of pixels that change from frame to frame around each of some frames.

    Args:
        store: of the frames.
        starts: the frames.
        reach: how many frames before and after each are looked at; 0 finds no motion.
    """
    clips = torch.from_numpy(store.windows(starts - reach, 2 * reach + 1))
    return motion_mask(clips).mean((1, 2, 3, 4))


def farthest_points(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " m"]:
    """Returns at most `count` indices: the point nearest the mean, then the farthest ones.

    Points that equal a chosen one are not chosen.
    """
    chosen = [int((points - points.mean(dim=0)).square().sum(dim=1).argmin())]
    nearest = points.new_full((len(points),), torch.inf)
    while len(chosen) < count:
        nearest = nearest.minimum((points - points[chosen[-1]]).square().sum(dim=1))
        if nearest.max() <= 0:
            break
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _read(
    store: ClipStore, starts: Int[np.ndarray, " n"], margin: int
) -> tuple[UInt8[Tensor, "n h w 3"], Float[Tensor, " n"]]:
    """The candidates, and the fraction of pixels that differ in the second after each."""
    frames, motion = [], []
    for windows in ClipBatches(store, starts, margin + 1, BATCH):
        frames.append(windows[:, 0])
        first_frames = windows[:, :1].expand_as(windows)
        motion.append(moving_pixels(windows, first_frames).float().mean((1, 2, 3)))
    return torch.cat(frames), torch.cat(motion)


@torch.no_grad()
def _tokens(tokenizer: TokenizerBackbone, frames: UInt8[Tensor, "n h w 3"]) -> Int[Tensor, "n s"]:
    parts = [tokenizer.encode(part[:, None].to(tokenizer.device)) for part in frames.split(BATCH)]
    return torch.cat(parts)[:, 0].cpu()


def _features(frames: UInt8[Tensor, "n h w 3"], tokens: Int[Tensor, "n s"]) -> Float[Tensor, "n d"]:
    """Tokens, colours and layout, so that the mean squared distances of the three are equal.

    Histograms are compared by the square roots of their entries, as in the Hellinger distance.
    """
    _, codes, counts = tokens.unique(return_inverse=True, return_counts=True)
    frequent = counts.argsort(descending=True, stable=True)[:MAX_TOKENS]
    rank = torch.full((len(counts),), MAX_TOKENS)
    rank[frequent] = torch.arange(len(frequent))
    levels = frames.long() * COLOUR_LEVELS // 256
    colours = (levels[..., 0] * COLOUR_LEVELS + levels[..., 1]) * COLOUR_LEVELS + levels[..., 2]
    layout = F.adaptive_avg_pool2d(frames.movedim(-1, 1).float(), GRID).flatten(1)
    parts = [
        _histogram(rank[codes], MAX_TOKENS + 1)[:, :-1].sqrt(),
        _histogram(colours.flatten(1), COLOUR_LEVELS**3).sqrt(),
        layout,
    ]
    return torch.cat([_unit_variance(part) for part in parts], dim=1)


def _histogram(values: Int[Tensor, "n m"], size: int) -> Float[Tensor, "n size"]:
    counts = torch.zeros(len(values), size)
    return counts.scatter_add_(1, values, torch.ones_like(values, dtype=torch.float32))


def _unit_variance(points: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    spread = points.var(dim=0, correction=0).sum().sqrt()
    return points / spread if spread > 0 else points
