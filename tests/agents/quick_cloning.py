"""A training of a moment."""

from genie.agents.cloning.fit import CloneConfig
from genie.models.policy_network import PolicyNetwork

QUICK = CloneConfig(
    frames=2, channels=(4,), hidden=16, steps=45, batch=32, learning_rate=1e-2, checks=5
)


def new_network(latent: int = 4, real: int = 4) -> PolicyNetwork:
    return PolicyNetwork(QUICK.network(16, 16, latent, real))
