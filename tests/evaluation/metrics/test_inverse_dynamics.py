import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.evaluation.metrics.inverse_dynamics import train_inverse_dynamics


def test_it_learns_to_read_the_buttons_of_a_game(game):
    store = game.store(episodes=20)
    network = train_inverse_dynamics(store, steps=80)
    clips = store.frames.reshape(20, 40, 16, 16, 3)[1::2]
    true = store.true[1::2, :-1]
    read = network(torch.from_numpy(clips)).argmax(-1)
    assert (read == true).float().mean() > 0.95
    assert (true == 0).float().mean() < 0.4
    assert not network.training
    # The first step has no frame before it.
    assert (read[:, 0] == true[:, 0]).float().mean() > 0.9


def labelled(real_store):
    labels = np.random.default_rng(0).integers(4, size=len(real_store))
    np.save(real_store.path / "labels.npy", labels)
    return real_store


def test_it_is_trained_once_and_kept_in_the_store(real_store):
    store, steps = labelled(real_store), []
    first = train_inverse_dynamics(store, steps=3, on_step=lambda: steps.append(1))
    again = train_inverse_dynamics(store, steps=3, on_step=lambda: steps.append(1))
    assert len(steps) == 6  # progress is told of both
    assert first.name == again.name
    assert all(torch.equal(a, b) for a, b in zip(*map(weights, (first, again)), strict=True))
    other = train_inverse_dynamics(store, steps=3, seed=1, on_step=lambda: steps.append(1))
    assert first.name != other.name
    assert not torch.equal(weights(first)[0], weights(other)[0])
    kept = list((store.path / "derived").iterdir())
    assert {path.suffix for path in kept} == {".safetensors"}
    assert len(kept) == 2


def weights(network):
    return list(network.state_dict().values())


def test_a_store_that_cannot_be_written_to_stays_as_it_is(real_store):
    store = labelled(real_store)
    (store.path / "derived").write_text("in the way")
    train_inverse_dynamics(store, steps=1)
    assert (store.path / "derived").read_text() == "in the way"


def test_without_known_actions_it_says_so(game, real_store):
    with pytest.raises(UserError, match="no true actions"):
        train_inverse_dynamics(real_store)
    store = game.store()
    store.labels = lambda: np.where(np.arange(len(store.frames)) < 40, -1, store.true.flatten())
    store.episodes = store.episodes[:1]
    with pytest.raises(UserError, match="'train' split"):
        train_inverse_dynamics(store, steps=1)
