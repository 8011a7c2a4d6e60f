import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.data.labelled import split_episodes
from genie.evaluation.metrics import inverse_dynamics
from genie.evaluation.metrics.action_classifier import (
    ActionClassifier,
    group_logits,
    merge,
    merge_actions,
    pairwise_accuracy,
    train_action_classifier,
)
from genie.models.inverse_dynamics import InverseDynamics


def judged(copies=200):
    """Actions 0 and 3 do the same, 1 and 2 their own; 4 never occurs."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(4, (copies,), generator=generator)
    seen = torch.where(true == 3, 0, true)
    logits = torch.randn(copies, 5, generator=generator)
    logits[torch.arange(copies), seen] += 6
    logits[:, 3] = logits[:, 0] + 0.1 * torch.randn(copies, generator=generator)
    return logits, true


def test_actions_that_do_the_same_are_merged_and_others_are_not():
    groups, merges = merge_actions(*judged())
    assert groups == [[0, 3], [1], [2]]
    assert [(merge.first, merge.second) for merge in merges] == [([0], [3])]
    assert merges[0].accuracy == pytest.approx(0.5, abs=0.1)


def test_all_actions_that_do_nothing_end_in_one_group():
    true = torch.arange(400) % 4
    logits = torch.zeros(400, 4)
    logits[:, 3] = torch.where(true == 3, 9.0, -9.0)
    groups, merges = merge_actions(logits, true)
    assert groups == [[0, 1, 2], [3]]
    assert [merge.accuracy for merge in merges] == [0.5, 0.5]


def test_pairwise_accuracy_does_not_depend_on_how_often_actions_are_pressed():
    true = torch.tensor([0] * 900 + [1] * 100)
    right = torch.where(true == 0, 2.0, -2.0)
    # The network knows that 0 is nine times as frequent and says so.
    logits = torch.stack([right + torch.tensor(9.0).log(), -right], dim=1)
    accuracy = pairwise_accuracy(logits, true)
    assert accuracy.diagonal().tolist() == [1, 1]
    assert accuracy[0, 1] == accuracy[1, 0] == 1
    blind = torch.tensor([9.0, 1.0]).log().expand(1000, 2)
    assert pairwise_accuracy(blind, true)[0, 1] == pytest.approx(0.5)


def test_groups_of_actions_and_of_their_probabilities():
    groups = [[0, 2], [1]]
    assert merge(torch.tensor([[0, 1], [2, -1], [3, 0]]), groups).tolist() == [
        [0, 1], [0, -1], [-1, 0],
    ]  # fmt: skip
    chances = torch.tensor([0.1, 0.6, 0.3])
    assert group_logits(chances.log(), groups).exp().tolist() == pytest.approx([0.4, 0.6])


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


def test_reading_takes_the_likeliest_group():
    network = InverseDynamics(3).eval().requires_grad_(False)
    network.to_logits.weight.zero_()
    network.to_logits.bias.copy_(torch.tensor([0.4, 0.35, 0.3]).log())
    frames = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)
    names = ["a", "b", "c"]
    for groups, read in (([[0], [1], [2]], 0), ([[0], [1, 2]], 1)):
        found = ActionClassifier(network, network, groups, names, {}).predict(frames)
        assert found.tolist() == [[read, read]] * 2


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
