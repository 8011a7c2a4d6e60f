"""A small world in which one action is rewarded, and what else a dream needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from genie.core.config import from_dict
from genie.models.policy_network import PolicyNetwork, PolicyNetworkConfig
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.reward_model import RewardModel, RewardModelConfig, new_heads
from small import TINY

GOOD = 2
"""The action that earns 1."""


class GoodAction(nn.Module):
    """Pays for one action, and may end the game after every step."""

    def __init__(self, world: Genie, end: float = 0.0) -> None:
        super().__init__()
        self.heads, self.end = new_heads(world), end

    def forward(self, state: Any, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (actions == GOOD).float(), torch.full((len(actions),), self.end)


def made_world() -> Genie:
    torch.manual_seed(0)
    world = Genie(from_dict(GenieConfig, TINY)).eval()
    world.actions.quantizer.placed.fill_(True)
    return world


def made_policy() -> PolicyNetwork:
    torch.manual_seed(0)
    size = PolicyNetworkConfig(16, 16, frames=2, channels=(8,), hidden=32, latent_actions=4)
    return PolicyNetwork(size)


def made_reward_model(world: Genie, hashes: tuple[str, ...] = ()) -> RewardModel:
    heads = new_heads(world)
    return RewardModel(RewardModelConfig(heads.config, hashes), heads).eval()


def clips(count: int, frames: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 255, (count, frames, 16, 16, 3), np.uint8))
