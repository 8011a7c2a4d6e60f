import numpy as np
import pytest
import torch
from torch import nn

from genie.core.config import UserError
from genie.world.genie import Genie
from genie.world.reward_figures import (
    area_under_curve,
    calibration_error,
    end_figures,
    measure_reward,
    reward_figures,
)
from small import TINY, save_store


def test_the_area_is_the_chance_that_a_positive_is_rated_higher():
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    assert area_under_curve(scores, positive) == pytest.approx(3.5 / 4)
    assert area_under_curve(scores, np.zeros(4, bool)) is None
    rng = np.random.default_rng(0)
    many, truth = rng.integers(9, size=200).astype(float), rng.random(200) < 0.3
    pairs = np.sign(many[truth][:, None] - many[~truth]) / 2 + 0.5
    assert area_under_curve(many, truth) == pytest.approx(pairs.mean())


def test_probabilities_that_come_true_are_calibrated():
    rng = np.random.default_rng(0)
    predicted = rng.random(40_000)
    happened = rng.random(40_000) < predicted
    assert calibration_error(predicted, happened.astype(float)) < 0.01
    assert calibration_error(predicted**3, happened.astype(float)) > 0.1
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0


def test_a_constant_stands_beside_the_predictions():
    truth = np.array([True] + [False] * 9)
    found = end_figures(truth * 0.98 + 0.01, truth, constant=0.1)
    assert found["brier"] == pytest.approx(1e-4)
    assert found["brier_constant"] == pytest.approx(0.09)
    assert found["log_loss"] < 0.02 < found["log_loss_constant"]
    rewards = reward_figures(truth * 5.0, truth * 10.0, constant=1.0)
    assert rewards["squared_error"] == pytest.approx(2.5)
    assert rewards["squared_error_constant"] == pytest.approx(9)
    assert rewards["auc"] == 1


class Oracle(nn.Module):
    """Says that bright frames end the game; the features are the tokens of a frame."""

    def whatever_action(self, features):
        bright = (features.mean((1, 2)) > 0.5).float()
        return 3 * bright, 0.9 * bright + 0.05


def test_whole_episodes_are_measured_up_to_their_last_steps(tmp_path):
    clips = [np.zeros((n, 16, 16, 3), np.uint8) for n in (5, 40, 18, 1)]
    for clip in clips[:3]:
        clip[-1] = 255
    tagged = save_store(tmp_path, ("train", clips[0]), *(("val", clip) for clip in clips[1:]))
    rewards, ends = np.zeros(64, np.float32), np.zeros(64, np.int8)
    ends[[4, 44, 62]], rewards[[4, 44, 62]] = 1, 3
    rewards[63], ends[63] = np.nan, -1
    np.save(tmp_path / "rewards.npy", rewards)
    np.save(tmp_path / "ends.npy", ends)
    world = Genie(TINY).eval()
    world.actions.quantizer.placed.fill_(True)
    world.tokenizer.encode = lambda frames: (frames[:, :, :2, :2, 0] > 0).flatten(2).long()
    world.dynamics.features = lambda tokens, actions: tokens[..., None].float()
    shares = []
    found = measure_reward(world, Oracle(), tagged, "val", on_batch=shares.append)
    assert found["steps"] == 58
    assert (found["end"]["auc"], found["reward"]["auc"]) == (1, 1)
    assert found["end"]["happened"] == pytest.approx(2 / 58)
    assert found["end"]["brier_constant"] > found["end"]["brier"]
    assert found["reward"]["squared_error"] == 0
    assert shares[-1] == 1
    fewer = measure_reward(world, Oracle(), tagged, "val", steps=10)
    assert fewer["steps"] in (18, 40)


def test_a_store_without_outcomes_is_refused(tmp_path):
    tagged = save_store(tmp_path, ("train", np.zeros((5, 16, 16, 3), np.uint8)))
    with pytest.raises(UserError, match="no rewards and ends"):
        measure_reward(Genie(TINY), torch.nn.Identity(), tagged, "train")
