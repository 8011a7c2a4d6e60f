"""A small world whose actions matter, on disk and in memory."""

import pytest
import torch
from prompted import PROMPTS

from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from genie.world.genie import Genie
from genie.world.prompts import save_prompts
from genie.world.reward_model import RewardModel, RewardModelConfig, hashes, new_heads
from small import TINY


@pytest.fixture(scope="module")
def world():
    """Random weights, large enough that each action leads to another frame."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    with torch.no_grad():
        for weight in world.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        world.dynamics.embedding.action.weight.mul_(5)
    return world


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """The same world on disk, with its prompts."""
    folder = tmp_path_factory.mktemp("world")
    world.save_pretrained(folder)
    save_prompts(PROMPTS, folder)
    return folder


@pytest.fixture(scope="module")
def mapper(world):
    """A game of six actions, of which latent actions 3, 1 and 0 are the first three."""
    names = ("noop", "left", "right", "up", "left+up", "right+up")
    mapper = ActionMapper(MapperConfig("dictionary", names, 4, latent_actions_hash(world), 12))
    mapper.counts[[3, 1, 0], [0, 1, 2]] = 4
    return mapper


@pytest.fixture(scope="module")
def reward_model(world):
    """Random weights, so that steps earn and end as it happens."""
    torch.manual_seed(2)
    heads = new_heads(world)
    for head in (heads.to_reward, heads.to_end):
        torch.nn.init.normal_(head.weight, std=0.2)
    return RewardModel(RewardModelConfig(heads.config, hashes(world)), heads).eval()
