"""Coherence: for how long does a game look and move like real video?

Games are played on from held-out frames for many steps and observed beside real held-out video.
Frames are observed window by window and dropped, so that memory hardly grows with the length of a
game.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.evaluation.figures import strip_figure
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.frechet import Moments, real_data_distance
from genie.evaluation.metrics.metric import (
    Headline,
    Metric,
    Section,
    format_value,
    registered,
    with_interval,
)
from genie.evaluation.metrics.observations import (
    FAILURES,
    AvatarFinder,
    Observations,
    Observer,
    Reference,
    SeesAvatar,
    reference,
    restricted_mean,
)
from genie.evaluation.protocol.rollouts import RolloutPlayer, clip_seeds

FIGURE_GAMES = 4
LIMITS = ("distance_median", "distance_95", "distance_99")
POINTS = 64
"""Of a curve over time, at most; a quarter as many Fréchet distances, which cost more."""


def sample_actions(
    usage: Int[Tensor, " A"], chain: Int[Tensor, "A A"], games: int, steps: int, seed: int
) -> Int[Tensor, "games steps"]:
    """Samples latent actions as they follow each other in real video: random, but as sticky.

    A Markov chain over the inferred actions of held-out video. So every action is as frequent, and
    is held as long, as in the video.

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
    player: RolloutPlayer,
    prompts: UInt8[Tensor, "B P H W C"],
    actions: Int[Tensor, "B N"],
    seeds: list[int],
    window: int,
) -> Iterator[UInt8[Tensor, "B t H W C"]]:
    """Plays on and yields the frames of each window after the frame before it."""
    frames = [prompts[:, -1]]
    for frame in player.steps(prompts, actions, seeds):
        frames.append(frame)
        if len(frames) == window + 1:
            yield torch.stack(frames, 1)
            frames = frames[-1:]
    if len(frames) > 1:
        yield torch.stack(frames, 1)


def measure_coherence(evaluation: Evaluation) -> dict[str, Any]:
    """Plays long games and says for how long they stay coherent.

    A game is coherent until the first step of any of these:

    - for a whole window of steps, the tokens of the window that begins there are farther from real
      video than 99 % of real windows are (`token_distance`);
    - the picture stands still for longer than real video ever does, and for more than a second;
    - the avatar is away for more than a second, where a detector of it can be trained.

    Coherent steps are counted to the end of the game at most, so a mean is a lower bound. Real
    episodes are held to the same limits and are over sooner: their mean is that of
    `restricted_mean`, up to the longest of them.
    """
    config, world, store = evaluation.config, evaluation.world, evaluation.store
    settings, seed, fps = config.coherence, config.seed, world.config.fps
    if not settings.rollouts:
        raise Skipped("none was asked for.")
    detector, avatar = find_avatar(evaluation)
    observer = Observer(world, evaluation.extractor, detector, settings.window)
    real = reference(observer, store, config.split, settings.real_frames, seed, config.batch)
    if real is None:
        raise Skipped(
            f"no episode of the {config.split!r} split is longer than {settings.window} frames."
        )
    rollouts = []
    for games, steps in settings.rollouts:
        clips = evaluation.select(config.prompt_frames, games)
        actions = sample_actions(real.usage, real.chain, len(clips.starts), steps, seed)
        with evaluation.playing(f"Coherence, {steps} steps", len(clips) * steps) as player:
            seen, strip = _observe(observer, player, clips, actions, seed)
        rollouts.append(_figures(real, seen, clips.episodes, fps, seed))
        evaluation.figures.append(strip_figure(strip, strip_times(steps), fps))
    return {
        "window": settings.window,
        "extractor": evaluation.extractor.name,
        "avatar": avatar,
        "limits": {
            **dict(zip(LIMITS, real.quantiles, strict=True)),
            "frozen_frames": real.longest_frozen,
            "avatar_lost_frames": real.second,
        },
        "real": _real_figures(real, fps),
        "rollouts": rollouts,
    }


def find_avatar(evaluation: Evaluation) -> tuple[SeesAvatar | None, dict[str, Any]]:
    """Returns a detector of the avatar, if there is an accurate one, and what is known of it."""
    for finder in registered(AvatarFinder):
        return finder.find(evaluation)
    return None, {"skipped": "no plug-in can detect one."}


def _observe(
    observer: Observer, player: RolloutPlayer, clips: ClipBatches, actions: Tensor, seed: int
) -> tuple[list[Observations], UInt8[Tensor, "games times H W C"]]:
    """What is kept of each game, and frames of the first games at the times of a strip."""
    games, shown = list[Observations](), dict[int, Tensor]()
    times, seeds = strip_times(actions.shape[1]), clip_seeds(seed, 0, len(actions))
    for prompts in clips:
        part = slice(len(games), len(games) + len(prompts))
        parts, step = [], 0
        for window in play_windows(player, prompts, actions[part], seeds[part], observer.window):
            parts.append(observer.observe(window))
            if not games:
                inside = [t for t in times if t == 0 == step or step < t < step + window.shape[1]]
                shown |= {t: window[:FIGURE_GAMES, t - step].cpu() for t in inside}
            step += window.shape[1] - 1
        games += [Observations.join(game) for game in zip(*parts, strict=True)]
    return games, torch.stack([shown[t] for t in times], 1)


