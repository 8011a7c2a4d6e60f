import numpy as np
import pytest
import torch

from genie.data.clips import ClipBatches, select_clips
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.rollouts import LONG_ROLLOUTS, ROLLOUTS, measure_rollouts, quoted_step
from genie.models.external_networks import NetworkFile
from genie.models.layers.pixels import MAX_PSNR

SEEDS = {
    "clips": 4, "seeds": 3, "horizon": 8, "long_clips": 2, "long_horizon": 20, "times": (1, 4, 20),
}  # fmt: skip


@pytest.fixture
def clips(game):
    store = game.store()
    return ClipBatches(store, select_clips(store, "val", 9, 12, seed=0), 9, 5, torch.device("cpu"))


def test_control_of_a_world_that_obeys(evaluation, clips):
    found = measure_rollouts(evaluation(), [clips], (1, 4, 8))
    assert list(found["at"]) == ["1", "4", "8"]
    at = found["at"]["4"]
    assert at["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert at["delta_psnr"]["mean"] > 10
    assert at["delta_psnr"]["low"] > 0
    assert at["delta_psnr_moving"]["mean"] > 10
    assert at["delta_psnr"]["mean"] == pytest.approx(
        at["inferred"]["psnr"] - at["random"]["psnr"], abs=1e-3
    )
    assert [len(curve) for curve in found["curves"].values()] == [8] * 5
    assert (found["clips"], found["episodes"]) == (12, 6)
    assert (at["delta_psnr"]["clips"], at["delta_psnr"]["episodes"]) == (12, 6)


def test_repeating_a_clip_of_an_episode_does_not_narrow_the_interval(evaluation, clips):
    starts = clips.starts[:4]
    widths = []
    for repeats in (1, 5):
        chosen = ClipBatches(clips.store, np.tile(starts, repeats), 9, 20, clips.device)
        found = measure_rollouts(evaluation(), [chosen], (4,))
        psnr = found["at"]["4"]["copy_last_frame"]["psnr_interval"]
        widths.append(psnr["stderr"])
    assert widths[0] == pytest.approx(widths[1])


@pytest.mark.parametrize("noise", [False, True])
def test_control_of_a_world_that_ignores_its_actions_is_exactly_zero(
    game, evaluation, clips, noise
):
    found = measure_rollouts(
        evaluation(game.world(obeys=False, noise=noise), prompt_frames=2), [clips], (1, 4, 7)
    )
    for at in found["at"].values():
        assert at["delta_psnr"]["mean"] == at["delta_psnr"]["stderr"] == 0
        assert at["inferred"] == at["random"]
    assert found["delta_psnr_curve"] == [0] * 7


def test_rollouts_do_not_depend_on_the_batch(game, evaluation, clips):
    world = game.world(noise=True)
    whole = ClipBatches(clips.store, clips.starts, 9, 12, clips.device)
    parts = [measure_rollouts(evaluation(world), [c], (4,))["at"]["4"] for c in (clips, whole)]
    assert parts[0]["delta_psnr"]["mean"] == pytest.approx(parts[1]["delta_psnr"]["mean"])


def test_longer_prompts_start_later(evaluation, clips):
    found = measure_rollouts(evaluation(prompt_frames=3), [clips], (1, 6))
    assert found["at"]["6"]["inferred"]["psnr"] == pytest.approx(MAX_PSNR)
    assert len(found["curves"]["inferred"]) == 6


def test_every_seed_plays_other_clips_and_all_count_together(evaluation):
    asked = evaluation(**SEEDS)
    found = ROLLOUTS.measure(asked)
    assert (found["clips"], found["seeds"], found["horizon"]) == (12, [0, 1, 2], 8)
    delta = found["at"]["4"]["delta_psnr"]
    assert delta["clips"] == 12
    assert len(delta["by_seed"]) == 3
    assert len(set(delta["by_seed"])) > 1
    assert delta["low"] < delta["mean"] < delta["high"]
    assert len(found["delta_psnr_low"]) == 8
    assert found["perceptual"] is None
    # Figures are of the first seed.
    assert [f.name for f in asked.figures] == ["play", "clip_1", "clip_2", "clip_3"]


def test_longer_rollouts_reach_the_later_times_only(evaluation):
    found = LONG_ROLLOUTS.measure(evaluation(**SEEDS))
    assert list(found["at"]) == ["20"]
    assert len(found["curves"]["inferred"]) == 20
    assert found["clips"] == 6
    with pytest.raises(Skipped, match="no episode of 91 frames"):
        LONG_ROLLOUTS.measure(evaluation(long_horizon=90, times=(1, 90)))
    with pytest.raises(Skipped, match="none were asked for"):
        LONG_ROLLOUTS.measure(evaluation(long_clips=0))


def test_random_codes_are_worse_than_what_the_world_generates(evaluation):
    at = ROLLOUTS.measure(evaluation(**SEEDS))["at"]["4"]
    assert at["random_codes"]["psnr_mean_error"] < at["inferred"]["psnr_mean_error"] - 10
    low, high = at["copy_last_frame"]["intervals"]["psnr_mean_error"]
    assert low < at["copy_last_frame"]["psnr_mean_error"] < high


def test_a_network_of_distances_is_asked_at_the_quoted_times(evaluation):
    class Pairs(NetworkFile):
        def __init__(self):
            self.name = "pairs"

        def distance(self, real, predicted):
            return (real.float() - predicted.float()).abs().mean((1, 2, 3))

    asked = evaluation(**SEEDS)
    asked.distance = Pairs()
    found = ROLLOUTS.measure(asked)
    assert found["perceptual"] == "pairs"
    assert found["at"]["4"]["inferred"]["perceptual"] == 0
    assert found["at"]["4"]["copy_last_frame"]["perceptual"] > 1


def report(delta, stderr, times=("1", "4")):
    at = {
        "delta_psnr": {"mean": delta, "stderr": stderr},
        "inferred": {"psnr_mean_error": 20.0},
        "copy_last_frame": {"psnr_mean_error": 19.5},
    }
    return {"at": dict.fromkeys(times, at)}


@pytest.mark.parametrize(
    ("delta", "stderr", "verdict"),
    [
        (1.5, 0.1, "good"),
        (0.5, 0.1, "fair"),
        (0.5, 0.2, "poor"),
        (-2, 0.1, "poor"),
        (1.5, None, "poor"),
    ],
)
def test_control_must_stand_out_by_three_standard_errors(delta, stderr, verdict):
    rollout, control = ROLLOUTS.headlines_of(report(delta, stderr))
    assert control["verdict"] == verdict
    assert rollout["verdict"] == "fair"


def test_control_is_quoted_at_four_or_before():
    assert quoted_step(report(1, 0, ("1", "4", "8"))) == "4"
    assert quoted_step(report(1, 0, ("1", "3"))) == "3"
