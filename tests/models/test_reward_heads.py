import pytest
import torch

from genie.core.config import UserError
from genie.models.reward_heads import FeatureConfig, FeatureNetwork, RewardHeads, RewardHeadsConfig

CONFIG = RewardHeadsConfig(features=6, rows=3, columns=2, width=8, hidden=16, num_actions=3)


def fitted(features, actions, rewards, ends, evidence=None, steps=60):
    torch.manual_seed(0)
    heads = RewardHeads(CONFIG)
    optimizer = torch.optim.Adam(heads.parameters(), 2e-2)
    for _ in range(steps):
        loss, _ = heads.loss(features, actions, rewards, ends, torch.ones(len(ends)), evidence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return heads.eval()


def steps(count=96):
    """Two states; action 2 ends the second one and earns 10."""
    torch.manual_seed(1)
    state, actions = torch.randint(2, (count,)), torch.randint(3, (count,))
    features = torch.randn(2, 6, 6)[state]
    ends = ((state == 1) & (actions == 2)).float()
    return features, actions, 10 * ends, ends


def test_reward_and_end_depend_on_the_state_and_on_the_action():
    features, actions, rewards, ends = steps()
    heads = fitted(features, actions, rewards, ends)
    with torch.no_grad():
        reward, end = heads(features, actions)
    assert torch.allclose(reward, rewards, atol=0.5)
    assert torch.allclose(end, ends, atol=0.05)


def test_an_unknown_last_action_does_not_give_the_end_away():
    """As in Procgen, a last step has no frame after it, so its latent action is unknown."""
    features, actions, rewards, ends = steps()
    hidden = torch.where(ends == 1, -1, actions)
    true = torch.full((3, 3), 0.1).fill_diagonal_(0.8).log().T[actions]
    heads = fitted(features, hidden, rewards, ends, true)
    with torch.no_grad():
        reward, end = heads.whatever_action(features)
        _, known = heads(features, actions)
    second = features[:, 0, 0] == features[ends == 1][0, 0, 0]
    often = ends[second].mean()
    assert torch.allclose(end[second], often, atol=0.05)
    assert torch.allclose(reward[second], 10 * often, atol=0.5)
    assert end[~second].max() < 0.05
    # The true action says that it is the third latent one that ends the second state.
    assert known[ends == 1].min() > 0.9
    assert known[second & (actions < 2)].max() < 0.1


def test_steps_without_weight_teach_nothing():
    features, actions, rewards, ends = steps(32)
    heads, weights = RewardHeads(CONFIG), torch.zeros(32)
    loss, logs = heads.loss(features, actions, rewards, ends, weights)
    assert loss == 0
    assert {"action_loss", "reward_loss", "end_loss"} == logs.keys()


def test_heads_begin_without_an_opinion():
    heads, (features, actions, *_) = RewardHeads(CONFIG), steps(8)
    reward, end = heads(features, actions)
    assert reward.abs().max() == 0
    assert (end == 0.5).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 8), (9, 16)])
def test_any_grid_of_tokens_will_do(rows, columns):
    network = FeatureNetwork(FeatureConfig(5, rows, columns, width=8, hidden=16))
    assert network(torch.randn(2, rows * columns, 5)).shape == (2, 16)


def test_impossible_sizes_name_the_field():
    with pytest.raises(UserError, match="hidden"):
        RewardHeadsConfig(4, 2, 2, hidden=0)
    with pytest.raises(UserError, match="num_actions"):
        RewardHeadsConfig(4, 2, 2, num_actions=0)
