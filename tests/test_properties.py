"""What must hold for anything: few examples here, thousands with GENIE_EXAMPLES, as in campaign."""

import json
import math
import os
import shutil
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sample_videos import moving_square

from genie.core.config import UserError, from_dict, to_dict
from genie.data.images import png
from genie.data.merge import merge
from genie.data.prepare import prepare
from genie.data.store import ClipStore
from genie.models.layers.transformer import TransformerConfig
from genie.presets.schedule import StageConfig
from genie.serving.limits import Limits
from genie.serving.play.batch import GameBatch, PlayAction, Rewind, StartGame
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.maskgit import SamplingConfig
from genie.world.replay import Replay, compress_changes, expand_changes
from small import STACK, TINY, save_store

EXAMPLES = int(os.environ.get("GENIE_EXAMPLES", "0"))


def examples(few, share=1.0):
    """Settings for a few examples in the tests, and for a campaign all or a share of them."""
    return settings(
        max_examples=int(EXAMPLES * share) or few,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # to make a failing example smaller takes minutes
        suppress_health_check=list(HealthCheck),
    )


# -- configurations ------------------------------------------------------------------------------

VALUE = st.one_of(
    st.booleans(),
    st.integers(-3, 4096),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["random", "halton", "confidence", "cosine", "adamw", "muon", ""]),
    st.none(),
)


@examples(25)
@given(st.sampled_from([SamplingConfig, StageConfig, TransformerConfig, Limits]), st.data())
def test_a_configuration_comes_back_from_json_or_is_refused(kind, data):
    names = st.sampled_from([field.name for field in fields(kind)])
    values = data.draw(st.dictionaries(names, VALUE, max_size=3))
    try:
        config = from_dict(kind, values)
    except UserError:
        return
    assert all(math.isfinite(v) for v in values.values() if isinstance(v, float))
    assert from_dict(kind, json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


JSON = st.recursive(
    VALUE, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part)
)


@examples(4)
@given(st.lists(st.sampled_from(["tokenizer", "dynamics", "encoder"]), max_size=2), JSON)
def test_whatever_stands_in_a_configuration_it_is_read_or_refused(path, value):
    for key in reversed(path):
        value = {key: value}
    try:
        config = from_dict(GenieConfig, value)
    except UserError:
        return
    assert from_dict(GenieConfig, to_dict(config)) == config


# -- stores --------------------------------------------------------------------------------------

