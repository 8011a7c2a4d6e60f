import torch

from genie.models.linear_probe import train_probe


def test_a_probe_is_a_linear_layer_on_features_of_any_scale():
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(3, (300,), generator=generator)
    features = torch.nn.functional.one_hot(true, 3) + 0.1 * torch.randn(300, 3, generator=generator)
    features = torch.cat([1000 * features + 5000, torch.ones(300, 1)], dim=1)
    probe = train_probe(features, true, 3)
    assert (probe(features).argmax(1) == true).float().mean() > 0.99