def strip_times(steps: int) -> list[int]:
    """Returns the steps that are shown: 0, then an eighth of the play and its doubles."""
    return [0, *(max(1, steps // part) for part in (8, 4, 2, 1))]


def _figures(
    real: Reference, seen: list[Observations], episodes: Tensor, fps: float, seed: int
) -> dict[str, Any]:
    owners, steps = episodes.tolist(), len(seen[0].frozen)
    distance = torch.stack([real.distance(s, e) for s, e in zip(seen, owners, strict=True)])
    ends = torch.tensor([real.ends(s, d) for s, d in zip(seen, distance, strict=True)])
    coherent = ends.amin(1).double()
    interval = partial(formulas.interval_over_episodes, episodes=episodes)
    frozen = torch.stack([s.frozen.double().mean() for s in seen])
    visible = [s.visible.double().mean() for s in seen if len(s.visible)]
    ended, beside = coherent < steps, _real_coherent(real, steps, fps)
    at, chosen = _spaced(distance.shape[1], POINTS), _spaced(len(seen[0].features), POINTS // 4)
    windows = [part for s in real.observations.values() for part in s.features]
    whole = Moments.from_features(torch.cat(windows))
    floor, count = real_data_distance(windows, len(seen), seed)
    return {
        "games": len(seen),
        "episodes": len(set(owners)),
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
        "distance": {"times": [t + 1 for t in at], "mean": distance.mean(0)[at].tolist()},
        "frechet": {
            "times": [w * real.window + 1 for w in chosen],
            "distance": [
                Moments.from_features(torch.cat([s.features[w] for s in seen])).distance(whole)
                for w in chosen
            ],
            "real": floor,
            "real_windows": count,
        },
    }


def _spaced(count: int, most: int) -> list[int]:
    return list(range(0, count, max(1, -(-count // most))))


def _real_coherent(real: Reference, steps: int, fps: float) -> dict[str, Any] | None:
    """The same of real episodes; None where all are too short to be seen ending."""
    # In its last steps an episode cannot be seen to end: not all of the spell would lie in it.
    blind = max(2 * real.window - 2, real.second)
    found = [
        (min(steps, len(s.frozen) - blind), min(real.ends(s, real.distance(s, e))))
        for e, s in real.observations.items()
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
    frozen, visible = (
        torch.cat([getattr(s, name) for s in real.observations.values()])
        for name in ("frozen", "visible")
    )
    return {
        "episodes": len(real.observations),
        "frames": len(frozen),
        "seconds": len(frozen) / fps,
        "frozen_rate": frozen.double().mean().item(),
        "longest_frozen_frames": real.longest_real_frozen,
        "visible_rate": visible.double().mean().item() if len(visible) else None,
        "action_usage": (real.usage / real.usage.sum()).tolist(),
    }


# --- in the report --------------------------------------------------------------------------


def real_seconds(rollout: Section) -> str:
    """Returns for how long real episodes are coherent, and how long the longest was observed."""
    real = rollout["real_coherent"]
    if not real:
        return format_value(None)
    return f"{format_value(real['mean_seconds'])} of {format_value(real['up_to_seconds'])}"


def _cells(section: Section) -> dict[str, str]:
    cells = {}
    for rollout in section["rollouts"]:
        seconds, real = with_interval(rollout["coherent_seconds"]), real_seconds(rollout)
        label = f"coherent seconds of {rollout['seconds']:.0f} (real episodes of up to)"
        cells[label] = f"{seconds} ({real}), n = {rollout['games']}"
    return cells


def _beside_real(section: Section) -> float | None:
    rollout = section["rollouts"][0]
    real = rollout["real_coherent"]
    return rollout["coherent_steps_beside_real"] / max(real["mean_steps"], 1e-9) if real else None


def _real_name(section: Section) -> str:
    real = section["rollouts"][0]["real_coherent"]
    if not real:
        return "real episodes are too short to tell"
    return f"real episodes, of up to {format_value(real['up_to_seconds'], 's')}"


COHERENCE = Metric(
    key="coherence",
    order=60,
    title="Coherence: for how long does it stay a world?",
    measure=measure_coherence,
    cells=_cells,
    values={
        "failures": FAILURES,
        "lengths": lambda section: [
            f"{rollout['steps']} steps ({rollout['seconds']:.0f} s)"
            for rollout in section["rollouts"]
        ],
        "real_seconds": lambda section: [real_seconds(each) for each in section["rollouts"]],
    },
    headlines=(
        Headline(
            name="Coherent seconds of {rollouts[0][seconds]:.2f}",
            unit="s",
            value="rollouts.0.coherent_seconds.mean",
            baseline=(_real_name, "rollouts.0.real_coherent.mean_seconds"),
            score=_beside_real,
            limits=(0.8, 0.4),
            good="Games stay what they are nearly as long as real video does, as far as that goes.",
            fair="Games last for a good part of play, then freeze or drift away.",
            poor="Games soon freeze or drift away from what the video shows.",
        ),
    ),
)
