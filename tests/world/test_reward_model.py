import json
from dataclasses import replace

import pytest
import torch

from genie.core.config import UserError
from genie.world.genie import Genie
from genie.world.reward_model import FOLDER, RewardModel, RewardModelConfig, hashes, new_heads
from small import TEAL, TINY


@pytest.fixture
def world():
    torch.manual_seed(0)
    return Genie(TINY).eval()


@pytest.fixture
def model(world):
    torch.manual_seed(1)
    heads = new_heads(world)
    for head in (heads.to_reward, heads.to_end):
        torch.nn.init.normal_(head.weight, std=0.2)
    return RewardModel(RewardModelConfig(heads.config, hashes(world)), heads).eval()


def games(world, count=64):
    return world.start(torch.from_numpy(TEAL).expand(count, 1, 16, 16, 3).numpy())


def test_it_is_saved_beside_its_world(world, model, tmp_path):
    model.save_pretrained(tmp_path / FOLDER)
    state, actions = games(world, 4), torch.arange(4)
    for folder in (tmp_path, tmp_path / FOLDER):
        again = RewardModel.from_pretrained(folder, world)
        torch.testing.assert_close(again(state, actions), model(state, actions))


def test_another_world_and_no_model_at_all_are_refused(world, model, tmp_path):
    with pytest.raises(UserError, match=r"no .*model here; make one with `genie train --from"):
        RewardModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    torch.manual_seed(5)
    with pytest.raises(UserError, match="trained for another world"):
        RewardModel.from_pretrained(tmp_path, Genie(TINY).eval())
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "version": 9}))
    with pytest.raises(UserError, match="version 9"):
        RewardModel.from_pretrained(tmp_path)


def test_the_action_decides(world, model):
    state = games(world, 4)
    reward, end = model(state, torch.arange(4))
    assert len(set(reward.tolist())) == 4
    assert len(set(end.tolist())) == 4


def test_ends_are_sampled_by_seed_and_frame_as_often_as_they_are_likely(world, model):
    state, actions = games(world, 2000), torch.zeros(2000, dtype=torch.int64)
    _, likely = model(state, actions)
    rewards, ends = model.outcome(state, actions)
    assert 0.05 < likely[0] < 0.95
    assert abs(ends.float().mean() - likely[0]) < 0.05
    assert torch.equal(ends, model.outcome(state, actions)[1])
    later = replace(state.dynamics.cache, time=state.time + 1)
    moved = replace(state, dynamics=replace(state.dynamics, cache=later))
    assert not torch.equal(ends, model.outcome(moved, actions)[1])
    one = model.outcome(state.player(7), actions[:1])
    assert one[1].item() == ends[7].item()
    torch.testing.assert_close(one[0][0], rewards[7], rtol=1e-4, atol=1e-4)


def test_a_world_in_bfloat16_has_it_too(world, model):
    half = Genie(TINY).eval()
    half.load_state_dict(world.state_dict())
    half = half.to(torch.bfloat16)
    model.require_world(half)
    assert model(games(half, 2), torch.zeros(2, dtype=torch.int64))[0].dtype == torch.float32
