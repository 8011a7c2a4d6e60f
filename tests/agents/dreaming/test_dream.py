import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rewarded import made_policy, made_reward_model
from square_game import SQUARE
from toy import NAMES, PERMUTATION

from genie.agents.agent import Agent, AgentConfig, latent_actions_hash
from genie.agents.dreaming.dream import RealTestConfig, dream
from genie.agents.dreaming.learn import DreamConfig
from genie.agents.real_game import RealGameConfig
from genie.core.config import UserError
from genie.world.action_mapper import ActionMapper, MapperConfig
from genie.world.genie import Genie
from genie.world.reward_model import hashes
from small import TEAL, save_world

LEARNING = DreamConfig(games=8, horizon=3, minibatch=32, critic_updates=0)
GAME = RealGameConfig(SQUARE, levels=4, seeds=2, num_envs=4)
TEST = RealTestConfig(every=2, first_level=50, levels=3)
QUICK = {"learning": LEARNING, "game": GAME, "test": TEST, "dtype": "float32", "progress": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world with a mapper and a reward model beside it."""
    folder = save_world(tmp_path_factory.mktemp("world"), TEAL)
    genie = Genie.from_pretrained(folder, "cpu")
    mapper = ActionMapper(MapperConfig("dictionary", NAMES, 4, latent_actions_hash(genie), 12))
    mapper.counts[PERMUTATION, torch.arange(4)] = 3
    mapper.save_pretrained(folder / "mapper")
    made_reward_model(genie, hashes(genie)).save_pretrained(folder / "reward")
    return folder


def weights(folder):
    return Agent.from_pretrained(folder).policy.state_dict()


def test_an_agent_is_made_tested_and_saved(world, store, tmp_path):
    made = dream(world, store.path, tmp_path / "agent", dreams=3, **QUICK)
    report = json.loads((tmp_path / "agent" / "report.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["dreams"] == 3
    assert [row["dreams"] for row in report["curve"]] == [1, 2, 3]
    assert list(report["tests"]) == ["0", "2", "3"]
    held = report["held_out"]
    assert (held["levels"], held["seeds"]) == (4, 2)
    assert {"agent", "start", "random play", "above"} <= held.keys()
    agent = Agent.from_pretrained(tmp_path / "agent", Genie.from_pretrained(world, "cpu"))
    assert agent.action_names == list(NAMES)
    assert agent.act(np.stack([TEAL] * 2)) in range(4)
    card = (tmp_path / "agent" / "README.md").read_text()
    assert "3 batches of dreams" in card
    assert "random play: mean return" in card


def test_a_run_that_was_stopped_ends_as_one_that_was_not(world, store, tmp_path):
    quiet = {**QUICK, "test": replace(TEST, every=0)}
    dream(world, store.path, tmp_path / "whole", dreams=3, **quiet)
    for count in (1, 3):
        dream(world, store.path, tmp_path / "parts", dreams=count, **quiet)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(UserError, match="was begun with"):
        dream(world, store.path, tmp_path / "parts", dreams=3, **{**quiet, "seed": 5})


def test_it_begins_with_a_clone(world, store, tmp_path):
    genie = Genie.from_pretrained(world, "cpu")
    policy = made_policy()
    torch.nn.init.normal_(policy.to_latent.weight)
    clone = Agent(
        AgentConfig(policy.config, latent_actions=latent_actions_hash(genie)),
        policy,
        ActionMapper.from_pretrained(world, genie),
    )
    clone.save_pretrained(tmp_path / "clone")
    quiet = {**QUICK, "learning": replace(LEARNING, critic_updates=9)}
    made = dream(world, store.path, tmp_path / "agent", start=tmp_path / "clone", dreams=1, **quiet)
    assert made.report["start"] == str(tmp_path / "clone")
    before, after = weights(tmp_path / "clone"), weights(tmp_path / "agent")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_missing_is_named(world, store, tmp_path):
    with pytest.raises(UserError, match="one of them must be above 0"):
        dream(world, store.path, tmp_path / "agent", dreams=0, **QUICK)
    bare = save_world(tmp_path / "bare", TEAL)
    with pytest.raises(UserError, match=r"genie train --from WORLD .* --stages"):
        dream(bare, store.path, tmp_path / "agent", **QUICK)
    with pytest.raises(UserError, match="genie map"):
        dream(bare, store.path, tmp_path / "agent", reward=_reward(bare, tmp_path), **QUICK)
    with pytest.raises(UserError, match="another world"):
        dream(save_world(tmp_path / "other", TEAL, seed=3), store.path, tmp_path / "agent",
              reward=world, **QUICK)  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other things"):
        dream(world, store.path, tmp_path / "full", **QUICK)


def _reward(world, folder):
    genie = Genie.from_pretrained(world, "cpu")
    made_reward_model(genie, hashes(genie)).save_pretrained(folder / "own")
    return folder / "own"
