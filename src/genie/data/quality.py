"""A quality filter that is learned from labels: which clips are worth training on.

Genie (2024, section 3) labels 10,000 videos by hand, trains a classifier, and keeps the tenth of
the videos that it likes best. Here it is a logistic regression on cheap features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from genie.core.config import UserError, from_dict, require
from genie.core.io import read_bounded, replacing
from genie.data.clip_features import FEATURES

FORMAT, VERSION = "genie-quality", 1
LEVELS = 1000
LEAST_LABELS = 5
"""Of each kind."""
_L2 = 1.0
_NEWTON_STEPS = 30
_FARTHEST = 4.0
"""Standard deviations; a feature farther away counts as this far."""


@dataclass(frozen=True)
class Scorer:
    """A logistic regression on features and their squares.

    Attributes:
        mean: of each feature.
        scale: standard deviation of each feature.
        weights: of the standardised features, then of their squares.
        bias: is added.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        count = len(FEATURES)
        sizes = len(self.mean), len(self.scale), len(self.weights)
        require(sizes == (count, count, 2 * count), f"expected figures of {count} features")
        require(all(scale > 0 for scale in self.scale), "scale: must be above 0")

    def scores(self, features: Float64[np.ndarray, "n features"]) -> Float64[np.ndarray, " n"]:
        """Returns the log odds that each clip is good."""
        inputs = _inputs(features, np.array(self.mean), np.array(self.scale))
        return inputs @ np.array(self.weights) + self.bias


@dataclass(frozen=True)
class QualityFilter:
    """Which clips a preparation keeps.

    Attributes:
        scorer: what clips are judged by.
        keep_best: the share that was asked for.
        least_score: of a clip that is kept.
    """

    scorer: Scorer
    keep_best: float
    least_score: float


@dataclass(frozen=True)
class QualityModel:
    """What `genie label` learned.

    Attributes:
        scorer: what clips are judged by.
        quantiles: of the scores of all clips of the labelled store, from the lowest to the highest.
        height: rows of its frames.
        width: columns of its frames.
        fps: frames per second of it.
        good: number of clips that were labelled so.
        bad: number of clips that were labelled so.
    """

    scorer: Scorer
    quantiles: tuple[float, ...]
    height: int
    width: int
    fps: float
    good: int
    bad: int

    def __post_init__(self) -> None:
        require(len(self.quantiles) == LEVELS + 1, f"quantiles: expected {LEVELS + 1} numbers")

    def filter(self, keep_best: float) -> QualityFilter:
        """Returns the filter that keeps this share of the clips of the labelled store.

        The share becomes a score. So whether a clip is kept depends on no other clip, and shards
        agree.

        Raises:
            UserError: it is no share.
        """
        require(0 < keep_best < 1, f"keep_best: must be within 0..1, such as 0.1; got {keep_best}")
        levels = np.linspace(0, 1, LEVELS + 1)
        least = float(np.interp(1 - keep_best, levels, self.quantiles))
        return QualityFilter(self.scorer, keep_best, least)

    def require_like(self, height: int, width: int, fps: float | None) -> None:
        """Refuses frames of another size or rate: their features are others.

        Raises:
            UserError: they are.
        """
        require(
            (height, width) == (self.height, self.width) and fps in (None, self.fps),
            f"quality: was learned from frames of {self.width}x{self.height} at {self.fps:g} per "
            f"second; prepare with --height {self.height} --width {self.width} --fps {self.fps:g}, "
            "or label a store like the one to make",
        )


def fit_scorer(features: Float64[np.ndarray, "n features"], good: Bool[np.ndarray, " n"]) -> Scorer:
    """Fits a logistic regression, with a penalty on the squares of its weights, by Newton's method.

    Args:
        features: of the labelled clips.
        good: what people said.

    Raises:
        UserError: there are too few labels of a kind.
    """
    counts = int(good.sum()), int((~good).sum())
    require(
        min(counts) >= LEAST_LABELS,
        f"labels: {counts[0]} good and {counts[1]} bad ones; label at least {LEAST_LABELS} of each",
    )
    return _fitted(features, good)


def _fitted(features: np.ndarray, good: np.ndarray) -> Scorer:
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    inputs = np.column_stack([_inputs(features, mean, scale), np.ones(len(features))])
    penalty = np.diag([*np.full(inputs.shape[1] - 1, _L2), 1e-6])
    weights = np.zeros(inputs.shape[1])
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (chance - good) + penalty @ weights
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + penalty
        weights -= np.linalg.solve(curvature, slope)
    *factors, bias = weights.tolist()
    return Scorer(tuple(mean.tolist()), tuple(scale.tolist()), tuple(factors), bias)


def _inputs(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    standard = np.clip((features - mean) / scale, -_FARTHEST, _FARTHEST)
    return np.column_stack([standard, standard**2])


def quantiles_of(scores: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Returns the quantiles of scores that a model stores."""
    return tuple(np.quantile(scores, np.linspace(0, 1, LEVELS + 1)).tolist())


def held_out_ranking(
    features: Float64[np.ndarray, "n features"], good: Bool[np.ndarray, " n"], folds: int = 5
) -> float:
    """Returns how often a good clip scores above a bad one, for labels that were not learned from.

    Each clip is scored by a classifier of the other folds. 0.5 is chance. Pairs within one fold
    count.
    """
    place = np.empty(len(good), np.int64)
    for kind in (good, ~good):  # each fold has both kinds
        place[kind] = np.arange(kind.sum()) % folds
    above = list[np.ndarray]()
    for fold in range(folds):
        held = place == fold
        scores = _fitted(features[~held], good[~held]).scores(features[held])
        pairs = scores[good[held]][:, None] - scores[~good[held]][None]
        above.append(((pairs > 0) + (pairs == 0) / 2).ravel())
    return float(np.concatenate(above).mean())


def save_quality(model: QualityModel, path: str | Path) -> None:
    """Writes a model as JSON."""
    values: dict[str, Any] = {"format": FORMAT, "version": VERSION, "features": FEATURES}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**values, **asdict(model)}, indent=1) + "\n", "utf-8")


def load_quality(path: str | Path) -> QualityModel:
    """Reads a model.

    Raises:
        UserError: there is none, it is damaged, or it is of other features.
    """
    advice = "make it with: genie label STORE --out FILE"
    try:
        values = json.loads(read_bounded(path))
        known = [values.pop(name) for name in ("format", "version", "features")]
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is no quality filter; {advice}") from None
    require(
        known == [FORMAT, VERSION, list(FEATURES)],
        f"{path}: is of another version of Genie; {advice}",
    )
    return from_dict(QualityModel, values, str(path))
