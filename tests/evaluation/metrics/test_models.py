import math

import pytest
import torch

from genie.data.clips import ClipBatches, select_clips
from genie.evaluation.metrics.models import (
    LATENT_ACTIONS,
    measure_dynamics,
    measure_latent_actions,
    measure_tokenizer,
)
from genie.models.layers.pixels import MAX_PSNR


@pytest.fixture
def clips(game):
    store = game.store()
    return ClipBatches(store, select_clips(store, "val", 9, 12, seed=0), 9, 5, torch.device("cpu"))


def test_a_perfect_tokenizer(evaluation, clips):
    found = measure_tokenizer(evaluation(batches=clips))
    assert found["reconstruction"]["psnr"] == pytest.approx(MAX_PSNR)
    assert found["reconstruction"]["ssim"] == pytest.approx(1)
    assert found["copy_last_frame"]["psnr_moving"] < found["copy_last_frame"]["psnr_mean_error"]
    # A moving square changes two of sixteen cells; three of four actions move it.
    assert found["moving_share"] == pytest.approx(2 / 16 * 3 / 4, abs=0.02)
    codebook = found["codebook"]
    assert (codebook["used"], codebook["size"], codebook["share_used"]) == (2, 2, 1.0)
    entropy = -(1 / 16 * math.log(1 / 16) + 15 / 16 * math.log(15 / 16))
    assert codebook["perplexity"] == pytest.approx(math.exp(entropy))


def test_latent_actions_that_explain_everything(evaluation, clips):
    found = measure_latent_actions(evaluation(batches=clips))
    assert found["perplexity"] == pytest.approx(4, abs=0.2)
    assert sum(found["usage"]) == pytest.approx(1)
    assert found["transitions"] == 12 * 8
    sides = found["next_frame"]
    assert sides["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert sides["random"]["psnr_moving"] < 20


def test_dynamics_that_need_the_right_action(evaluation, clips):
    found = measure_dynamics(evaluation(batches=clips))
    assert found["inferred"] == {"cross_entropy": 0, "accuracy": 1}
    assert found["shuffled"]["cross_entropy"] > 0.5
    assert found["gain"]["low"] > 0
    assert found["gain"]["clips"] == sum(map(len, clips))
    assert found["uniform_cross_entropy"] == pytest.approx(math.log(2))


def test_measuring_the_dynamics_leaves_the_random_state_alone(evaluation, clips):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    measure_dynamics(evaluation(batches=clips))
    assert torch.equal(torch.rand(3), expected)


def test_collapsed_actions_are_poor_and_used_ones_good():
    unknown = {name: {"psnr_moving": None} for name in ("inferred", "random")}
    verdicts = [
        LATENT_ACTIONS.headlines_of({"perplexity": p, "count": 8, "next_frame": unknown})
        for p in (1.0, 2.5, 4.5)
    ]
    assert [usage["verdict"] for usage, _ in verdicts] == ["poor", "fair", "good"]
    assert {gain["verdict"] for _, gain in verdicts} == {"poor"}
