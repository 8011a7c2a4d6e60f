import json

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data.clip_features import FEATURES
from genie.data.quality import (
    QualityModel,
    fit_scorer,
    held_out_ranking,
    load_quality,
    quantiles_of,
    save_quality,
)


def labelled(seed, count=200):
    """Good clips have a middling first feature; the others say nothing."""
    features = np.random.default_rng(seed).normal(3, 2, (count, len(FEATURES)))
    features[:, 5] = 0.25  # the same everywhere
    return features, np.abs(features[:, 0] - 3) < 1.3


@pytest.fixture(scope="module")
def model():
    features, good = labelled(0)
    scorer = fit_scorer(features, good)
    counts = int(good.sum()), int((~good).sum())
    return QualityModel(scorer, quantiles_of(scorer.scores(features)), 64, 64, 10.0, *counts)


def test_it_learns_what_neither_much_nor_little_of_a_feature_means(model):
    features, good = labelled(1)
    assert ((model.scorer.scores(features) > 0) == good).mean() > 0.9
    assert held_out_ranking(features, good) > 0.95
    by_chance = np.random.default_rng(2).permutation(good)
    assert 0.3 < held_out_ranking(features, by_chance) < 0.7


def test_the_share_that_is_kept_is_that_of_the_labelled_store(model):
    features, _ = labelled(0)
    for share in (0.1, 0.5, 0.9):
        chosen = model.filter(share)
        kept = (model.scorer.scores(features) >= chosen.least_score).mean()
        assert kept == pytest.approx(share, abs=0.01)
        assert chosen.keep_best == share


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_what_is_no_share_is_refused(model, share):
    with pytest.raises(UserError, match="keep_best: must be within"):
        model.filter(share)


def test_a_model_is_read_as_it_was_written(model, tmp_path):
    save_quality(model, tmp_path / "quality.json")
    assert load_quality(tmp_path / "quality.json") == model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(version=2), "another version"),
        (lambda v: v["features"].pop(), "another version"),
        (lambda v: v.pop("format"), "is no quality filter"),
        (lambda v: v["scorer"]["weights"].pop(), "expected figures of"),
        (lambda v: v["scorer"].update(scale=[0.0] * len(FEATURES)), "scale: must be above 0"),
        (lambda v: v["scorer"].update(bias="high"), "bias"),
        (lambda v: v["quantiles"].pop(), "quantiles: expected 1001"),
    ],
)
def test_a_damaged_file_is_refused(model, tmp_path, change, words):
    path = tmp_path / "quality.json"
    save_quality(model, path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=words):
        load_quality(path)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file; make it with"):
        load_quality(tmp_path / "quality.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UserError, match="is no quality filter"):
        load_quality(tmp_path / "list.json")


def test_too_few_labels_are_refused():
    features, _ = labelled(0, 20)
    with pytest.raises(UserError, match="4 good and 16 bad ones; label at least 5 of each"):
        fit_scorer(features, np.arange(20) < 4)


def test_frames_of_another_size_or_rate_are_refused(model):
    model.require_like(64, 64, None)
    model.require_like(64, 64, 10.0)
    for other in ((32, 64, 10.0), (64, 64, 15.0)):
        with pytest.raises(UserError, match="--height 64 --width 64 --fps 10"):
            model.require_like(*other)
