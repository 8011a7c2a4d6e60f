import io
import json

import numpy as np
import pytest
from PIL import Image

from genie.core.config import UserError
from genie.data import labelling as labelling_module
from genie.data.labelling import (
    COLUMNS,
    Labelled,
    Labelling,
    frame_sheet,
    order_of,
    shown_frames,
)
from genie.data.quality_labels import read_labels
from genie.data.store import Episode, write_table
from small import save_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Fourteen clips of four frames, each of one shade; the last clip is long."""
    shades = [np.full((4, 16, 24, 3), 15 * n, np.uint8) for n in range(13)]
    long = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(24, 2)
    clips = [*shades, long.repeat(3, 3)]
    return save_store(tmp_path_factory.mktemp("store"), *(("train", clip) for clip in clips))


def label_all(labelling, count):
    """Labels some clips, good and bad in turn; returns their names."""
    names = list[str]()
    after = -1
    for number in range(count):
        clip = labelling.clip(after)["clip"]
        labelling.label(Labelled(clip["name"], "bad" if number % 2 else "good"))
        names.append(clip["name"])
        after = clip["place"]
    return names


def test_each_turn_takes_one_clip_of_every_video():
    clips = {
        f"{video}#{n}": Episode(0, str(video), "train", 0, 2, "")
        for video, count in enumerate((9, 1, 3))
        for n in range(count)
    }
    order = order_of(clips, 0)
    assert sorted(order) == sorted(clips)
    videos = [name[0] for name in order]
    turns = [videos[:3], videos[3:5], videos[5:7], videos[7:]]
    assert [sorted(turn) for turn in turns] == [["0", "1", "2"], ["0", "2"], ["0", "2"], ["0"] * 6]
    assert order_of(clips, 0) == order != order_of(clips, 1)


def test_a_short_clip_is_shown_whole_and_three_parts_of_a_long_one(store, tmp_path):
    frames, fps = shown_frames(store, store.episodes[3])
    assert (frames.shape, fps) == ((4, 16, 24, 3), 10)
    frames, fps = shown_frames(store, store.episodes[-1])
    shown = [*range(20), *range(90, 110), *range(180, 200)]
    assert frames[:, 0, 0, 0].tolist() == shown
    fast = save_store(tmp_path, ("train", store.read(52, 200)), fps=60)
    frames, fps = shown_frames(fast, fast.episodes[0])
    assert (len(frames), fps) == (50, 15)
    assert frames[:3, 0, 0, 0].tolist() == [0, 4, 8]


def test_frames_travel_as_one_sheet(monkeypatch):
    frames = np.zeros((COLUMNS + 2, 16, 32, 3), np.uint8)
    frames[COLUMNS + 1] = 200
    for side, size in ((32, (16, 32)), (16, (8, 16))):
        monkeypatch.setattr(labelling_module, "SIDE", side)
        sheet, *found = frame_sheet(frames)
        picture = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
        height, width = size
        assert (tuple(found), picture.shape) == (size, (2 * height, COLUMNS * width, 3))
        bright = picture[..., 0] > 100
        assert bright[height:, width : 2 * width].all()
        assert bright.sum() == height * width


def test_each_label_is_saved_at_once_and_another_session_goes_on(store, tmp_path):
    path = tmp_path / "labels.json"
    first = Labelling(store, path)
    assert not path.exists()
    names = label_all(first, 3)
    assert json.loads(path.read_text()) == dict(zip(names, ("good", "bad", "good"), strict=True))
    assert first.counts() == {"good": 2, "bad": 1, "undo": 3}
    again = Labelling(store, path)
    assert again.session() == {
        "store": str(store.path), "file": str(path), "clips": 14, "goal": 14, "least": 5,
        "good": 2, "bad": 1, "undo": 3,
    }  # fmt: skip
    assert again.clip()["clip"]["name"] == again.order[3]
    assert names == again.order[:3]
    label_all(again, 11)
    assert again.clip() == again.clip(13) == {"clip": None}
    assert len(read_labels(path)) == 14


def test_labels_are_taken_back_one_after_the_other_in_a_later_session_too(store, tmp_path):
    path = tmp_path / "labels.json"
    names = label_all(Labelling(store, path), 3)
    labelling = Labelling(store, path)
    labelling.label(Labelled(names[0], "bad"))  # anew, so it is the last one
    for name in (names[0], names[2], names[1]):
        found = labelling.undo()
        assert found["clip"]["name"] == name
        assert labelling.clip(found["clip"]["place"] - 1)["clip"]["name"] == name
    assert (read_labels(path), found["undo"]) == ({}, 0)
    with pytest.raises(UserError, match="no label to undo"):
        labelling.undo()


def test_labels_of_whole_videos_stay_and_their_clips_are_not_shown(store, tmp_path):
    path = tmp_path / "labels.json"
    order = Labelling(store, path).order
    path.write_text(json.dumps({order[0].partition("#")[0]: "bad"}))
    labelling = Labelling(store, path)
    assert labelling.counts() == {"good": 0, "bad": 1, "undo": 0}
    assert labelling.clip()["clip"]["name"] == order[1]
    assert label_all(labelling, 1) == [order[1]]
    assert len(read_labels(path)) == 2


def test_it_ends_when_there_are_enough_labels_of_each_kind(store, tmp_path):
    ended = []
    labelling = Labelling(store, tmp_path / "labels.json", on_finished=lambda: ended.append(1))
    label_all(labelling, 9)
    with pytest.raises(UserError, match="5 good and 4 bad clips; label at least 5 of each"):
        labelling.finish()
    assert ended == []
    labelling.label(Labelled(labelling.order[9], "bad"))
    assert labelling.finish() == {"good": 5, "bad": 5, "undo": 10}
    assert ended == [1]


def test_what_cannot_be_labelled_is_refused(store, tmp_path):
    path = tmp_path / "labels.json"
    with pytest.raises(UserError, match="has no clip 99#1; load the page again"):
        Labelling(store, path).label(Labelled("99#1", "good"))
    path.write_text('{"other.mp4#1": "good"}')
    words = r"of another store, give another --save: .* has no clip other.mp4#1; .* such as 0#1"
    with pytest.raises(UserError, match=words):
        Labelling(store, path)
    (tmp_path / "file").write_text("")
    labelling = Labelling(store, tmp_path / "file" / "labels.json")
    with pytest.raises(UserError, match=r"cannot be written .* --save"):
        labelling.label(Labelled("0#1", "good"))
    assert labelling.labels == {}


def test_a_store_without_clips_is_refused(store, tmp_path):
    size = {"height": 16, "width": 24, "fps": 10.0}
    write_table(tmp_path, **size, episodes=[], prepared={})
    with pytest.raises(UserError, match="has no clips"):
        Labelling(type(store).open(tmp_path), tmp_path / "labels.json")
