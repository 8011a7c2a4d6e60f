import numpy as np
import pytest
import torch

from genie.agents.agent import Agent, AgentConfig
from genie.agents.autoplay import Autoplay
from genie.core.config import UserError
from genie.data.images import png
from genie.models.policy_network import PolicyNetworkConfig
from genie.world.action_mapper import latent_actions_hash
from genie.world.genie import Genie
from small import TINY

SIZE = PolicyNetworkConfig(16, 16, 3, (4,), 8, latent_actions=4)
FRAMES = np.random.default_rng(0).integers(256, size=(3, 16, 16, 3), dtype=np.uint8)


def agent_of(world=None):
    agent = Agent(AgentConfig(SIZE, (), latent_actions_hash(world) if world else ""))
    torch.nn.init.normal_(agent.policy.to_latent.weight)
    return agent


def test_it_samples_from_the_chances_that_it_tells():
    agent = agent_of()
    plays = Autoplay(agent)
    assert plays.frames == 3
    seen = [("codec", png(frame)) for frame in FRAMES]
    answers = [plays(seen) for _ in range(300)]
    chances = agent.probabilities(FRAMES, "latent")[0]
    assert all(told == pytest.approx(chances.tolist()) for _, told in answers)
    shares = np.bincount([action for action, _ in answers], minlength=4) / len(answers)
    np.testing.assert_allclose(shares, chances.numpy(), atol=0.1)
    assert len(plays(seen[-1:])[1]) == 4


def test_an_agent_of_the_world_is_loaded_and_others_are_refused(tmp_path):
    torch.manual_seed(0)
    world, other = Genie(TINY), Genie(TINY)
    agent_of(world).save_pretrained(tmp_path / "own")
    assert Autoplay.from_pretrained(tmp_path / "own", world).frames == 3
    with pytest.raises(UserError, match="made for another world's latent actions"):
        Autoplay.from_pretrained(tmp_path / "own", other)
    real = PolicyNetworkConfig(16, 16, 3, (4,), 8, real_actions=2)
    Agent(AgentConfig(real, ("left", "right"))).save_pretrained(tmp_path / "real")
    with pytest.raises(UserError, match="knows real actions only; it cannot play a world"):
        Autoplay.from_pretrained(tmp_path / "real", world)
