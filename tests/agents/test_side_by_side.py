from dataclasses import replace

import numpy as np
import pytest
import torch
from square_game import LEFT, LENGTH, SQUARE
from toy import CELL, NAMES, PERMUTATION

from genie.agents.agent import Agent, AgentConfig, latent_actions_hash
from genie.agents.real_game import RealGameConfig
from genie.agents.side_by_side import GAP, play_both, write_side_by_side
from genie.core.config import UserError
from genie.data.video import probe, read_video
from genie.models.policy_network import PolicyNetworkConfig
from genie.world.action_mapper import ActionMapper, MapperConfig
from genie.world.genie import Genie
from small import TEAL, save_world

GAME = RealGameConfig(SQUARE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return Genie.from_pretrained(save_world(tmp_path_factory.mktemp("world"), TEAL), "cpu")


def always(world, action, real=False):
    """An agent that takes one action, latent or real."""
    own = latent_actions_hash(world)
    mapper = ActionMapper(MapperConfig("dictionary", NAMES, 4, own, 12))
    mapper.counts[PERMUTATION, torch.arange(4)] = 3
    size = PolicyNetworkConfig(16, 16, 2, (4,), 8, latent_actions=4, real_actions=4 * real)
    agent = Agent(AgentConfig(size, NAMES if real else (), own), mapper=mapper)
    (agent.policy.to_real if real else agent.policy.to_latent).bias.data[action] = 50.0
    return agent


@pytest.mark.parametrize("real", [False, True])
def test_both_play_the_same_actions_from_the_same_frame(world, real):
    latent = int(PERMUTATION[LEFT])
    agent = always(world, LEFT if real else latent, real)
    pairs = play_both(agent, world, GAME, games=2, steps=LENGTH + 2, seed=3)
    assert pairs.dream.shape == pairs.real.shape == (2, LENGTH + 3, 16, 16, 3)
    assert torch.equal(pairs.dream[:, 0], pairs.real[:, 0])
    state = world.start(pairs.real[:, :1].numpy(), 3)
    for t in range(1, 4):
        frame, state = world.step(state, [latent, latent])
        assert torch.equal(frame, pairs.dream[:, t])
    for t in range(1, LENGTH):
        assert torch.equal(pairs.real[:, t], pairs.real[:, t - 1].roll(-CELL, 2))
    # The frame after the end is the first of another level.
    assert pairs.going.sum(1).tolist() == [LENGTH, LENGTH]


def test_a_video_has_the_dream_on_the_left(world, tmp_path):
    agent = always(world, 0)
    agent.save_pretrained(tmp_path / "agent")
    made = write_side_by_side(
        tmp_path / "agent", world.folder, tmp_path / "both.mp4", GAME, games=2, steps=3
    )
    assert (probe(made).height, probe(made).width) == (16 * 16, 16 * (32 + GAP))
    pairs = play_both(agent, world, GAME, games=2, steps=3)
    frames = list(pairs.frames())
    shown = [frame for _, frame in read_video(made)]
    assert len(shown) == len(frames) == 8
    assert (frames[1][:, :16] == pairs.dream[0, 1].numpy()).all()
    assert (frames[1][:, 16 + GAP :] == pairs.real[0, 1].numpy()).all()
    assert np.abs(shown[1][8::16, 8::16].astype(int) - frames[1]).mean() < 12


def test_what_does_not_fit_is_refused(world, tmp_path):
    agent = always(world, 0)
    other = save_world(tmp_path / "other", TEAL, seed=3)
    with pytest.raises(UserError, match="another world"):
        write_side_by_side(agent, other, tmp_path / "both.mp4", GAME)
    agent.mapper = None
    with pytest.raises(UserError, match="a mapper is needed beside the world"):
        play_both(agent, world, GAME)
    agent.config = replace(agent.config, latent_actions="")
    with pytest.raises(UserError, match="another world"):
        play_both(agent, world, GAME)
