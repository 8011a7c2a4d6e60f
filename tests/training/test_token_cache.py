import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from killing import SMALL_PIECES, precompute_here

from forked import in_a_process
from genie.data.cache import ArrayCache
from genie.data.store import ClipStore
from genie.models.latent_actions.base import LatentActionModel
from genie.models.tokenizers.transformer import VideoTokenizer
from genie.training import token_cache
from genie.training.token_cache import (
    fingerprint,
    precompute_actions,
    precompute_tokens,
)
from genie.world.genie import Genie


def ignore(share):
    assert 0 < share <= 1


@pytest.fixture
def world(small_world):
    torch.manual_seed(1)
    return Genie(small_world).eval()


def clip(store, start, length):
    return torch.from_numpy(store.windows([start], length))


def test_tokens_equal_those_of_whole_episodes_and_of_segments(store, world, monkeypatch):
    monkeypatch.setattr("genie.training.token_cache.SHORTEST_CHUNK", 7)
    whole, fresh = precompute_tokens(store, world.tokenizer, 4, ignore)
    assert fresh is not None
    for e in store.episodes:
        direct = world.tokenizer.encode(clip(store, e.start, e.length))[0]
        assert np.array_equal(whole[e.start : e.start + e.length], direct.numpy())
        for start in range(e.start, e.start + e.length, 4):
            length = min(4, e.start + e.length - start)
            direct = world.tokenizer.encode(clip(store, start, length))[0]
            assert np.array_equal(fresh[start : start + length], direct.numpy())
    assert not np.array_equal(whole, fresh)


def test_a_spatial_encoder_needs_one_array_only(store, small_world):
    from dataclasses import replace

    encoder = replace(small_world.tokenizer.encoder, window=1)
    world = Genie(replace(small_world, tokenizer=replace(small_world.tokenizer, encoder=encoder)))
    whole, fresh = precompute_tokens(store, world.eval().tokenizer, 4, ignore)
    assert fresh is None
    direct = world.tokenizer.encode(clip(store, 3, 9))[0]
    assert np.array_equal(whole[3:12], direct.numpy())


@pytest.mark.parametrize("window", [1, 2])
def test_actions_equal_those_of_whole_episodes(store, small_world, window, monkeypatch):
    torch.manual_seed(0)
    encoder = replace(small_world.actions.encoder, window=window)
    world = Genie(
        replace(small_world, actions=replace(small_world.actions, encoder=encoder))
    ).eval()
    monkeypatch.setattr("genie.training.token_cache.SHORTEST_CHUNK", 7)
    actions = precompute_actions(store, world.actions, ignore)
    assert actions.dtype == np.int64
    for e in store.episodes:
        assert actions[e.start + e.length - 1] == -1
        if e.length > 1:
            direct = world.actions.infer(clip(store, e.start, e.length))[0]
            assert np.array_equal(actions[e.start : e.start + e.length - 1], direct.numpy())


def test_episodes_of_any_length_share_forwards(store, world, monkeypatch):
    """Ends of episodes once had forwards of their own, which left a GPU idle."""
    infer, shapes = type(world.actions).infer, []

    def counting(self, frames):
        shapes.append(tuple(frames.shape[:2]))
        return infer(self, frames)

    monkeypatch.setattr(type(world.actions), "infer", counting)
    monkeypatch.setattr("genie.training.token_cache.SHORTEST_CHUNK", 8)
    with torch.no_grad():
        world.actions.to_latent.bias += 3
    precompute_actions(store, world.actions, ignore)
    lengths = {episode.length for episode in store.episodes}
    assert len(lengths) > 4
    assert len(shapes) <= 8  # heads and middles, each of a full chunk or of 2, 4 or 8 frames
    read = sum(clips * frames for clips, frames in shapes)
    assert read < 3 * len(store)


def test_what_is_cached_is_not_computed_again_until_weights_change(store, world, monkeypatch):
    first = precompute_actions(store, world.actions, ignore)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.actions), "infer", None)
        assert np.array_equal(precompute_actions(store, world.actions, ignore), first)
    before = fingerprint(world.actions)
    world.actions.quantizer.codebook[0, 0] += 1
    assert fingerprint(world.actions) != before
    precompute_actions(store, world.actions, ignore)
    assert store.cache.has(f"actions-{fingerprint(world.actions)}")


