import collections
import json

import numpy as np
import pytest
from PIL import Image
from sample_videos import HERE, moving_square

from genie.core.config import UserError
from genie.data.folders import LocalFolder
from genie.data.prepare import prepare
from genie.data.sources.image_sequences import ImageSequences
from genie.data.store import ClipStore


def write_images(folder, frames, first=1, step=1, form="frame_{:04}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for place, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / form.format(first + place * step))


def frames_of(source, name):
    return source.open(name, height=32, width=32, fit="crop", fps=10)


def test_folders_whose_images_differ_in_their_number_are_videos(tmp_path):
    clip = moving_square(3)
    write_images(tmp_path / "a" / "run1", clip)
    write_images(tmp_path / "b", clip, form="{}.bmp")
    write_images(tmp_path / "mixed", clip, form="{}.png")
    write_images(tmp_path / "mixed", clip, form="{}.jpg")
    write_images(tmp_path / "photos", clip[:1], form="cat.png")
    write_images(tmp_path / "photos", clip[:1], form="dog.png")
    write_images(tmp_path / "one", clip[:1])
    write_images(tmp_path / ".hidden", clip)
    assert sorted(ImageSequences(LocalFolder(tmp_path)).list()) == ["a/run1", "b"]
    assert ImageSequences(LocalFolder(tmp_path / "b")).list() == ["."]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("cover.png", "cover.png has no number"),
        ("frame_0004.PNG", "frame_0001.png and frame_0004.PNG differ in more than their number"),
        ("depth_0001.png", "depth_0001.png and frame_0001.png differ in more than their number"),
        ("frame_2.png", "frame_0002.png and frame_2.png have the same number"),
    ],
)
def test_a_folder_of_images_that_is_left_out_is_noted(tmp_path, more, why):
    source = tmp_path / "data"
    write_images(source / "run", moving_square(3))
    write_images(source / "run", moving_square(1), form=more)
    assert ImageSequences(LocalFolder(source)).list() == []
    assert why in ImageSequences(LocalFolder(source)).left_out()["run"]
    with pytest.raises(UserError, match=f"run: .*{why}"):
        prepare(source, tmp_path / "store", **HERE)
    write_images(source / "train" / "whole", moving_square(30))
    write_images(source / "photos", moving_square(1), form="1.png")
    write_images(source / "photos", moving_square(1), form="dog.png")
    for _ in range(2):  # when the store is there already, too
        report = prepare(source, tmp_path / "store", **HERE)
        assert list(report.skipped) == ["run"]
        assert why in report.skipped["run"]
        assert report.kinds == {"image folders": 1}


def test_images_become_frames_in_the_order_of_their_numbers(tmp_path):
    clip = moving_square(12)
    write_images(tmp_path / "run", clip, first=95, form="{}.png")  # 100 comes before 99 by name
    frames = list(frames_of(ImageSequences(LocalFolder(tmp_path)), "run"))
    assert np.array_equal([frame.pixels for frame in frames], clip)
    assert [frame.time for frame in frames] == [place / 10 for place in range(12)]
    assert not any(frame.cut for frame in frames)


def test_a_missing_number_is_a_cut(tmp_path):
    write_images(tmp_path / "run", moving_square(8), step=5)
    (tmp_path / "run" / "frame_0021.png").unlink()
    frames = list(frames_of(ImageSequences(LocalFolder(tmp_path)), "run"))
    assert [frame.cut for frame in frames] == [False] * 4 + [True] + [False] * 2


def test_a_damaged_image_is_left_out_and_named(tmp_path):
    write_images(tmp_path / "run", moving_square(6))
    (tmp_path / "run" / "frame_0003.png").write_bytes(b"nothing")
    frames, reading = [], frames_of(ImageSequences(LocalFolder(tmp_path)), "run")
    with pytest.raises(UserError, match=r"frame_0003\.png"):
        collections.deque(map(frames.append, reading))
    assert [frame.number for frame in frames] == [0, 1, 3, 4, 5]
    assert [frame.cut for frame in frames] == [False, False, True, False, False]


def test_sequences_are_prepared_with_their_actions_and_splits(tmp_path):
    source = tmp_path / "data"
    for seed, split in enumerate(("train", "val"), start=1):
        write_images(source / split / "run", moving_square(30, seed=seed))
        sidecar = {"action_names": ["noop", "right"], "actions": [0, 1] * 15}
        (source / split / "run" / "actions.json").write_text(json.dumps(sidecar))
    report = prepare(source, tmp_path / "store", **HERE, fps=7)
    assert report.frames == {"train": 30, "val": 30}
    store = ClipStore.open(tmp_path / "store")
    assert store.fps == 7
    assert [episode.source for episode in store.episodes] == ["train/run", "val/run"]
    assert store.episodes[0].sidecar == "train/run/actions.json"
    assert store.labels("val").tolist() == [*([0, 1] * 15)[:29], -1]
    assert prepare(source, tmp_path / "store", **HERE, fps=7).complete_before
    write_images(source / "train" / "run", moving_square(1), first=99)
    with pytest.raises(UserError, match="other videos"):
        prepare(source, tmp_path / "store", **HERE, fps=7)
