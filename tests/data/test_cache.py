from __future__ import annotations

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
    with pytest.raises(FileNotFoundError):
        cache.join_pieces("tokens-a", [(0, 6), *spans[1:]])
    with pytest.raises(UserError, match="one row per frame"):
        cache.join_pieces("tokens-a", spans[:2])
    assert cache.pieces("tokens-a") == set(spans)
    cache.join_pieces("tokens-a", spans)
    assert np.array_equal(cache.read("tokens-a"), tokens)
    assert cache.pieces("tokens-a") == set()
    cache.write("tokens-b", tokens)
    assert _file(cache, "tokens-a") == _file(cache, "tokens-b")


def _file(cache, name):
    return (cache.folder / f"{name}.npy").read_bytes()


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
    cache.write("tokens.v1", (tokens[n : n + 10] * 2 for n in range(0, FRAMES, 10)))
    assert np.array_equal(cache.read("tokens.v1"), tokens * 2)
    with pytest.raises(UserError, match="one row per frame"):
        cache.write("tokens.v1", tokens[:-1])
    assert np.array_equal(cache.read("tokens.v1"), tokens * 2)
    assert [p.name for p in cache.folder.iterdir()] == ["tokens.v1.npy"]
    with pytest.raises(UserError, match="no array"):
        cache.read("actions")
    with pytest.raises(UserError, match="not a name"):
        cache.read("../actions")
