from __future__ import annotations

from pathlib import Path

from sample_videos import HERE, moving_square

from genie.data.folders import LocalFolder
from genie.data.prepare import prepare
from genie.data.sources.videos import VideoFiles
from genie.data.splits import hold_out_tail, merge_duplicates, split_sources
from genie.data.store import ClipStore, Episode
from genie.data.video import write_video


def splits_of(names, val_fraction):
    source = VideoFiles(LocalFolder(Path()))
    return list(split_sources({name: source.split(name) for name in names}, val_fraction).values())


def test_split_by_path_or_by_folder():
    names = [f"{n}.mp4" for n in range(1000)]
    splits = splits_of(names, 0.1)
    assert 60 < splits.count("val") < 140
    assert splits_of(names[:500], 0.1) == splits[:500]
    assert splits_of(["a.mp4", "b.mp4"], 0.1).count("val") == 1
    assert splits_of(["a.mp4", "b.mp4"], 0.99).count("train") == 1
    assert splits_of(["a.mp4", "b.mp4"], 0) == ["train", "train"]
    folders = ["x/train/a.mp4", "x/val/a.mp4", "x/test/b.mp4", "b.mp4"]
    assert splits_of(folders, 0.1) == ["train", "val", "test", "train"]
    assert "val" in splits_of(["train/a.mp4", "train/b.mp4", "test/c.mp4"], 0.1)[:2]


def tail_of(*lengths: int) -> list[tuple[str, int, int]]:
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    episodes = [
        Episode(n, "a.mp4", "train", start, length, str(n))
        for n, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]
    return [(row.split, row.start, row.length) for row in hold_out_tail(episodes, 0.2, 16)]


def test_the_end_of_a_single_video_is_held_out():
    assert tail_of(200) == [("train", 0, 160), ("val", 160, 40)]
    assert tail_of(100, 50) == [("train", 0, 100), ("train", 100, 20), ("val", 120, 30)]
    assert tail_of(100, 20) == [("train", 0, 100), ("val", 100, 20)]  # too short to be cut in two
    assert tail_of(20) == [("train", 0, 20)]


def united(*rows):
    episodes = [
        Episode(n, source, split, 20 * n, 20, digest)
        for n, (source, split, digest) in enumerate(rows)
    ]
    stated = {source: VideoFiles(LocalFolder(Path())).split(source) for source, _, _ in rows}
    found, notes = merge_duplicates(episodes, stated)
    return [row.split for row in found], notes


def test_copies_of_a_video_share_a_split():
    free = ("a", "val", "1"), ("b", "train", "1"), ("c", "val", "2"), ("d", "train", "3")
    assert united(*free) == (["train", "train", "val", "train"], {})
    kept = ("a", "val", "1"), ("b", "train", "1"), ("d", "train", "3")
    assert united(*kept) == (["val", "val", "train"], {})  # something stays held out
    assert united(*kept[:2]) == (["train", "train"], {})  # and something to train on


def test_copies_in_folders_of_a_split():
    splits, notes = united(
        ("train/a", "train", "1"), ("val/b", "val", "1"), ("val/c", "val", "2"), ("d", "train", "2")
    )
    assert splits == ["train", "train", "val", "val"]
    assert list(notes) == ["val/b"]
    assert "20 frames left out of val" in notes["val/b"]
    assert united(("test/a", "test", "1"), ("b", "train", "1"))[0] == ["test", "test"]


def test_a_video_copied_into_the_held_out_folder_is_not_held_out(tmp_path):
    source = tmp_path / "videos"
    for name, seed in (("train/a", 1), ("val/again", 1), ("val/b", 2)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(source / f"{name}.mp4", moving_square(40, seed=seed), 15)
    report = prepare(source, tmp_path / "store", **HERE)
    assert report.frames == {"train": 80, "val": 40}
    assert list(report.notes) == ["val/again.mp4"]


def test_one_video_holds_out_its_end(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    write_video(source / "only.mp4", moving_square(200), 15)
    report = prepare(source, tmp_path / "store", **HERE)
    assert report.frames == {"train": 180, "val": 20}
    assert [e.start for e in ClipStore.open(tmp_path / "store").episodes] == [0, 180]