LENGTHS = (7, 40, 1, 19)
FRAMES = np.random.default_rng(0).integers(0, 256, (sum(LENGTHS), 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One store, read from memory and from the disk."""
    ends = np.cumsum(LENGTHS)
    clips = [("train", FRAMES[end - n : end]) for n, end in zip(LENGTHS, ends, strict=True)]
    folder = save_store(tmp_path_factory.mktemp("store"), *clips).path
    return [ClipStore.open(folder, cache_bytes=size) for size in (2**30, 0)]


@examples(20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_a_store_of_any_episodes_holds_what_was_written(tmp_path_factory, lengths, data):
    seed, side = data.draw(st.integers(0, 2**31)), data.draw(st.sampled_from([1, 3, 8]))
    dice = np.random.default_rng(seed)
    clips = [dice.integers(0, 256, (n, side, side + 1, 3), np.uint8) for n in lengths]
    splits = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=len(clips)))
    folder = tmp_path_factory.mktemp("store")
    written = list(zip(splits, clips, strict=False))
    store = save_store(folder, *written)
    assert np.array_equal(store.read(0, len(store)), np.concatenate(clips))
    length = data.draw(st.integers(1, max(lengths)))
    for split in store.splits:
        cut = [
            clip[t : t + length]
            for name, clip in written
            for t in range(len(clip) - length + 1)
            if name == split
        ]
        if cut:
            starts = store.window_starts(length, split)
            assert np.array_equal(store.windows(starts, length), np.stack(cut))
    shutil.rmtree(folder)


@examples(30)
@given(st.integers(1, 40), st.data())
def test_windows_are_what_was_written(stores, length, data):
    starts = data.draw(st.lists(st.integers(0, len(FRAMES) - length), max_size=6))
    expected = [FRAMES[start : start + length] for start in starts]
    allowed = set()
    for store in stores:
        read = store.windows(starts, length)
        assert read.shape == (len(starts), length, 8, 8, 3)
        assert all(np.array_equal(*pair) for pair in zip(read, expected, strict=True))
        allowed = set(store.window_starts(length).tolist())
    first = np.cumsum([0, *LENGTHS])
    inside = [(s, s + n) for s, n in zip(first, LENGTHS, strict=False)]
    assert allowed == {t for t in range(len(FRAMES)) for a, b in inside if a <= t <= b - length}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos of numbered pictures, two of them the same, and the store of all."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        place = folder / f"clip-{number}"
        place.mkdir()
        for time, frame in enumerate(moving_square(3 + 2 * number % 5, seed=number % 5)):
            (place / f"{time}.png").write_bytes(png(frame))
    prepare(folder, folder / "whole", **PREPARED)
    return folder, files_of(folder / "whole")


PREPARED = {"height": 8, "width": 8, "min_frames": 2, "fps": 10, "workers": 0, "progress": False}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@examples(2, share=0.2)
@given(st.integers(1, 9), st.randoms(use_true_random=False))
def test_shards_in_any_order_merge_to_the_whole_store(videos, tmp_path_factory, count, dice):
    source, whole = videos
    folder = tmp_path_factory.mktemp("shards")
    parts = [folder / f"{number}" for number in range(1, count + 1)]
    dice.shuffle(parts)
    for part in parts:
        prepare(source, part, shard=f"{part.name}/{count}", **PREPARED)
    dice.shuffle(parts)
    merge(folder / "merged", parts, progress=False)
    assert files_of(folder / "merged") == whole
    shutil.rmtree(folder)


# -- games ---------------------------------------------------------------------------------------

SAMPLING = st.builds(SamplingConfig, st.integers(1, 3), temperature=st.sampled_from([0.5, 1.0]))
ACTIONS = st.lists(st.integers(0, 3), min_size=1, max_size=20 if EXAMPLES else 5)
NARROW = {**STACK, "width": 8, "heads": 1, "window": 3}
SMALLEST = {
    **TINY,
    "height": 8,
    "width": 8,
    "tokenizer": {
        "patch": 4,
        "encoder": NARROW,
        "decoder": NARROW,
        "quantizer": {"codes": 16, "dim": 4},
    },
    "actions": {"patch": 4, "encoder": {**NARROW, "window": 2}, "decoder": NARROW},
    "dynamics": NARROW,
}


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    return Genie(SMALLEST).eval()


@pytest.fixture(scope="module")
def prompt():
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)


def played(world, prompt, seed, actions):
    """The frames of a game that is played alone."""
    state, frames = world.start(prompt, seed), []
    for action in actions:
        frame, state = world.step(state, action)
        frames.append(frame.numpy())
    return frames


@examples(10)
@given(st.lists(SAMPLING, min_size=1, max_size=12))
def test_changes_of_sampling_expand_to_what_they_were(sampling):
    changes = compress_changes(sampling)
    assert expand_changes(changes, len(sampling)) == sampling
    assert all(a.sampling != b.sampling for a, b in pairwise(changes))


@examples(25)
@given(ACTIONS, st.integers(0, 2**31 - 1))
def test_a_replay_is_the_game(world, prompt, actions, seed):
    game = Replay.of_game(world, "small", prompt, seed, actions)
    again = from_dict(Replay, json.loads(json.dumps(to_dict(game))))
    expected = [prompt, *played(world, prompt, seed, actions)]
    assert all(map(np.array_equal, again.frames(world), expected))


@examples(25)
@given(st.lists(ACTIONS, min_size=2, max_size=3), st.integers(0, 2**31 - 9))
def test_players_of_a_batch_play_as_alone(world, prompt, games, seed):
    steps = min(map(len, games))
    state = world.start(np.stack([prompt[None]] * len(games)), seed)
    for t in range(steps):
        frames, state = world.step(state, [actions[t] for actions in games])
    for player, actions in enumerate(games):
        alone = played(world, prompt, seed + player, actions[:steps])[-1].astype(int)
        # A sum over a larger batch may be rounded otherwise in the last bit of a colour.
        np.testing.assert_allclose(frames[player].numpy(), alone, rtol=0, atol=1)


@examples(12)
@given(ACTIONS, ACTIONS, ACTIONS, st.integers(0, 99))
def test_an_undone_game_goes_on_as_if_it_had_not_been_played(
    world, prompt, before, undone, after, seed
):
    def game():
        games = GameBatch(world, [prompt])
        games.advance({0: StartGame(0, seed=seed)})
        return lambda turn: games.advance({0: turn})[0]

    play = game()
    direct = [play(PlayAction(action)).picture for action in (*before, *after)][len(before) :]
    play = game()
    for action in (*before, *undone):
        play(PlayAction(action))
    back = play(Rewind(len(before))).step  # the nearest snapshot; a session goes on from there
    for action in before[back:]:
        play(PlayAction(action))
    assert [play(PlayAction(action)).picture for action in after] == direct
