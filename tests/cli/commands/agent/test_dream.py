import numpy as np
import pytest
from failing import fails

from genie.agents.agent import Agent
from genie.cli import main
from genie.world.genie import Genie
from genie.world.reward_model import RewardModel, RewardModelConfig, hashes, new_heads
from small import TEAL, save_store, save_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = save_world(tmp_path_factory.mktemp("world"), TEAL)
    genie = Genie.from_pretrained(folder, "cpu")
    heads = new_heads(genie)
    RewardModel(RewardModelConfig(heads.config, hashes(genie)), heads).save_pretrained(
        folder / "reward"
    )
    return folder


def test_an_agent_is_trained_without_the_real_game(world, tmp_path, capsys):
    clip = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), np.uint8)
    store = save_store(tmp_path / "store", ("train", clip))
    out, size = tmp_path / "mine", ["--learning.games", "2", "--learning.horizon", "4"]
    command = ["agent", "dream", str(world), "--data", str(store.path), "--out", str(out), *size]
    assert main.main([*command, "--dreams", "1", "--test.every", "0"]) == 0
    assert "1 batches of dreams" in capsys.readouterr().out
    assert Agent.from_pretrained(out).config.made_by == "genie agent dream"
    assert "genie map" in fails(capsys, *command, "--dreams", "2")
    assert "was begun with" in fails(capsys, *command, "--test.every", "0", "--seed", "3")
    assert "horizon: must be at least 1" in fails(capsys, *command, "--learning.horizon", "0")
