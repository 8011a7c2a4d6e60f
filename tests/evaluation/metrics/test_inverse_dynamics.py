import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.data.labelled import split_episodes
from genie.evaluation.metrics.inverse_dynamics import (
    train_action_classifier,
    train_inverse_dynamics,
)
from genie.models import inverse_dynamics


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
        train_inverse_dynamics(real_store, steps=1)
    store = game.store()
    store.labels = lambda: np.where(np.arange(len(store.frames)) < 40, -1, store.true.flatten())
    store.episodes = store.episodes[:1]
    with pytest.raises(UserError, match="'train' split"):
        train_inverse_dynamics(store, steps=1)


def test_a_reader_reads_merged_actions_and_names_them(game):
    store = game.store(episodes=20, action_names=["stay", "right", "left", "down"])
    # A player with two keys for the same move.
    again = torch.rand(store.true.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    pressed = torch.where((store.true == 1) & again, 4, store.true)
    store.labels = lambda: (
        torch.cat([pressed[:, :-1], -torch.ones(20, 1)], 1).long().flatten().numpy()
    )
    store.action_names = [*store.action_names, "also right"]
    classifier = train_action_classifier(
        store, game.world().actions, steps=80, seed=0, device="cpu"
    )
    assert classifier.group_names == ["stay", "right/also right", "left", "down"]
    held_out = torch.from_numpy(store.frames.reshape(20, 40, 16, 16, 3)[1::2])
    right = classifier.predict(held_out) == classifier.merge(pressed[1::2, :-1])
    assert right.float().mean() > 0.95
    assert classifier.facts["groups"] == [["stay"], ["right", "also right"], ["left"], ["down"]]
    assert classifier.facts["merges"][0]["actions"] == [["right"], ["also right"]]
    assert classifier.facts["evaluated_accuracy"] < 0.95


def test_without_labels_to_judge_by_it_says_so(game):
    store = game.store(episodes=8)
    _, judged = split_episodes(store, "train", 0)
    known = store.labels().reshape(8, 40)
    known[[e.id for e in judged]] = -1
    store.labels = lambda: known.flatten()
    with pytest.raises(UserError, match="to judge by"):
        train_action_classifier(store, game.world().actions, steps=1, seed=0, device="cpu")


def test_a_lone_episode_is_enough(game):
    store = game.store(episodes=2)
    classifier = train_action_classifier(store, game.world().actions, steps=2, seed=0, device="cpu")
    assert classifier.facts["evaluated_transitions"] == 32


def test_worlds_alike_that_are_compared_have_one_reader(real_world, real_store, monkeypatch):
    labels = np.random.default_rng(0).integers(4, size=len(real_store))
    np.save(real_store.path / "labels.npy", labels)
    trained = []
    monkeypatch.setattr(inverse_dynamics, "fit", lambda *args: trained.append(args))
    readers = [
        train_action_classifier(real_store, world.actions, steps=3, seed=0, device="cpu")
        for world in (real_world, type(real_world)(real_world.config))
    ]
    assert len(trained) == 2  # the network, and the one that does not see what an action led to
    assert readers[0].facts == readers[1].facts
