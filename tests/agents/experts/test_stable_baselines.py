import json
import zipfile

import gymnasium
import numpy as np
import pytest
import square_game
from toy import NAMES, SIDE

from genie.agents.experts.stable_baselines import StableBaselines
from genie.core.config import UserError
from genie.data.recording.record import record


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    algorithms = pytest.importorskip("stable_baselines3")
    square_game.register()
    game = gymnasium.make("GenieTest/Square-v0")
    path = tmp_path_factory.mktemp("checkpoint") / "mine.zip"
    algorithms.PPO("MlpPolicy", game, n_steps=8, batch_size=8, seed=0).save(path)
    return path


def test_a_checkpoint_plays(checkpoint, tmp_path):
    policy = StableBaselines(checkpoint)
    actions = policy(np.zeros((5, SIDE, SIDE, 3), np.uint8))
    assert ((actions >= 0) & (actions < len(NAMES))).all()
    quiet = {"progress": False, "episodes": 2, "val_fraction": 0}
    record(square_game.SQUARE, tmp_path / "out", policy=policy, **quiet)
    (file, _) = sorted((tmp_path / "out/train").glob("*.json"))
    assert '"policy": "PPO mine"' in file.read_text()
    with pytest.raises(UserError, match=r"acts on observations of .* the game shows frames of"):
        policy(np.zeros((5, 8, 8, 3), np.uint8))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a checkpoint of Stable-Baselines3"):
        StableBaselines(tmp_path / "none.zip")


def written(path, **settings):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", json.dumps(settings))
    return path


def test_the_algorithm_is_known_by_its_settings(tmp_path):
    found = StableBaselines(written(tmp_path / "a.zip", exploration_fraction=0.1, gamma=0.9))
    assert found.__name__ == "DQN a"
    assert StableBaselines(written(tmp_path / "b.zip", ent_coef=0.1)).__name__ == "A2C b"
    with pytest.raises(UserError, match="of another algorithm than PPO, DQN"):
        StableBaselines(written(tmp_path / "c.zip", gamma=0.9))
