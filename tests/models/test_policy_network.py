import pytest
import torch

from genie.core.config import UserError
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig

SMALL = PolicyNetworkConfig(16, 24, 3, (4, 8), 16, latent_actions=5, real_actions=2)


def test_a_new_network_rates_all_actions_alike():
    network = PolicyNetwork(SMALL)
    frames = torch.randint(256, (6, 3, 16, 24, 3), dtype=torch.uint8)
    features = network.features(frames)
    assert features.shape == (6, 16)
    assert torch.equal(network(frames), torch.zeros(6, 5))
    assert torch.equal(network.to_real(features), torch.zeros(6, 2))


def test_every_frame_counts():
    network = PolicyNetwork(SMALL)
    frames = torch.randint(256, (1, 3, 16, 24, 3), dtype=torch.uint8)
    before = network.features(frames)
    for t in range(3):
        changed = frames.clone()
        changed[:, t, 4:12, 4:12] = 255 - changed[:, t, 4:12, 4:12]
        assert not torch.allclose(network.features(changed), before)


def test_it_learns_which_way_something_moves():
    """The newest frame alone does not say it: a light column stands anywhere."""
    network = PolicyNetwork(PolicyNetworkConfig(8, 8, 2, (8,), 32, latent_actions=2))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        way, now = torch.randint(2, (64,)), torch.randint(8, (64,))
        columns = torch.stack([now, (now + 2 * way - 1) % 8], 1)
        frames = 200 * torch.nn.functional.one_hot(columns, 8)[:, :, None, :, None]
        logits = network(frames.to(torch.uint8).expand(-1, -1, 8, -1, 3))
        loss = torch.nn.functional.cross_entropy(logits, way)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == way).float().mean() > 0.9


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "there are no actions to rate"),
        ({"latent_actions": 4, "frames": 0}, "frames: must be at least 1"),
        ({"latent_actions": 4, "frames": 65}, "frames: 65 is too large"),
        ({"latent_actions": 4, "channels": ()}, "channels: at least one block"),
        ({"latent_actions": -1}, "latent_actions: must not be negative"),
    ],
)
def test_impossible_sizes(values, words):
    with pytest.raises(UserError, match=words):
        PolicyNetworkConfig(**values)
