"""How good a reward model is on held-out episodes, beside a constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie.core.config import UserError, require

if TYPE_CHECKING:
    from genie.data.store import ClipStore, Episode
    from genie.models.reward_heads import RewardHeads
    from genie.world.genie import Genie

WINDOW = 16
"""Frames that are looked at together; the features of the later ones know those before."""
BATCH = 32
BINS = 15
"""Of equal width, for the calibration error."""
Section = dict[str, Any]


def require_outcomes(store: ClipStore) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rewards f32 (N,) and ends i8 (N,) of a store.

    Raises:
        UserError: no sidecar had any.
    """
    rewards, ends = store.rewards(), store.ends()
    if rewards is None or ends is None or not (np.isfinite(rewards) & (ends >= 0)).any():
        raise UserError(
            f"{store.path}: this store has no rewards and ends; prepare videos that have sidecar "
            "files with them, such as those of `genie record`, or prepare them again"
        )
    return rewards, ends


def measure_reward(
    world: Genie,
    heads: RewardHeads,
    store: ClipStore,
    split: str,
    *,
    steps: int = 8192,
    seed: int = 0,
    on_batch: Callable[[float], None] = lambda share: None,
) -> Section:
    """Measures heads on the episodes of a split.

    Predictions do not know the action, because a last step has none that could be inferred, and
    that would give it away. Constants are the means of the training split.

    Args:
        world: of the heads.
        heads: for reward and end.
        store: frames, rewards and ends.
        split: of the store.
        steps: about how many steps; whole episodes are sampled.
        seed: of the choice.
        on_batch: told the share done.

    Returns:
        Number of steps, and a section each for `end` and `reward`. `auc` is the chance that a
        step that ended (or was rewarded above 0) is rated above one that did not.

    Raises:
        UserError: the store has no rewards and ends.
    """
    rewards, ends = require_outcomes(store)
    found = [
        (rows, *predicted)
        for rows, predicted in _predictions(world, heads, store, split, steps, seed, on_batch)
    ]
    require(len(found) > 0, f"{store.path}: the split {split!r} has no episode with 2 frames")
    rows, reward, end = (np.concatenate(parts) for parts in zip(*found, strict=True))
    known = np.isfinite(rewards[rows]) & (ends[rows] >= 0)
    rows, reward, end = rows[known], reward[known], end[known]
    train = store.frames_in_split("train")
    train = train[np.isfinite(rewards[train]) & (ends[train] >= 0)]
    return {
        "split": split,
        "steps": len(rows),
        "end": end_figures(end, ends[rows] == 1, float((ends[train] == 1).mean())),
        "reward": reward_figures(reward, rewards[rows], float(rewards[train].mean())),
    }


def end_figures(
    predicted: Float[np.ndarray, " n"], happened: np.ndarray, constant: float
) -> Section:
    """Returns how well probabilities rank and how well they are calibrated."""
    truth = happened.astype(np.float64)
    return {
        "happened": float(truth.mean()),
        "predicted": float(predicted.mean()),
        "auc": area_under_curve(predicted, happened),
        "brier": float(((predicted - truth) ** 2).mean()),
        "brier_constant": float(((constant - truth) ** 2).mean()),
        "log_loss": _log_loss(predicted, truth),
        "log_loss_constant": _log_loss(np.full(len(truth), constant), truth),
        "calibration_error": calibration_error(predicted, truth),
    }


def reward_figures(
    predicted: Float[np.ndarray, " n"], earned: Float[np.ndarray, " n"], constant: float
) -> Section:
    """Returns how well expected rewards rank, and their errors."""
    return {
        "earned": float(earned.mean()),
        "predicted": float(predicted.mean()),
        "auc": area_under_curve(predicted, earned > 0),
        "squared_error": float(((predicted - earned) ** 2).mean()),
        "squared_error_constant": float(((constant - earned) ** 2).mean()),
    }


def area_under_curve(scores: Float[np.ndarray, " n"], positive: np.ndarray) -> float | None:
    """Returns the chance that a positive is rated above a negative, ties half; None without both.

    It is the statistic of Mann and Whitney (1947), which equals the area under the ROC curve.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def calibration_error(predicted: Float[np.ndarray, " n"], truth: np.ndarray) -> float:
    """Returns the expected calibration error, with bins of equal width (Guo et al. 2017)."""
    place = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(place, predicted - truth, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def _log_loss(predicted: np.ndarray, truth: np.ndarray) -> float:
    sure = np.clip(predicted, 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(sure) + (1 - truth) * np.log(1 - sure)).mean())


def _predictions(
    world: Genie,
    heads: RewardHeads,
    store: ClipStore,
    split: str,
    steps: int,
    seed: int,
    on_batch: Callable[[float], None],
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Yields rows of the store with their expected rewards and probabilities of the end."""
    groups = list(_windows(_sampled(store, split, steps, seed)))
    for number, (starts, length) in enumerate(groups, start=1):
        frames = torch.from_numpy(np.array(store.windows(starts, length))).to(world.device)
        rows = starts[:, None] + np.arange(length)
        yield rows.ravel(), _predicted(world, heads, frames)
        on_batch(number / len(groups))


@torch.no_grad()
def _predicted(world: Genie, heads: RewardHeads, frames: Tensor) -> tuple[np.ndarray, np.ndarray]:
    tokens, actions = world.tokenizer.encode(frames), world.actions.infer(frames)
    features = world.dynamics.features(tokens, actions).flatten(0, 1).float()
    reward, end = heads.whatever_action(features)
    return reward.double().cpu().numpy(), end.double().cpu().numpy()


def _sampled(store: ClipStore, split: str, steps: int, seed: int) -> list[Episode]:
    episodes = [e for e in store.episodes_in_split(split) if e.length > 1]
    order = np.random.default_rng([seed, 22]).permutation(len(episodes))
    lengths = np.cumsum([episodes[i].length for i in order])
    count = int(np.searchsorted(lengths, steps)) + 1
    return [episodes[i] for i in order[:count]]


def _windows(episodes: list[Episode]) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the starts and the length of windows that cover episodes up to their ends."""
    starts: dict[int, list[int]] = {}
    for episode in episodes:
        over = episode.length % WINDOW
        if over > 1:
            starts.setdefault(over, []).append(episode.start)
        whole = range(episode.start + over, episode.start + episode.length, WINDOW)
        starts.setdefault(WINDOW, []).extend(whole)
    for length, firsts in starts.items():
        for part in range(0, len(firsts), BATCH):
            yield np.array(firsts[part : part + BATCH]), length
