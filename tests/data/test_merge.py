from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from sample_videos import HERE, moving_square
from test_prepare import content

from genie.core.config import UserError
from genie.data import merge as merge_module
from genie.data import store as store_module
from genie.data.assemble import write_store
from genie.data.clip_features import FEATURES
from genie.data.merge import merge
from genie.data.prepare import prepare
from genie.data.quality import QualityModel, Scorer, quantiles_of, save_quality
from genie.data.store import ClipStore
from genie.data.video import write_video


@pytest.fixture
def source(make_videos):
    """Videos, a copy, a broken one, and one with true actions."""
    folder = make_videos(5)
    shutil.copy(folder / "clip-0.mp4", folder / "copy.mp4")
    (folder / "broken.mp4").write_text("not a video")
    sidecar = {"actions": [0, 1] * 20, "action_names": ["left", "up"], "rewards": [0.1] * 40}
    (folder / "clip-1.actions.json").write_text(json.dumps(sidecar))
    return folder


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_FRAMES", 32)


def parts_of(source, folder, count, **options):
    made = []
    for number in range(1, count + 1):
        made.append(folder / f"part-{number}")
        report = prepare(source, made[-1], shard=f"{number}/{count}", **{**HERE, **options})
        assert set(report.frames) == {f"shard {number}/{count}"}
    return made


@pytest.mark.parametrize("count", [1, 4, 9])
def test_merged_shards_are_what_one_process_makes(source, tmp_path, count):
    whole = prepare(source, tmp_path / "whole", **HERE)
    parts = parts_of(source, tmp_path, count)
    before = [content(part) for part in parts]
    merged = merge(tmp_path / "merged", parts[::-1], progress=False)
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert merged.frames == whole.frames
    assert (merged.episodes, merged.videos, merged.kinds) == (6, 7, whole.kinds)
    assert "broken.mp4" in merged.skipped
    assert [content(part) for part in parts] == before
    assert prepare(source, tmp_path / "merged", **HERE).complete_before


def test_a_finished_shard_is_not_made_again(source, tmp_path):
    (part, _) = parts_of(source, tmp_path, 2)
    before = content(part)
    assert prepare(source, part, shard="1/2", **HERE).complete_before
    for other in ({"shard": "2/2"}, {"shard": "1/2", "min_frames": 8}, {}):
        with pytest.raises(UserError, match="holds shard 1/2 that was prepared with other"):
            prepare(source, part, **HERE, **other)
    assert content(part) == before
    with pytest.raises(UserError, match="genie merge"):
        ClipStore.open(part)


KILLED = """
import os, signal, sys
from genie.data import assemble, store
from genie.data.assemble import write_store
from genie.data.merge import merge
store.SHARD_FRAMES = 32
write, calls = assemble.ShardWriter._write, []
def killing(*args):
    write(*args)
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
assemble.ShardWriter._write = killing
merge(sys.argv[1], sys.argv[2:], progress=False)
"""


def test_a_killed_merge_goes_on(source, tmp_path):
    prepare(source, tmp_path / "whole", **HERE)
    parts, out = parts_of(source, tmp_path, 2), tmp_path / "merged"
    command = [sys.executable, "-c", KILLED, out, *parts]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="unfinished"):
        ClipStore.open(out)
    merge(out, parts, progress=False)
    assert content(out) == content(tmp_path / "whole")


