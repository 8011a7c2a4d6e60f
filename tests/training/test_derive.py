from dataclasses import replace

import numpy as np
import pytest
import torch

from genie.config import UserError
from genie.training.derive import derive_actions, derive_tokens, fingerprint, receptive_past
from genie.world import Genie


def ignore(share):
    assert 0 < share <= 1


@pytest.fixture
def world(small_world):
    torch.manual_seed(1)
    return Genie(small_world).eval()


def clip(store, start, length):
    return torch.from_numpy(store.windows([start], length))


def test_tokens_equal_those_of_whole_episodes_and_of_segments(store, world, monkeypatch):
    monkeypatch.setattr("genie.training.derive.SHORTEST_CHUNK", 7)
    whole, fresh = derive_tokens(store, world.tokenizer, 4, ignore)
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
    whole, fresh = derive_tokens(store, world.eval().tokenizer, 4, ignore)
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
    monkeypatch.setattr("genie.training.derive.SHORTEST_CHUNK", 7)
    actions = derive_actions(store, world.actions, ignore)
    assert actions.dtype == np.int64
    for e in store.episodes:
        assert actions[e.start + e.length - 1] == -1
        if e.length > 1:
            direct = world.actions.infer(clip(store, e.start, e.length))[0]
            assert np.array_equal(actions[e.start : e.start + e.length - 1], direct.numpy())


def test_what_is_cached_is_not_computed_again_until_weights_change(store, world, monkeypatch):
    first = derive_actions(store, world.actions, ignore)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.actions), "infer", None)
        assert np.array_equal(derive_actions(store, world.actions, ignore), first)
    before = fingerprint(world.actions)
    world.actions.quantizer.codebook[0, 0] += 1
    assert fingerprint(world.actions) != before
    derive_actions(store, world.actions, ignore)
    assert store.has_derived(f"actions-{fingerprint(world.actions)}")


def test_arrays_of_models_long_gone_are_deleted(store, world, monkeypatch):
    monkeypatch.setattr("genie.training.derive.KEPT", 2)
    names = []
    for _ in range(3):
        derive_actions(store, world.actions, ignore)
        names.append(f"actions-{fingerprint(world.actions)}")
        world.actions.quantizer.codebook[0, 0] += 1
    assert [store.has_derived(name) for name in names] == [False, True, True]


def test_stopping_leaves_no_half_array(store, world):
    with torch.no_grad():
        world.actions.to_latent.bias += 1

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive_actions(store, world.actions, stop)
    assert not store.has_derived(f"actions-{fingerprint(world.actions)}")


@pytest.fixture
def another_process(world, monkeypatch):
    """This process is not the one that computes; nobody is."""
    monkeypatch.setattr("genie.training.derive.rank_zero_only.rank", 1)
    monkeypatch.setattr("genie.training.derive.POLL", 0.01)
    with torch.no_grad():
        world.actions.to_latent.bias += 2


def test_waiting_can_be_interrupted(store, world, another_process):
    calls = []

    def stop(share):
        calls.append(share)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive_actions(store, world.actions, stop)


@pytest.mark.parametrize("sign", ["silent", "dead"])
def test_waiting_ends_when_the_first_process_has_failed(
    store, world, another_process, monkeypatch, sign
):
    if sign == "silent":
        monkeypatch.setattr("genie.training.derive.PATIENCE", 0.05)
    else:
        parents = iter(range(10))
        monkeypatch.setattr("os.getppid", lambda: next(parents))
    with pytest.raises(UserError, match="first process"):
        derive_actions(store, world.actions, lambda share: None)


def test_receptive_past_counts_all_layers(small_world):
    assert receptive_past(small_world.tokenizer.encoder) == 2 * (3 - 1)
