from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import tensorstore

from genie.core.config import UserError
from genie.data.store import ClipStore, Episode, shard_frames, write_table, zarr_spec

LENGTHS = (5, 20, 9)
FRAMES = sum(LENGTHS)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 6, 8, 3), np.uint8)


@pytest.fixture
def path(tmp_path, frames):
    folder = tmp_path / "store"
    spec = zarr_spec(folder / "frames", 6, 8)
    options = {"create": True, "dtype": tensorstore.uint8, "shape": frames.shape}
    tensorstore.open(spec, **options).result().write(frames).result()
    starts = np.cumsum([0, *LENGTHS])
    splits = ("train", "train", "val")
    episodes = [
        Episode(n, f"{n}.mp4", splits[n], int(starts[n]), length, f"{n:032x}")
        for n, length in enumerate(LENGTHS)
    ]
    write_table(folder, height=6, width=8, fps=15, episodes=episodes, prepared={})
    return folder


@pytest.mark.parametrize("cache_bytes", [2**30, 0])
def test_windows_from_memory_and_from_the_disk(path, frames, cache_bytes):
    store = ClipStore.open(path, cache_bytes=cache_bytes)
    assert store.in_memory == bool(cache_bytes)
    assert (len(store), store.height, store.width, store.fps) == (FRAMES, 6, 8, 15)
    assert np.array_equal(store.read(3, 12), frames[3:15])
    windows = store.windows(np.array([0, 17, 30]), 4)
    assert np.array_equal(windows, np.stack([frames[s : s + 4] for s in (0, 17, 30)]))
    assert store.windows([], 4).shape == (0, 4, 6, 8, 3)
    for outside in (-1, FRAMES - 3):
        with pytest.raises(UserError, match="outside"):
            store.windows([outside], 4)


def test_a_store_that_just_fits_is_kept_in_memory(path):
    size = FRAMES * 6 * 8 * 3
    assert ClipStore.open(path, cache_bytes=size).in_memory
    assert not ClipStore.open(path, cache_bytes=size - 1).in_memory


def test_a_path_may_lead_upwards(path, frames, monkeypatch):
    (path.parent / "here").mkdir()
    monkeypatch.chdir(path.parent / "here")
    assert np.array_equal(ClipStore.open("../store").read(0, 2), frames[:2])


def test_splits_and_windows_within_episodes(path):
    store = ClipStore.open(path)
    assert store.splits == ["train", "val"]
    assert (store.num_frames("train"), store.num_frames("val"), store.num_frames()) == (25, 9, 34)
    assert list(store.frames_in_split("val")) == list(range(25, 34))
    assert list(store.window_starts(5, "train")) == [0, *range(5, 21)]
    assert list(store.window_starts(8)) == [*range(5, 18), 25, 26]
    with pytest.raises(UserError, match="the longest of 9 frames"):
        store.window_starts(10, "val")


def test_only_the_path_travels_to_other_processes(path, frames):
    store = ClipStore.open(path)
    store.read(0, 1)
    data = pickle.dumps(store)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data).read(2, 2), frames[2:4])


def test_arrays_of_a_store_have_one_row_per_frame(path):
    store = ClipStore.open(path)
    store.cache.write("tokens-a", np.zeros(FRAMES, np.int16))
    assert (path / "derived" / "tokens-a.npy").exists()
    with pytest.raises(UserError, match=f"expected {FRAMES}, got {FRAMES - 1}"):
        store.cache.write("tokens-b", np.zeros(FRAMES - 1, np.int16))


def test_labels(path):
    store = ClipStore.open(path)
    assert store.labels() is None
    assert store.action_names is None
    np.save(path / "labels.npy", np.arange(FRAMES))
    assert list(store.labels("val")) == list(range(25, 34))
    assert list(store.labels(last=True)) == list(range(FRAMES)), "older stores have no more"
    np.save(path / "step_labels.npy", np.arange(FRAMES) + 1)
    assert list(store.labels()) == list(range(FRAMES))
    assert list(store.labels("val", last=True)) == list(range(26, 35))