def test_an_unfinished_merge_of_other_parts_is_begun_anew(make_videos, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    source, out = make_videos(3), tmp_path / "merged"
    parts = parts_of(source, tmp_path / "old", 1)
    monkeypatch.setattr(merge_module, "write_store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(out, parts, progress=False)
    monkeypatch.setattr(merge_module, "write_store", write_store)
    (source / "clip-0.mp4").unlink()
    prepare(source, tmp_path / "whole", **HERE)
    merge(out, parts_of(source, tmp_path, 1), progress=False)
    assert content(out) == content(tmp_path / "whole")


def test_parts_that_do_not_belong_together_are_refused(source, tmp_path):
    parts, out = parts_of(source, tmp_path, 3), tmp_path / "out"
    with pytest.raises(UserError, match="shard 2 of 3 is missing"):
        merge(out, [parts[0], parts[2]], progress=False)
    twice = tmp_path / "twice"
    shutil.copytree(parts[1], twice)
    with pytest.raises(UserError, match="shard 2 of 3 was given twice"):
        merge(out, [*parts, twice], progress=False)
    (of_two, _) = parts_of(source, tmp_path / "two", 2)
    with pytest.raises(UserError, match="are of 2, 3 shards"):
        merge(out, [*parts, of_two], progress=False)
    (other, *_) = parts_of(source, tmp_path / "other", 3, min_frames=8)
    with pytest.raises(UserError, match="other settings or from other videos"):
        merge(out, [*parts[1:], other], progress=False)
    write_video(source / "more.mp4", moving_square(20), 15)
    (more, *_) = parts_of(source, tmp_path / "more", 3)
    with pytest.raises(UserError, match="other settings or from other videos"):
        merge(out, [*parts[1:], more], progress=False)
    with pytest.raises(UserError, match="is no finished part"):
        merge(out, [tmp_path / "two"], progress=False)
    assert not out.exists()


def test_nothing_usable_in_any_part_is_an_error(tmp_path):
    source = tmp_path / "videos"
    source.mkdir()
    for name in "abc":
        (source / f"{name}.mp4").write_text("broken")
    parts = parts_of(source, tmp_path, 2)
    with pytest.raises(UserError, match=r"none of its 3 videos is usable; a\.mp4: cannot"):
        merge(tmp_path / "out", parts, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", ""])
def test_a_share_that_is_none_is_a_sentence(source, tmp_path, shard):
    with pytest.raises(UserError, match="shard: expected a share such as 2/8"):
        prepare(source, tmp_path / "out", shard=shard, **HERE)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_left_alone(source, tmp_path):
    parts, whole = parts_of(source, tmp_path, 1), tmp_path / "whole"
    prepare(source, whole, **HERE)
    with pytest.raises(UserError, match="holds a store already"):
        merge(whole, parts, progress=False)
    with pytest.raises(UserError, match="holds a whole store"):
        prepare(source, whole, shard="1/2", **HERE)
    with pytest.raises(UserError, match="holds other files"):
        merge(source, parts, progress=False)
    assert os.listdir(parts[0])


@pytest.fixture(scope="module")
def quality_file(tmp_path_factory):
    """A filter that takes clips with much motion for good, learned from clips as of `HERE`."""
    count, motion = len(FEATURES), FEATURES.index("motion")
    weights = np.zeros(2 * count)
    weights[motion] = 1
    scorer = Scorer((-4.0,) * count, (1.0,) * count, tuple(weights.tolist()), 0.0)
    quantiles = quantiles_of(np.linspace(-1, 1, 50))
    path = tmp_path_factory.mktemp("quality") / "quality.json"
    save_quality(QualityModel(scorer, quantiles, 32, 32, 15.0, 20, 20), path)
    return path


def test_shards_keep_the_clips_that_one_process_keeps(make_videos, tmp_path, quality_file):
    folder = make_videos(3)
    slow = moving_square(4, seed=2).repeat(10, 0)
    write_video(folder / "slow.mp4", slow, 15, crf=0)
    bright = (moving_square(40, seed=0) * 0.9).astype(np.uint8)
    write_video(folder / "z.mp4", bright, 15)  # as clip-0.mp4
    options = {"quality": quality_file, "keep_best": 0.5, "drop_duplicates": True}
    whole = prepare(folder, tmp_path / "whole", **HERE, **options)
    assert whole.left_out == {"duplicate": 1, "quality": 1}
    assert whole.skipped == {
        "slow.mp4": "dropped 40 frames in clips of low quality",
        "z.mp4": "dropped 40 frames in near duplicates of clips before",
    }
    assert (whole.episodes, whole.videos, whole.fps) == (3, 5, 15)
    parts = parts_of(folder, tmp_path, 2, **options)
    merged = merge(tmp_path / "merged", parts, progress=False)
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert merged.left_out == whole.left_out
    again = prepare(folder, tmp_path / "merged", **HERE, **options)
    assert (again.complete_before, again.left_out) == (True, whole.left_out)
    with pytest.raises(UserError, match=r"other settings \(fps, quality, drop_duplicates\)"):
        prepare(folder, tmp_path / "merged", **HERE)


def test_a_quality_filter_needs_a_share(make_videos, tmp_path, quality_file):
    for half in ({"quality": quality_file}, {"keep_best": 0.1}):
        with pytest.raises(UserError, match="give both, such as --quality"):
            prepare("videos", tmp_path / "store", **HERE, **half)
    with pytest.raises(UserError, match="was learned from frames of 32x32"):
        prepare("videos", tmp_path / "store", quality=quality_file, keep_best=0.1)
