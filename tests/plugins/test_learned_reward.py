import json

import numpy as np
import pytest
import torch

from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.plugins.learned_reward import LEARNED_REWARD, learned_reward
from genie.world.genie import Genie
from genie.world.reward_model import FOLDER, RewardModel, RewardModelConfig, hashes, new_heads
from small import TEAL, save_store, save_world


@pytest.fixture
def evaluation(tmp_path):
    folder = save_world(tmp_path / "world", TEAL)
    clips = np.random.default_rng(0).integers(0, 255, (2, 20, 16, 16, 3), np.uint8)
    store = save_store(tmp_path / "store", ("train", clips[0]), ("val", clips[1]))
    world = Genie.from_pretrained(folder, "cpu")
    world.actions.quantizer.placed.fill_(True)
    return Evaluation(world, store, EvaluationConfig(clips=2))


def with_outcomes(evaluation):
    ends, rewards = np.zeros(40, np.int8), np.zeros(40, np.float32)
    ends[[19, 39]], rewards[[19, 39]] = 1, 10
    np.save(evaluation.store.path / "ends.npy", ends)
    np.save(evaluation.store.path / "rewards.npy", rewards)


def with_model(evaluation):
    torch.manual_seed(0)
    heads = new_heads(evaluation.world)
    model = RewardModel(RewardModelConfig(heads.config, hashes(evaluation.world)), heads)
    model.save_pretrained(evaluation.world.folder / FOLDER)


def test_what_is_missing_is_said(evaluation):
    with pytest.raises(Skipped, match="no reward model beside the world"):
        learned_reward(evaluation)
    with_model(evaluation)
    with pytest.raises(Skipped, match="no rewards and ends"):
        learned_reward(evaluation)
    with_outcomes(evaluation)
    path = evaluation.world.folder / FOLDER / "config.json"
    path.write_text(path.read_text().replace(hashes(evaluation.world)[0], "0" * 64))
    with pytest.raises(Skipped, match="another world"):
        learned_reward(evaluation)


def test_heads_without_an_opinion_are_as_good_as_chance(evaluation):
    with_outcomes(evaluation)
    with_model(evaluation)
    section = json.loads(json.dumps(learned_reward(evaluation)))
    assert section["steps"] == 20
    assert section["split"] == "val"
    ended, constant, rewarded = (headline.of(section) for headline in LEARNED_REWARD.headlines)
    assert ended["value"] == rewarded["value"] == 0.5
    assert constant["value"] == pytest.approx(1 - 0.25 / (0.05 * 0.95))
    assert ended["verdict"] == constant["verdict"] == "poor"
