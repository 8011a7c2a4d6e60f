from dataclasses import replace

import pytest
import torch
from quick_cloning import QUICK, new_network
from torch import nn

from genie.agents.cloning.fit import CloneConfig, features_of, fit_head, fit_policy
from genie.core.config import UserError


def test_a_policy_learns_what_the_frames_say(steps):
    network, ticks = new_network(), []
    loss = fit_policy(
        network, network.to_latent, steps, steps.latent, QUICK, on_check=lambda: ticks.append(1)
    )
    assert loss < 0.2  # log 2 for two actions that are equally frequent
    frames = steps.stacks(torch.arange(len(steps)), 2)
    assert (network(frames).argmax(-1) == steps.latent).float().mean() > 0.95
    assert 1 <= len(ticks) <= 5
    assert not any(weight.requires_grad for weight in network.parameters())


def test_weights_are_those_of_the_lowest_loss(steps):
    """Random targets cannot be learned, so nothing is better than the start for long."""
    network = new_network()
    targets = torch.randint(4, (len(steps),), generator=torch.Generator().manual_seed(0))
    loss = fit_policy(network, network.to_latent, steps, targets, replace(QUICK, patience=1))
    assert loss < 1.5


def test_a_head_is_fitted_to_features():
    generator = torch.Generator().manual_seed(0)
    features = 5 + torch.randn(300, 6, generator=generator)
    wanted = (features[:, 0] > 5).long() + 2 * (features[:, 1] > 5.5).long()
    head = nn.Linear(6, 5)
    fit_head(head, features[:200], wanted[:200])
    with torch.no_grad():
        logits = head(features[200:])
    assert (logits.argmax(-1) == wanted[200:]).float().mean() > 0.85
    assert logits.softmax(-1)[:, 4].max() < 0.05  # an action that no step has


def test_a_head_takes_a_single_label():
    head = nn.Linear(3, 2)
    fit_head(head, torch.ones(1, 3), torch.tensor([1]))
    assert head(torch.ones(1, 3)).argmax() == 1


def test_features_are_those_of_the_network(steps):
    network, few = new_network(), steps.take(torch.arange(7))
    expected = network.features(few.stacks(torch.arange(7), 2))
    torch.testing.assert_close(features_of(network, few), expected, rtol=0.05, atol=0.02)


def test_bad_numbers():
    with pytest.raises(UserError, match="steps: must be at least 1"):
        CloneConfig(steps=0)
    with pytest.raises(UserError, match="held_back: must lie between 0 and 1"):
        CloneConfig(held_back=1.0)
