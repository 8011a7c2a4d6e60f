"""Labels of clips by hand, and the quality filter that is learned from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from genie.core.config import UserError, require
from genie.core.io import read_bounded, replacing
from genie.core.progress import Progress
from genie.data.clip_features import features_of
from genie.data.quality import QualityModel, fit_scorer, held_out_ranking, quantiles_of
from genie.data.store import ClipStore, Episode

Label = Literal["good", "bad"]
_MOST_BYTES = 2**28


def clips_by_name(store: ClipStore) -> dict[str, Episode]:
    """Returns the clips of a store: the second clip of `a.mp4` is `a.mp4#2`."""
    count: Counter[str] = Counter()
    named = dict[str, Episode]()
    for episode in store.episodes:
        count[episode.source] += 1
        named[f"{episode.source}#{count[episode.source]}"] = episode
    return named


def read_labels(path: str | Path) -> dict[str, Label]:
    """Reads labels: a JSON object of names of clips or videos, each "good" or "bad".

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    expected = 'expected a JSON object such as {"a.mp4#1": "good", "b.mp4": "bad"}'
    try:
        labels = json.loads(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {expected}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {expected}") from None
    known = isinstance(labels, dict) and all(label in get_args(Label) for label in labels.values())
    require(known, f"{path}: holds something else; {expected}")
    return labels


def write_labels(path: str | Path, labels: Mapping[str, Label]) -> None:
    """Writes labels, sorted by name."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(labels, indent=1, sort_keys=True) + "\n", "utf-8")


def label_of(name: str, labels: Mapping[str, Label]) -> Label | None:
    """Returns the label of a clip: its own, or that of its video."""
    return labels[name] if name in labels else labels.get(name.rpartition("#")[0])


def require_known(store: ClipStore, labels: Mapping[str, Label], where: str = "labels") -> None:
    """Refuses labels of clips and videos that a store does not have.

    Args:
        store: of the clips.
        labels: by names of `clips_by_name` or of videos.
        where: the labels come from, for the message.

    Raises:
        UserError: a name is not in the store.
    """
    clips = clips_by_name(store)
    unknown = sorted(labels.keys() - clips.keys() - {episode.source for episode in store.episodes})
    require(
        not unknown,
        f"{where}: {store.path} has no clip {', '.join(unknown[:3])}; its clips have names such as "
        f"{next(iter(clips), 'none')}",
    )


@dataclass(frozen=True)
class Learned:
    """What became of labels.

    Attributes:
        model: the quality filter.
        ranking: how often a good clip scores above a bad one; neither was learned from.
    """

    model: QualityModel
    ranking: float


def learn_quality(
    store: ClipStore, labels: Mapping[str, Label], *, progress: bool = True
) -> Learned:
    """Learns a quality filter from the labels of some clips of a store.

    All clips of the store are scored, to know which score the best tenth has. So it should be a
    fair sample of the videos to prepare.

    Args:
        store: clips, prepared without a quality filter.
        labels: by names of `clips_by_name` or of videos.
        progress: show a progress bar.

    Raises:
        UserError: a name is not in the store, or there are too few labels.
    """
    clips = clips_by_name(store)
    require_known(store, labels)
    rows = list[np.ndarray]()
    with Progress("features", len(clips), unit="clips", show=progress) as bar:
        for episode in clips.values():
            rows.append(
                features_of(lambda starts: store.windows(starts, 2), episode.start, episode.length)
            )
            bar.update(len(rows))
    told = [label_of(name, labels) for name in clips]
    labelled = np.array([label is not None for label in told])
    good = np.array([label == "good" for label in told])[labelled]
    features = np.stack(rows)
    scorer = fit_scorer(features[labelled], good)
    model = QualityModel(
        scorer,
        quantiles_of(scorer.scores(features)),
        store.height,
        store.width,
        store.fps,
        int(good.sum()),
        int((~good).sum()),
    )
    return Learned(model, held_out_ranking(features[labelled], good))
