"""Long play: for how long does a world stay a world?

Games are played on from held-out pictures for many steps and watched as `coherence` says, beside
real held-out video. Frames are looked at window by window and dropped, so that memory hardly grows
with the length of a game.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.config import require
from genie.core.progress import Bars
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.avatar import find_avatar
from genie.evaluation.metrics.frechet import Extractor, Moments, real_data_distance
from genie.evaluation.metrics.observations import (
    FAILURES,
    Observations,
    Observer,
    Reference,
    longest_run,
    reference,
    restricted_mean,
)
from genie.evaluation.protocol.clips import ClipBatches, select_clips
from genie.evaluation.protocol.rollouts import OnStep, clip_seeds, ignore_step

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

FIGURE_GAMES = 4
POINTS = 64
"""Of a curve over time, at most; a quarter as many Fréchet distances, which cost more."""


@dataclass(frozen=True)
class CoherenceConfig:
    """How much is played.

    Attributes:
        rollouts: pairs of a number of games and their steps; none leaves long play out.
        window: frames over which token statistics and Fréchet distances are taken.
        real_frames: of held-out video to compare with, in whole episodes; at least one.
    """

    rollouts: tuple[tuple[int, int], ...] = ((32, 256), (8, 900))
    window: int = 16
    real_frames: int = 20_000

    def __post_init__(self) -> None:
        """Refuses plays of nothing."""
        require(self.window >= 2, "coherence.window: must be at least 2")
        for games, steps in self.rollouts:
            fits = games >= 1 and steps >= self.window
            require(fits, f"coherence.rollouts: at least 1 game of {self.window} steps or more")


def sample_actions(
    usage: Int[Tensor, " A"], chain: Int[Tensor, "A A"], games: int, steps: int, seed: int
) -> Int[Tensor, "games steps"]:
    """Draws latent actions as they follow each other in real video: random, and as sticky as there.

    A Markov chain over the inferred actions of held-out video, so that what is pressed, and how
    often nothing is, is that of the video whatever the world made of its buttons.

    Args:
        usage: how often each action was inferred.
        chain: how often each followed each.
        games: how many games, each with random numbers of its own.
        steps: actions per game.
        seed: of the report.
    """
    rows = chain.double().numpy() + 1e-3 * (usage.double() / usage.sum()).numpy()
    limits = (rows / rows.sum(1, keepdims=True)).cumsum(1)
    first = (usage.double() / usage.sum()).cumsum(0).numpy()
    drawn = np.stack([np.random.default_rng([seed, i, 13]).random(steps) for i in range(games)])
    actions = np.empty((games, steps), np.int64)
    for step in range(steps):
        limit = limits[actions[:, step - 1]] if step else first[None]
        actions[:, step] = (drawn[:, step, None] >= limit[..., :-1]).sum(1)
    return torch.from_numpy(actions)


def play_windows(
    world: Genie,
    prompts: UInt8[Tensor, "B P H W C"],
    actions: Int[Tensor, "B N"],
    seeds: list[int],
    window: int,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> Iterator[UInt8[Tensor, "B t H W C"]]:
    """Plays on and yields the frames of each window after the frame before it."""
    state = world.start(prompts, seed=seeds)
    frames = [prompts[:, -1]]
    for action in actions.to(prompts.device).unbind(1):
        frame, state = world.step(state, action, sampling)
        frames.append(frame)
        on_step()
        if len(frames) == window + 1:
            yield torch.stack(frames, 1)
            frames = frames[-1:]
    if len(frames) > 1:
        yield torch.stack(frames, 1)


@dataclass(frozen=True)
class FrameStrip:
    """Frames of a few games, to be looked at.

    Attributes:
        times: steps after the prompt, 0 for its last frame.
        frames: at those times.
    """

    times: list[int]
    frames: UInt8[Tensor, "games times H W C"]


def measure_coherence(
    world: Genie,
    store: ClipStore,
    config: CoherenceConfig,
    *,
    split: str,
    prompt_frames: int,
    extractor: Extractor,
    seed: int,
    batch: int,
    bars: Bars,
    sampling: SamplingConfig | None = None,
) -> tuple[dict[str, Any], list[FrameStrip]]:
    """Plays long games and says for how long they stay coherent.

    A game is coherent until the first step of any of these:

    - for a whole window of steps, the tokens of the window that begins there are farther from real
      video than 99 % of real windows are (`token_distance`);
    - the picture stands still, and does so for longer than real video ever does, and for more than
      a second;
    - the avatar is away for more than a second, where a detector of it can be trained.

    Its coherent steps are counted to the end of play at most, so a mean says at least so long.
    Real episodes are held to the same limits and are over sooner: their mean is that of
    `restricted_mean`, up to the longest of them.

    Args:
        world: the world.
        store: the clip store.
        config: how much is played.
        split: of prompts and of the real video.
        prompt_frames: real frames that a game starts from.
        extractor: for Fréchet distances.
        seed: of prompts, actions and noise.
        batch: games at once.
        bars: shows progress.
        sampling: how frames are drawn; the world's own way when left out.

    Returns:
        The figures, and frames of the first games of each play.
    """
    detector, avatar = find_avatar(store, "train", split, seed, world.device)
    observer = Observer(world, extractor, detector, config.window)
    real = reference(observer, store, split, config.real_frames, seed, batch)
    if real is None:
        longer = f"no episode of the {split!r} split is longer than {config.window} frames."
        return {"skipped": longer}, []
    plays, strips = [], []
    for games, steps in config.rollouts:
        starts = select_clips(store, split, prompt_frames, games, seed)
        clips = ClipBatches(store, starts, prompt_frames, batch, world.device)
        firsts = np.array(sorted(e.start for e in store.episodes))
        episodes = firsts[clips.episodes.numpy()].tolist()
        actions = sample_actions(real.usage, real.chain, len(starts), steps, seed)
        seeds = clip_seeds(seed, 0, len(starts))
        with bars(f"Long play, {steps} steps", len(clips) * steps) as on_step:
            seen, strip = _observe(observer, clips, actions, seeds, sampling, on_step)
        plays.append(_figures(real, seen, episodes, steps, world.config.fps, seed))
        strips.append(strip)
    found = {
        "window": config.window,
        "extractor": extractor.name,
        "avatar": avatar,
        "limits": {
            "distance_median": real.quantiles[0],
            "distance_95": real.quantiles[1],
            "distance_99": real.quantiles[2],
            "frozen_frames": real.longest_frozen,
            "avatar_lost_frames": real.avatar_lost,
        },
        "real": _real_figures(real, world.config.fps),
        "rollouts": plays,
    }
    return found, strips


def _observe(
    observer: Observer,
    clips: ClipBatches,
    actions: Tensor,
    seeds: list[int],
    sampling: SamplingConfig | None,
    on_step: OnStep,
) -> tuple[list[Observations], FrameStrip]:
    games: list[Observations] = []
    shown: dict[int, Tensor] = {}
    times = strip_times(actions.shape[1])
    for prompts in clips:
        part = slice(len(games), len(games) + len(prompts))
        parts, step = [], 0
        played = play_windows(
            observer.world, prompts, actions[part], seeds[part], observer.window, sampling, on_step
        )
        for window in played:
            parts.append(observer.observe(window))
            if not games:
                inside = [t for t in times if t == 0 == step or step < t < step + window.shape[1]]
                shown |= {t: window[:FIGURE_GAMES, t - step].cpu() for t in inside}
            step += window.shape[1] - 1
        games += [Observations.join(game) for game in zip(*parts, strict=True)]
    return games, FrameStrip(times, torch.stack([shown[t] for t in times], 1))


def strip_times(steps: int) -> list[int]:
    """Returns the steps that are shown: 0, then an eighth of the play and its doubles."""
    return [0, *(max(1, steps // part) for part in (8, 4, 2, 1))]


def _figures(
    real: Reference,
    seen: list[Observations],
    episodes: list[int],
    steps: int,
    fps: float,
    seed: int,
) -> dict[str, Any]:
    distances = [real.distance(s, e) for s, e in zip(seen, episodes, strict=True)]
    ends = torch.tensor([real.ends(s, d) for s, d in zip(seen, distances, strict=True)])
    coherent, clusters = ends.amin(1).double(), torch.tensor(episodes)

    def interval(values: Tensor) -> dict[str, float]:
        return formulas.interval_over_episodes(values, clusters)

    frozen = torch.stack([s.frozen.double().mean() for s in seen])
    visible = [s.visible.double().mean() for s in seen if s.visible is not None]
    ended = coherent < steps
    beside = _real_coherent(real, steps, fps)
    distance = torch.stack(distances)
    at = range(0, distance.shape[1], max(1, -(-distance.shape[1] // POINTS)))
    windows = len(seen[0].features)
    chosen = range(0, windows, max(1, -(-windows // (POINTS // 4))))
    whole = Moments.from_features(torch.cat([f for s in real.observations for f in s.features]))
    floored, parts = real_data_distance(
        [f for s in real.observations for f in s.features], len(seen), seed
    )
    fids = [
        Moments.from_features(torch.cat([s.features[w] for s in seen])).distance(whole)
        for w in chosen
    ]
    return {
        "games": len(seen),
        "episodes": len(set(episodes)),
        "steps": steps,
        "seconds": steps / fps,
        "coherent_steps": interval(coherent),
        "coherent_seconds": interval(coherent / fps),
        "coherent_steps_beside_real": coherent.clamp(max=beside["up_to_steps"]).mean().item()
        if beside
        else None,
        "share_to_the_end": (~ended).double().mean().item(),
        "ended_by": {
            name: int((ended & (ends.argmin(1) == i)).sum()) for i, name in enumerate(FAILURES)
        },
        "real_coherent": beside,
        "frozen_rate": interval(frozen),
        "visible_rate": interval(torch.stack(visible)) if visible else None,
        "distance": {"times": [t + 1 for t in at], "mean": distance.mean(0)[list(at)].tolist()},
        "frechet": {
            "times": [w * real.window + 1 for w in chosen],
            "distance": fids,
            "real": floored,
            "real_windows": parts,
        },
    }


def _real_coherent(real: Reference, steps: int, fps: float) -> dict[str, Any] | None:
    """The same of real episodes; None where all are too short to be seen ending."""
    # In its last steps an episode cannot be seen to end: not all of the spell would lie in it.
    blind = max(2 * real.window - 2, real.avatar_lost)
    found = [
        (min(steps, len(s.frozen) - blind), min(real.ends(s, real.distance(s, e))))
        for s, e in zip(real.observations, real.starts, strict=True)
        if len(s.frozen) > blind
    ]
    if not found:
        return None
    ended = [end < length for length, end in found]
    horizon = max(length for length, _ in found)
    mean = restricted_mean([min(pair) for pair in found], ended, horizon)
    return {
        "episodes": len(found),
        "ended": sum(ended),
        "up_to_steps": horizon,
        "mean_steps": mean,
        "mean_seconds": mean / fps,
        "up_to_seconds": horizon / fps,
    }


def _real_figures(real: Reference, fps: float) -> dict[str, Any]:
    frozen = torch.cat([s.frozen for s in real.observations])
    visible = [s.visible for s in real.observations if s.visible is not None]
    longest = max(longest_run(s.frozen) for s in real.observations)
    return {
        "episodes": len(real.observations),
        "frames": len(frozen),
        "seconds": len(frozen) / fps,
        "frozen_rate": frozen.double().mean().item(),
        "longest_frozen_frames": longest,
        "visible_rate": torch.cat(visible).double().mean().item() if visible else None,
        "action_usage": (real.usage / real.usage.sum()).tolist(),
    }
