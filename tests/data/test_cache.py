from __future__ import annotations

import pickle
import time

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data.cache import ArrayCache

FRAMES = 34


@pytest.fixture
def cache(tmp_path):
    return ArrayCache(tmp_path, FRAMES)


def test_only_the_last_arrays_of_a_kind_stay(cache):
    rows = np.zeros(FRAMES, np.int16)
    for name in ("tokens-a", "tokens-whole-a", "tokens-b", "tokens-c"):
        cache.write(name, rows)
        time.sleep(0.01)
    cache.touch("tokens-a")
    cache.trim("tokens", 2)
    kept = [name for name in ("tokens-a", "tokens-b", "tokens-c") if cache.has(name)]
    assert kept == ["tokens-a", "tokens-c"]
    assert cache.has("tokens-whole-a")


def test_an_array_grows_in_pieces(cache):
    tokens = np.arange(FRAMES * 4, dtype=np.int16).reshape(FRAMES, 4)
    spans = [(0, 5), (5, 30), (30, FRAMES)]
    assert cache.pieces("tokens-a") == set()
    for first, stop in spans[::-1]:
        cache.write_piece("tokens-a", first, tokens[first:stop])
    assert cache.pieces("tokens-a") == set(spans)
    assert not cache.has("tokens-a")
    with pytest.raises(UserError, match="do not follow"):
        cache.finish("tokens-a", spans[1:])
    with pytest.raises(UserError, match="one row per frame"):
        cache.finish("tokens-a", spans[:2])
    with pytest.raises(FileNotFoundError):
        cache.finish("tokens-a", [(0, 5), (5, 29), (29, FRAMES)])
    assert not cache.has("tokens-a")
    for _ in range(2):  # another process has finished it as well
        cache.finish("tokens-a", spans)
    assert cache.has("tokens-a")
    assert np.array_equal(cache.read("tokens-a"), tokens)
    cache.drop_pieces("tokens-a")
    assert not cache.has("tokens-a")


@pytest.fixture
def in_pieces(cache):
    """An array in pieces, and the same as one."""
    whole = np.arange(FRAMES * 4, dtype=np.int16).reshape(FRAMES, 4)
    spans = [(0, 5), (5, 30), (30, FRAMES)]
    for first, stop in spans:
        cache.write_piece("tokens-a", first, whole[first:stop])
    cache.finish("tokens-a", spans)
    return cache.read("tokens-a"), whole


def test_rows_of_an_array_in_pieces_are_those_of_one(in_pieces):
    pieces, whole = in_pieces
    windows = np.array([[3, 4, 5, 6], [28, 29, 30, 31], [0, 1, 2, 3]])
    for rows in (windows, np.array([], np.int64), slice(2, 33), slice(None), slice(-3, None), 7):
        assert np.array_equal(pieces[rows], whole[rows])
        assert pieces[rows].dtype == whole.dtype
    assert (len(pieces), pieces.shape, pieces.dtype) == (len(whole), whole.shape, whole.dtype)
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(pieces))), whole)
    for outside in (FRAMES, -1):
        with pytest.raises(IndexError):
            pieces[np.array([0, outside])]


def test_an_array_of_many_pieces_keeps_few_files_open(in_pieces, monkeypatch):
    monkeypatch.setattr("genie.data.cache.OPEN_PIECES", 1)
    pieces, whole = in_pieces
    narrow = type(pieces)(pieces.paths, [5, 30, FRAMES])
    rows = np.arange(FRAMES)[::-1]
    assert np.array_equal(narrow[rows], whole[rows])
    assert narrow._open.cache_info().currsize == 1


def test_pieces_of_models_long_gone_are_deleted(cache):
    rows = np.zeros(FRAMES, np.int16)
    for name in ("labels-a", "labels-b", "labels-c"):
        cache.write_piece(name, 0, rows[:3])
        time.sleep(0.01)
    cache.write("labels-d", rows)
    cache.trim("labels", 2)
    left = [name for name in ("labels-a", "labels-b", "labels-c") if cache.pieces(name)]
    assert left == ["labels-c"]


def test_cached_arrays(cache):
    tokens = np.arange(FRAMES * 4, dtype=np.int16).reshape(FRAMES, 4)
    assert not cache.has("tokens.v1")
    cache.write("tokens.v1", tokens)
    assert np.array_equal(cache.read("tokens.v1"), tokens)
    assert not cache.read("tokens.v1").flags.writeable
    cache.write("tokens.v1", tokens * 2)
    assert np.array_equal(cache.read("tokens.v1"), tokens * 2)
    with pytest.raises(UserError, match="one row per frame"):
        cache.write("tokens.v1", tokens[:-1])
    assert np.array_equal(cache.read("tokens.v1"), tokens * 2)
    assert [p.name for p in cache.folder.iterdir()] == ["tokens.v1.npy"]
    with pytest.raises(UserError, match="no array"):
        cache.read("actions")
    with pytest.raises(UserError, match="not a name"):
        cache.read("../actions")