def test_arrays_of_models_long_gone_are_deleted(store, world, monkeypatch):
    monkeypatch.setattr("genie.training.token_cache.KEEP_ARRAYS", 2)
    names = []
    for _ in range(3):
        precompute_actions(store, world.actions, ignore)
        names.append(f"actions-{fingerprint(world.actions)}")
        world.actions.quantizer.codebook[0, 0] += 1
    assert [store.cache.has(name) for name in names] == [False, True, True]


def test_stopping_leaves_no_half_array(store, world):
    with torch.no_grad():
        world.actions.to_latent.bias += 1

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        precompute_actions(store, world.actions, stop)
    assert not store.cache.has(f"actions-{fingerprint(world.actions)}")


@pytest.fixture
def small_pieces(monkeypatch):
    """The store is several pieces of several forwards."""
    for name, frames in zip(
        ("SHORTEST_CHUNK", "FRAMES_AT_ONCE", "PIECE_FRAMES"), SMALL_PIECES, strict=True
    ):
        monkeypatch.setattr(token_cache, name, frames)


@pytest.fixture
def copy_of(store, tmp_path):
    """Makes a copy of the store without anything derived."""

    def copy(name):
        skipped = shutil.ignore_patterns("derived")
        return ClipStore.open(shutil.copytree(store.path, tmp_path / name, ignore=skipped))

    return copy


def precompute_all(store, world, advance=ignore):
    precompute_tokens(store, world.tokenizer, 4, advance)
    precompute_actions(store, world.actions, advance)


def files_of(store):
    """The content of all files below `derived`, by name."""
    folder = store.path / "derived"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def counted(world, monkeypatch):
    """Counts the forwards of both models."""
    calls = []
    for model, name in ((VideoTokenizer, "encode"), (LatentActionModel, "infer")):
        real = getattr(model, name)

        def count(self, frames, real=real):
            calls.append(frames.shape)
            return real(self, frames)

        monkeypatch.setattr(model, name, count)
    return calls


class Interrupted(Exception):
    pass


def interrupt_after(batches):
    left = iter(range(batches, -1, -1))

    def advance(share):
        if next(left) == 1:
            raise Interrupted

    return advance


def test_what_was_interrupted_anywhere_goes_on_and_ends_the_same(
    copy_of, world, small_pieces, monkeypatch
):
    calls, whole = counted(world, monkeypatch), copy_of("whole")
    precompute_all(whole, world)
    total = len(calls)
    assert total > 12
    markers = {f"{name}.pieces/whole.json" for name in derived_names(world)}
    assert {name for name in files_of(whole) if not name.endswith(".npy")} == markers
    write, safe = ArrayCache.write_piece, []

    def note(self, *piece):
        write(self, *piece)
        safe.append(len(calls))

    monkeypatch.setattr(ArrayCache, "write_piece", note)
    for stop in range(1, total + 1, 3):
        cut = copy_of(f"cut-{stop}")
        calls.clear()
        safe[:] = [0]
        with pytest.raises(Interrupted):
            precompute_all(cut, world, interrupt_after(stop))
        before = safe[-1]
        calls.clear()
        precompute_all(cut, world)
        assert len(calls) == total - before, "only what was in no piece yet is computed again"
        assert files_of(cut) == files_of(whole)


def derived_names(world):
    tokens, actions = fingerprint(world.tokenizer), fingerprint(world.actions)
    return f"tokens-whole-{tokens}", f"tokens-fresh4-{tokens}", f"actions-{actions}"


def test_what_was_killed_goes_on_and_ends_the_same(
    copy_of, world, small_world, small_pieces, monkeypatch
):
    calls, whole, killed = counted(world, monkeypatch), copy_of("whole"), copy_of("killed")
    precompute_all(whole, world)
    total = len(calls)
    code = in_a_process(precompute_here, killed.path, small_world, 8)
    assert code == -signal.SIGKILL
    assert files_of(killed)
    calls.clear()
    precompute_all(killed, world)
    assert len(calls) < total
    assert files_of(killed) == files_of(whole)


