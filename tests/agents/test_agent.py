import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genie.agents.agent import Agent, AgentConfig, AgentPlayer
from genie.core.config import UserError
from genie.models.policy_network import PolicyNetworkConfig
from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from genie.world.genie import Genie
from small import TINY

NAMES = ("noop", "left", "right")
SIZE = PolicyNetworkConfig(16, 16, 3, (4,), 8, latent_actions=4)
FRAMES = torch.randint(256, (5, 3, 16, 16, 3), dtype=torch.uint8)


def agent_of(real=False, mapped=False, world=""):
    size = replace(SIZE, real_actions=3) if real else SIZE
    mapper = None
    if mapped:
        mapper = ActionMapper(MapperConfig("dictionary", NAMES, 4, "hash", 12))
        mapper.counts.copy_(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 4], [2, 0, 0]]))
    agent = Agent(AgentConfig(size, NAMES if real else (), world), mapper=mapper)
    for head in (agent.policy.to_latent, agent.policy.to_real):
        for weight in head.parameters():
            torch.nn.init.normal_(weight)
    return agent


def test_actions_are_sampled_in_proportion_or_the_likeliest():
    agent = agent_of()
    shares = agent.probabilities(FRAMES[:1])
    torch.testing.assert_close(shares.sum(-1), torch.ones(1))
    many = agent.act(FRAMES[:1].expand(4000, -1, -1, -1, -1), np.random.default_rng(0))
    found = np.bincount(many, minlength=4) / 4000
    np.testing.assert_allclose(found, shares[0].numpy(), atol=0.03)
    assert agent.act(FRAMES[0]) == int(shares.argmax())
    assert isinstance(agent.act(FRAMES[0].numpy(), 3), int)
    assert (agent.act(FRAMES, 3) == agent.act(FRAMES, 3)).all()
    assert agent.space == "latent"


def test_fewer_frames_are_padded_with_the_first_and_more_are_cut():
    agent = agent_of()
    two = FRAMES[:, :2]
    padded = torch.cat([two[:, :1], two], dim=1)
    torch.testing.assert_close(agent.probabilities(two), agent.probabilities(padded))
    more = torch.cat([FRAMES.flip(0), FRAMES], dim=1)
    torch.testing.assert_close(agent.probabilities(more), agent.probabilities(FRAMES))


def test_real_actions_come_from_the_head_or_else_from_the_mapper():
    assert agent_of(real=True).space == "real"
    assert agent_of(real=True, mapped=True).probabilities(FRAMES).shape == (5, 3)
    agent = agent_of(mapped=True)
    table = agent.mapper.counts.float()
    expected = agent.probabilities(FRAMES, "latent") @ (table / table.sum(1, keepdim=True))
    torch.testing.assert_close(agent.probabilities(FRAMES, "real"), expected)
    assert agent.action_names == list(NAMES)


@pytest.mark.parametrize("kind", [{"real": True}, {"mapped": True}, {}])
def test_what_is_saved_is_loaded(kind, tmp_path):
    agent = agent_of(**kind)
    agent.save_pretrained(tmp_path / "mine", ["| return | 3 |"])
    again = Agent.from_pretrained(tmp_path / "mine")
    assert torch.equal(again.probabilities(FRAMES), agent.probabilities(FRAMES))
    assert (again.config, again.space) == (agent.config, agent.space)
    files = {path.name for path in (tmp_path / "mine").iterdir()}
    assert files - {"mapper"} == {"config.json", "policy.safetensors", "README.md"}
    card = (tmp_path / "mine" / "README.md").read_text()
    assert card.startswith("# mine")
    assert "| return | 3 |" in card
    assert ("`left`" in card) == (agent.space == "real")


def test_another_world_is_refused(tmp_path):
    worlds = []
    for seed in range(2):
        torch.manual_seed(seed)
        worlds.append(Genie(TINY))
    agent_of(world=latent_actions_hash(worlds[0])).save_pretrained(tmp_path)
    Agent.from_pretrained(tmp_path, worlds[0])
    torch.nn.init.normal_(next(worlds[0].dynamics.parameters()))  # trained further
    Agent.from_pretrained(tmp_path, worlds[0].to(torch.bfloat16))
    with pytest.raises(UserError, match="made for another world's latent actions; make one"):
        Agent.from_pretrained(tmp_path, worlds[1])


def test_what_is_no_agent_is_said(tmp_path):
    with pytest.raises(UserError, match="no such folder of an agent"):
        Agent.from_pretrained(tmp_path / "none")
    with pytest.raises(UserError, match="there is no agent here; make one with `genie agent"):
        Agent.from_pretrained(tmp_path)
    agent_of().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"version": 7}))
    with pytest.raises(UserError, match="an agent of version 7"):
        Agent.from_pretrained(tmp_path)
    values["config"]["policy"]["hidden"] = 9
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="the weights do not fit the configuration"):
        Agent.from_pretrained(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cut short or damaged"):
        Agent.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: agent_of().act(FRAMES, space="real"), "knows latent actions only; it needs a map"),
        (lambda: agent_of().act(FRAMES.float()), r"frames: expected uint8 \(T, 16, 16, 3\)"),
        (lambda: agent_of().act(FRAMES[:, :, :8]), r"got torch.uint8 \(5, 3, 8, 16, 3\)"),
        (lambda: agent_of().act(FRAMES[0, 0]), "frames: expected"),
        (lambda: AgentConfig(SIZE, NAMES), "3 names for 0 real actions"),
        (
            lambda: Agent(
                AgentConfig(SIZE), mapper=ActionMapper(MapperConfig("dictionary", NAMES, 7, "", 1))
            ),
            "the mapper is not for 4 latent actions",
        ),
    ],
)
def test_what_cannot_be_done_is_said(call, words):
    with pytest.raises(UserError, match=words):
        call()
    real = Agent(AgentConfig(replace(SIZE, latent_actions=0, real_actions=3), NAMES))
    with pytest.raises(UserError, match="it cannot act in a world"):
        real.act(FRAMES, space="latent")


def test_a_player_remembers_the_last_frames_of_each_game():
    seen = []
    agent = agent_of()
    agent.act = lambda frames, rng, space: seen.append(frames[:, :, 0, 0, 0]) or [0] * len(frames)
    player, yes, no = AgentPlayer(agent), np.array([True] * 2), np.array([False] * 2)

    def show(values, games, first):
        frames = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (2, 16, 16, 3))
        player(frames, np.array(games), first)
        return seen[-1].tolist()

    assert show([1, 5], [0, 2], yes) == [[1, 1, 1], [5, 5, 5]]
    assert show([2, 6], [0, 2], no) == [[1, 1, 2], [5, 5, 6]]
    assert show([3, 9], [0, 1], np.array([False, True])) == [[1, 2, 3], [9, 9, 9]]
    assert show([7, 8], [2, 0], np.array([False, True])) == [[5, 6, 7], [8, 8, 8]]


def test_a_player_sees_a_game_of_another_size_in_its_own():
    seen = []
    agent = agent_of()
    agent.act = lambda frames, rng, space: seen.append(frames) or [0] * len(frames)
    small = np.full((1, 8, 8, 3), 7, np.uint8)
    AgentPlayer(agent)(small, np.array([0]), np.array([True]))
    assert seen[0].shape == (1, 3, 16, 16, 3)
    assert (seen[0] == 7).all()
