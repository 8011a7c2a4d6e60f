"""Coherence: up to which frame a game still looks and moves like real video.

Games are watched for the ways in which worlds end: the picture freezes, its tokens are no longer
those of the video, or the avatar is gone. Real held-out video is watched in the same way and sets
the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation
from genie.models.external_networks import Extractor
from genie.models.layers.pixels import moving_pixels

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie

FAILURES = {
    "frozen": "picture frozen",
    "token_statistics": "tokens unlike those of real video",
    "avatar_lost": "avatar gone",
}
"""How a game ends, as the page calls it."""

SeesAvatar = Callable[[Tensor], Tensor]
"""Of frames u8 (*batch, H, W, 3) whether the avatar is visible in each."""


@dataclass(frozen=True)
class AvatarFinder:
    """Makes a detector of the avatar; a module of `genie.plugins` holds one.

    Attributes:
        find: returns a detector, or None where none is accurate, and what the report says of it.
    """

    find: Callable[[Evaluation], tuple[SeesAvatar | None, dict[str, Any]]]


@dataclass(frozen=True)
class Observations:
    """What is kept of the T frames of a game, or of an episode of real video.

    Attributes:
        counts: how often each token occurs in each frame.
        frozen: whether a frame shows nothing that the frame before it did not.
        visible: whether the avatar is there; empty where no detector can tell.
        features: of each whole window one after the other.
    """

    counts: Int[Tensor, "T V"]
    frozen: Bool[Tensor, " T"]
    visible: Bool[Tensor, " seen"]
    features: list[Float[Tensor, "n d"]]

    @staticmethod
    def join(parts: Sequence[Observations]) -> Observations:
        """Puts stretches of one game one after the other."""
        return Observations(
            torch.cat([part.counts for part in parts]),
            torch.cat([part.frozen for part in parts]),
            torch.cat([part.visible for part in parts]),
            [features for part in parts for features in part.features],
        )


@dataclass(frozen=True)
class Observer:
    """Looks at frames, those of a world and those of real video in the same way.

    Attributes:
        world: whose tokens are counted.
        extractor: of the features for Fréchet distances.
        detector: of the avatar, if there is one to be believed.
        window: frames per window.
    """

    world: Genie
    extractor: Extractor
    detector: SeesAvatar | None
    window: int

    def observe(self, clips: UInt8[Tensor, "B t H W C"], real: bool = False) -> list[Observations]:
        """Looks at all frames but the first of each clip, which is the one before them.

        A picture is frozen when no pixel moves, by the measure of `moving_pixels`. What a
        world draws went through its tokenizer, so tokens of `real` frames are counted after they
        did as well.
        """
        tokenizer = self.world.tokenizer
        tokens, size = tokenizer.encode(clips), tokenizer.vocabulary
        if real:
            tokens = tokenizer.encode(tokenizer.decode(tokens))
        tokens = tokens[:, 1:]
        # 16 bits hold the tokens of any frame: a long game has many rows of counts.
        counts = torch.zeros((*tokens.shape[:2], size), dtype=torch.int16, device=tokens.device)
        counts = counts.scatter_add_(-1, tokens, torch.ones_like(tokens, dtype=torch.int16)).cpu()
        frozen = ~moving_pixels(clips[:, 1:], clips[:, :-1]).any(-1).any(-1).cpu()
        unknown = torch.zeros(len(clips), 0, dtype=torch.bool)
        visible = self.detector(clips[:, 1:]).cpu() if self.detector else unknown
        whole = clips.shape[1] == self.window + 1
        features = list(self.extractor.features(clips).cpu()) if whole else []
        return [
            Observations(counts[b], frozen[b], visible[b], features[b : b + 1])
            for b in range(len(clips))
        ]


# --- real video -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """Real held-out video as it is looked at, and the limits that it sets.

    Attributes:
        observations: of each episode, by its number in the store.
        usage: how often each latent action was inferred.
        chain: how often each latent action followed each other one.
        second: steps in a second, for which the avatar may be away.
        window: frames per window.
    """

    observations: Mapping[int, Observations]
    usage: Int[Tensor, " A"]
    chain: Int[Tensor, "A A"]
    second: int
    window: int

    @cached_property
    def total(self) -> Int[Tensor, " V"]:
        """How often each token occurs in all episodes."""
        return torch.stack([seen.counts.sum(0) for seen in self.observations.values()]).sum(0)

    @cached_property
    def longest_real_frozen(self) -> int:
        """For how many frames the picture stands still at most in real video."""
        return max(longest_run(seen.frozen) for seen in self.observations.values())

    @cached_property
    def longest_frozen(self) -> int:
        """Frames that the picture of a game may stand still: as long, and at least a second."""
        return max(self.second, self.longest_real_frozen)

    @cached_property
    def quantiles(self) -> list[float]:
        """The distance of windows of real video that 50, 95 and 99 % of them stay below."""
        found = torch.cat([self.distance(seen, e) for e, seen in self.observations.items()])
        return found.quantile(found.new_tensor([0.5, 0.95, 0.99])).tolist()

    def distance(self, seen: Observations, episode: int) -> Float[Tensor, " windows"]:
        """Returns how far each window is from real video, that of its own episode left out.

        All of it counts where there is no other episode.
        """
        own = self.observations.get(episode)
        rest = self.total - own.counts.sum(0) if own else self.total
        return token_distance(seen.counts, rest if rest.sum() > 0 else self.total, self.window)

    def ends(self, seen: Observations, distance: Float[Tensor, " windows"]) -> list[int]:
        """Returns the first step of each of `FAILURES`, T for one that does not happen."""
        found = (
            first_run(seen.frozen, self.longest_frozen + 1),
            first_run(distance > self.quantiles[2] + 1e-6, self.window),
            first_run(~seen.visible, self.second + 1),
        )
        return [len(seen.frozen) if first is None else first for first in found]


def reference(
    observer: Observer, store: ClipStore, split: str, frames: int, seed: int, batch: int
) -> Reference | None:
    """Looks at real video of a split, in whole windows of whole episodes drawn at random.

    Returns None where no episode holds a window.
    """
    window, world = observer.window, observer.world
    episodes = [e for e in store.episodes if e.split == split and e.length > window]
    seen, size = dict[int, Observations](), world.config.num_actions
    usage, chain = (torch.zeros(shape, dtype=torch.int64) for shape in ((size,), (size, size)))
    for index in np.random.default_rng([seed, 12]).permutation(len(episodes)):
        episode = episodes[index]
        if seen and sum(len(s.frozen) for s in seen.values()) + episode.length > frames:
            continue
        cuts = episode.start + window * np.arange((episode.length - 1) // window)
        parts: list[Observations] = []
        batches = ClipBatches(store, cuts, window + 1, batch, world.device)
        for clips in batches:
            parts += observer.observe(clips, real=True)
            inferred = world.actions.infer(clips)
            usage += formulas.code_counts(inferred, size)
            before, after = inferred[:, :-1].flatten(), inferred[:, 1:].flatten()
            chain += formulas.contingency(before, after, size, size)
        seen[int(batches.episodes[0])] = Observations.join(parts)
    second = max(1, math.ceil(world.config.fps))
    return Reference(seen, usage, chain, second, window) if seen else None


def token_distance(
    counts: Int[Tensor, "T V"], reference: Int[Tensor, " V"], window: int
) -> Float[Tensor, " windows"]:
    """Returns the Jensen-Shannon divergence of the tokens of each window from a reference, in bits.

    0 for the same shares of every token, 1 for no token in common (Lin 1991).

    Args:
        counts: of tokens in each frame.
        reference: counts of tokens.
        window: frames; window k begins at frame k, so there are T - window + 1 of them.
    """
    sums = torch.cat([counts.new_zeros(1, counts.shape[1]), counts]).cumsum(0, dtype=torch.int64)
    inside = (sums[window:] - sums[:-window]).double()
    shares, real = inside / inside.sum(1, keepdim=True), reference.double() / reference.sum()
    mixed = _bits((shares + real) / 2)
    return (mixed - _bits(shares) / 2 - _bits(real) / 2).clamp(0, 1)


def _bits(shares: Tensor) -> Tensor:
    return -torch.special.xlogy(shares, shares).sum(-1) / math.log(2)


# --- spells ---------------------------------------------------------------------------------


def first_run(flags: Bool[Tensor, " T"], length: int) -> int | None:
    """Returns where the first run of `length` true flags begins, None where there is none."""
    if len(flags) < length:
        return None
    runs = flags.unfold(0, length, 1).all(-1)
    return int(runs.int().argmax()) if runs.any() else None


def longest_run(flags: Bool[Tensor, " T"]) -> int:
    """Returns the length of the longest run of true flags."""
    edges = torch.nn.functional.pad(flags.int(), (1, 1)).diff()
    lengths = (edges == -1).nonzero() - (edges == 1).nonzero()
    return int(lengths.max()) if len(lengths) else 0


def restricted_mean(steps: Sequence[int], ended: Sequence[bool], horizon: int) -> float:
    """Returns the mean time to the end, counted up to a horizon at most.

    The area under the Kaplan-Meier curve: an episode that stops before anything went wrong counts
    as watched until then, not as ended. Where nothing stops early it is the plain mean.

    Args:
        steps: when each game ended, or was last watched.
        ended: which of the two.
        horizon: no later than the longest game was watched.
    """
    area, alive, last = 0.0, 1.0, 0
    for step in sorted({s for s, over in zip(steps, ended, strict=True) if over and s < horizon}):
        area += alive * (step - last)
        watched = sum(s >= step for s in steps)
        alive *= 1 - sum(over and s == step for s, over in zip(steps, ended, strict=True)) / watched
        last = step
    return area + alive * (horizon - last)