def test_what_is_not_a_store(path, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        ClipStore.open(tmp_path / "missing")
    with pytest.raises(UserError, match="not a clip store"):
        ClipStore.open(tmp_path)
    (tmp_path / ".prepare").mkdir()
    with pytest.raises(UserError, match="unfinished; run the same"):
        ClipStore.open(tmp_path)


def test_a_store_of_another_version_or_damaged(path):
    table = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(table | {"version": 99}))
    with pytest.raises(UserError, match="version 99, this program reads 1"):
        ClipStore.open(path)
    (path / "store.json").write_text(json.dumps(table | {"version": 0}))
    with pytest.raises(UserError, match="version 0, this program reads 1"):
        ClipStore.open(path)
    (path / "store.json").write_text(json.dumps(table | {"format": "photos"}))
    with pytest.raises(UserError, match="not the table"):
        ClipStore.open(path)
    (path / "store.json").write_text(json.dumps(table)[:100])
    with pytest.raises(UserError, match="damaged"):
        ClipStore.open(path)
    (path / "store.json").write_text(json.dumps(table | {"frames": FRAMES + 1}))
    with pytest.raises(UserError, match="disagree"):
        ClipStore.open(path).read(0, 1)
    (path / "frames/zarr.json").unlink()
    with pytest.raises(UserError, match="cannot be opened"):
        ClipStore.open(path).read(0, 1)


HOSTILE = [
    *({key: value} for key in ("height", "frames") for value in (None, "many", -1, 2**60)),
    *({"fps": value} for value in (0, "fast", float("inf"))),
    {"prepared": None}, {"episodes": None}, {"episodes": ["x"]}, {"episodes": [{"start": 0}]},
    {"action_names": 7}, {"frames": 3},
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_table_with_wrong_values_is_damaged(path, change):
    table = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(table | change))
    with pytest.raises(UserError, match=r"damaged; prepare|disagree"):
        ClipStore.open(path).read(0, 1)


def test_frames_that_tensorstore_would_not_bear_are_refused(path):
    zarr, chunk = path / "frames" / "zarr.json", path / "frames" / "c" / "0" / "0" / "0" / "0"
    whole = zarr.read_text()
    wrong = json.loads(whole)
    wrong["chunk_grid"]["configuration"]["chunk_shape"] = [2**40, 6, 8, 3]
    for text in ("[" * 3_000_000, json.dumps(wrong), json.dumps({"shape": 1})):
        zarr.write_text(text)
        with pytest.raises(UserError, match=r"cannot be opened|disagree|holds 3,000,000"):
            ClipStore.open(path).read(0, 1)
    zarr.write_text(whole.replace("lz4", "lz5"))
    with pytest.raises(UserError, match="its frames cannot be opened"):
        ClipStore.open(path).read(0, 1)
    zarr.write_text(whole)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(UserError, match="is no file"):
        ClipStore.open(path).read(0, 1)


def test_arrays_that_lie_about_their_size_are_refused(path):
    np.save(path / "labels.npy", np.arange(FRAMES))
    data = bytearray((path / "labels.npy").read_bytes())
    at = data.index(b"(34,)")
    data[at : at + 18] = b"(1000000000000,), "
    for content in (bytes(data), data[:90], b"", pickle.dumps([1])):
        (path / "labels.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"labels\.npy: cannot be read"):
            ClipStore.open(path).labels()
    np.save(path / "labels.npy", np.arange(3))
    with pytest.raises(UserError, match="is not of this store"):
        ClipStore.open(path).labels()


def test_files_of_the_array_stay_small():
    assert shard_frames(64, 64) == 4096
    assert shard_frames(160, 90) == 4096
    assert shard_frames(512, 512) == 256
    assert shard_frames(349, 1000) == 256  # 268 million bytes, the limit is 2^28
    assert shard_frames(350, 1000) == 128
    assert shard_frames(4000, 4000) == 16