def test_a_piece_counts_once_it_is_safe_on_the_disk(copy_of, world, small_pieces, monkeypatch):
    """The file is flushed before it has its name, and the folder after; new folders come first."""
    store, done = copy_of("store"), []
    monkeypatch.setattr("os.fsync", lambda file: done.append("flush"))
    rename = os.replace

    def replace_file(source, target):
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr("os.replace", replace_file)
    with pytest.raises(Interrupted):
        precompute_actions(store, world.actions, interrupt_after(5))
    pieces = store.cache.pieces(derived_names(world)[-1])
    folders = len(done) - 3 * len(pieces)
    assert 0 < folders < 3
    assert done == folders * ["flush"] + len(pieces) * ["flush", "rename", "flush"]


def as_process(monkeypatch, rank, size):
    monkeypatch.setattr(token_cache, "rank_and_size", lambda: (rank, size))


def test_what_processes_leave_is_done_by_the_rest(copy_of, world, small_pieces, monkeypatch):
    """Two of three processes die after a piece of their own; the third waits for nobody."""
    whole, shared = copy_of("whole"), copy_of("shared")
    calls = counted(world, monkeypatch)
    precompute_actions(whole, world.actions, ignore)
    name, alone = derived_names(world)[-1], len(calls)
    order = sorted(whole.cache.pieces(name))
    write = ArrayCache.write_piece
    for rank in (1, 2):
        as_process(monkeypatch, rank, 3)
        with monkeypatch.context() as patch:
            left = iter(range(1))

            def write_some(self, name, first, rows, left=left):
                if next(left, None) is None:
                    raise Interrupted
                write(self, name, first, rows)

            patch.setattr(ArrayCache, "write_piece", write_some)
            with pytest.raises(Interrupted):
                precompute_actions(shared, world.actions, ignore)
    firsts = {order[len(order) * rank // 3] for rank in (1, 2)}
    assert shared.cache.pieces(name) == firsts, "each began with its own share"
    calls.clear()
    as_process(monkeypatch, 0, 3)
    precompute_actions(shared, world.actions, ignore)
    assert len(calls) < alone
    assert files_of(shared) == files_of(whole)


def test_processes_that_run_at_once_share_the_work(copy_of, world, small_pieces, monkeypatch):
    whole, shared = copy_of("whole"), copy_of("shared")
    precompute_all(whole, world)
    ranks, written = threading.local(), []
    monkeypatch.setattr(token_cache, "rank_and_size", lambda: (ranks.rank, 2))
    write = ArrayCache.write_piece

    def note(self, *piece):
        write(self, *piece)
        written.append(piece[:2])

    monkeypatch.setattr(ArrayCache, "write_piece", note)

    def process(rank):
        ranks.rank = rank
        precompute_all(ClipStore.open(shared.path), world)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(process, range(2)))
    assert files_of(shared) == files_of(whole)
    twice = len(written) - len(set(written))
    assert twice <= 3, "at the end of each array both may compute the last piece"


def test_pieces_that_another_run_takes_away_are_computed_again(
    copy_of, world, small_pieces, monkeypatch
):
    whole, store = copy_of("whole"), copy_of("store")
    precompute_actions(whole, world.actions, ignore)
    finish, taken = ArrayCache.finish, []

    def take_away_once(self, name, spans):
        if not taken:
            taken.append(name)
            self.drop_pieces(name)
        finish(self, name, spans)

    monkeypatch.setattr(ArrayCache, "finish", take_away_once)
    precompute_actions(store, world.actions, ignore)
    assert taken
    assert files_of(store) == files_of(whole)


def test_a_large_store_has_larger_pieces(store, world, small_pieces, monkeypatch):
    monkeypatch.setattr(token_cache, "MOST_PIECES", 3)
    with torch.no_grad():
        world.actions.to_latent.bias += 4
    precompute_actions(store, world.actions, ignore)
    pieces = store.cache.pieces(f"actions-{fingerprint(world.actions)}")
    assert 3 <= len(pieces) <= 4


def test_pieces_of_another_division_are_not_used(copy_of, world, small_pieces, monkeypatch):
    whole, store = copy_of("whole"), copy_of("store")
    precompute_actions(whole, world.actions, ignore)
    with pytest.raises(Interrupted):
        precompute_actions(store, world.actions, interrupt_after(4))
    monkeypatch.setattr(token_cache, "PIECE_FRAMES", 37)
    precompute_actions(store, world.actions, ignore)
    name = derived_names(world)[-1]
    assert np.array_equal(store.cache.read(name), whole.cache.read(name))
    assert len(files_of(store)) == 1 + len(
        json.loads(files_of(store)[f"{name}.pieces/whole.json"])["pieces"]
    )
