import numpy as np
import pytest
from sample_videos import moving_square

from genie.core.config import UserError
from genie.data.quality_labels import (
    clips_by_name,
    label_of,
    learn_quality,
    read_labels,
    write_labels,
)
from small import save_store

NOISE = np.random.default_rng(0).integers(0, 256, (12, 12, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve clips of a moving square, then twelve of noise; each is a video of its own."""
    good = [("train", moving_square(12, seed=seed)) for seed in range(12)]
    return save_store(tmp_path_factory.mktemp("store"), *good, *(("val", clip) for clip in NOISE))


def test_a_filter_is_learned_from_some_clips_and_scores_all(store):
    labels = {str(n): "good" for n in range(6)} | {f"{n}#1": "bad" for n in range(18, 24)}
    learned = learn_quality(store, labels, progress=False)
    assert (learned.model.good, learned.model.bad, learned.ranking) == (6, 6, 1.0)
    assert (learned.model.height, learned.model.fps) == (32, 10)
    # Half of the clips of the store are good, those without labels, too.
    assert learned.model.filter(0.51).least_score < 0 < learned.model.filter(0.49).least_score
    assert learn_quality(store, labels, progress=False) == learned


def test_clips_are_numbered_within_their_video(store):
    assert list(clips_by_name(store))[:2] == ["0#1", "1#1"]
    labels = {"a#1.mp4": "good", "a#1.mp4#2": "bad"}
    assert [label_of(f"a#1.mp4#{n}", labels) for n in (1, 2)] == ["good", "bad"]
    assert label_of("b.mp4#1", labels) is None


def test_labels_of_clips_that_are_not_there_are_refused(store):
    with pytest.raises(UserError, match=r"has no clip 99, menu.mp4; its clips .* such as 0#1"):
        learn_quality(store, {"menu.mp4": "bad", "99": "good", "1": "good"}, progress=False)


def test_labels_are_read_as_they_were_written(tmp_path):
    labels = {"b.mp4#2": "bad", "a.mp4": "good"}
    write_labels(tmp_path / "labels.json", labels)
    assert read_labels(tmp_path / "labels.json") == labels


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "fine"}', '{"a": ["good"]}', None])
def test_what_is_no_labels_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UserError, match="expected a JSON object such as"):
        read_labels(tmp_path / "labels.json")
