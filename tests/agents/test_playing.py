from dataclasses import replace

import pytest
import torch
from square_game import LENGTH, SQUARE
from toy import NAMES

from genie.agents.agent import Agent, AgentConfig
from genie.agents.playing import play_game
from genie.agents.real_game import RealGameConfig
from genie.core.config import UserError
from genie.models.policy_network import PolicyNetworkConfig

SIZE = PolicyNetworkConfig(16, 16, 2, (4,), 8, real_actions=4)
GAME = RealGameConfig(SQUARE, levels=6, seeds=2, num_envs=4)


def always(action, names=NAMES):
    agent = Agent(AgentConfig(SIZE, names))
    torch.nn.init.zeros_(agent.policy.to_real.weight)
    agent.policy.to_real.bias.data[action] = 20.0
    return agent


def test_an_agent_plays_beside_random_play(tmp_path):
    always(NAMES.index("right")).save_pretrained(tmp_path)
    found = play_game(tmp_path, GAME, progress=False)
    assert set(found) == {"agent", "random play"}
    assert set(found["agent"].returns.flatten().tolist()) == {0.0, float(LENGTH)}
    assert found["agent"].returns.std(1).max() == 0
    greedy = play_game(tmp_path, GAME, greedy=True, progress=False)
    assert torch.equal(greedy["agent"].returns, found["agent"].returns)


def test_a_game_of_other_actions_is_refused():
    with pytest.raises(UserError, match="has the actions noop, right, left, up, the agent has a"):
        play_game(always(0, ("a", "b", "c", "d")), GAME, progress=False)
    latent = Agent(AgentConfig(replace(SIZE, real_actions=0, latent_actions=4)))
    with pytest.raises(UserError, match="it needs a mapper"):
        play_game(latent, GAME, progress=False)
