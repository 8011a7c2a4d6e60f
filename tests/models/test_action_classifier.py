import pytest
import torch

from genie.models.action_classifier import (
    ActionClassifier,
    group_logits,
    merge,
    merge_actions,
    pairwise_accuracy,
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


def test_reading_takes_the_likeliest_group():
    network = InverseDynamics(3).eval().requires_grad_(False)
    network.to_logits.weight.zero_()
    network.to_logits.bias.copy_(torch.tensor([0.4, 0.35, 0.3]).log())
    frames = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)
    names = ["a", "b", "c"]
    for groups, read in (([[0], [1], [2]], 0), ([[0], [1, 2]], 1)):
        found = ActionClassifier(network, network, groups, names, {}).predict(frames)
        assert found.tolist() == [[read, read]] * 2
