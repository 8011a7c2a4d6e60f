from dataclasses import replace

import pytest
import torch

from genie.core.progress import progress_bars
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.external_networks import NetworkFile
from genie.evaluation.metrics.frechet import Pixels
from genie.evaluation.metrics.separation import SeparationConfig
from genie.evaluation.playing import FrechetByCondition, RolloutMetrics


@pytest.fixture
def player(game):
    """Plays a world that obeys, three times, from few clips."""
    config = EvaluationConfig(
        clips=4, seeds=3, long_clips=2, long_horizon=20, times=(1, 4, 20),
        separation=SeparationConfig(states=3, permutations=99),
    )  # fmt: skip
    return RolloutMetrics(
        game.world(), game.store(), config, Pixels(), None, None, progress_bars(False)
    )


def test_every_seed_plays_other_clips_and_all_count_together(player):
    watched = []
    found = player.rollouts(4, 8, (1, 4), lambda frames, played: watched.append(frames))
    assert (found["clips"], found["seeds"], found["horizon"]) == (12, [0, 1, 2], 8)
    delta = found["at"]["4"]["delta_psnr"]
    assert delta["clips"] == 12
    assert len(delta["by_seed"]) == 3
    assert len(set(delta["by_seed"])) > 1
    assert delta["low"] < delta["mean"] < delta["high"]
    assert sum(map(len, watched)) == 4  # pictures are of the first seed
    assert len(found["delta_psnr_low"]) == 8
    assert found["perceptual"] is None


def test_longer_rollouts_reach_the_later_times_only(player):
    found = player.long_rollouts()
    assert list(found["at"]) == ["20"]
    assert len(found["curves"]["inferred"]) == 20
    assert found["clips"] == 6
    short = replace(player, config=replace(player.config, long_horizon=90, times=(1, 90)))
    assert "no episode of 91 frames" in short.long_rollouts()["skipped"]
    none = replace(player, config=replace(player.config, long_clips=0))
    assert "none were asked for" in none.long_rollouts()["skipped"]


def test_held_buttons_have_a_sheet_for_each_picture_that_is_shown(player, game):
    config = replace(player.config, action_prompts=2, action_steps=3, figure_clips=1)
    clips = player._clips(17, 4, 0)
    figures, sheets = replace(player, config=config).held_actions(clips)
    assert (figures["prompts"], figures["steps"]) == (2, 3)
    assert figures["between_seeds"] == 0
    assert [sheet.name for sheet in sheets] == ["buttons_1"]
    # A world that obeys stands still with the button that is called "stay", and no other.
    assert figures["stillest_action"] == 0


def test_random_codes_are_worse_than_what_the_world_draws(player):
    at = player.rollouts(4, 8, (4,))["at"]["4"]
    assert at["random_codes"]["psnr_mean_error"] < at["inferred"]["psnr_mean_error"] - 10
    low, high = at["copy_last_frame"]["intervals"]["psnr_mean_error"]
    assert low < at["copy_last_frame"]["psnr_mean_error"] < high


def test_a_network_of_distances_is_asked_at_the_quoted_times(player):
    class Pairs(NetworkFile):
        def __init__(self):
            self.name = "pairs"

        def distance(self, real, predicted):
            return (real.float() - predicted.float()).abs().mean((1, 2, 3))

    found = replace(player, distance=Pairs()).rollouts(4, 8, (1, 4))
    assert found["perceptual"] == "pairs"
    assert found["at"]["4"]["inferred"]["perceptual"] == 0
    assert found["at"]["4"]["copy_last_frame"]["perceptual"] > 1


def test_what_is_not_asked_for_is_skipped(player):
    assert player.separation()["p"] == 1 / 100
    nothing = replace(player.config, separation=SeparationConfig(states=0))
    assert "skipped" in replace(player, config=nothing).separation()


def test_spread_of_the_real_frames_themselves_is_none():
    frames = torch.randint(256, (6, 5, 16, 16, 3), dtype=torch.uint8)
    spread = FrechetByCondition(Pixels(), 1)
    for part in frames.split(4):
        spread.update(part, {"same": part[:, 1:], "dark": part[:, 1:] // 2})
    found = spread.compute(0)
    assert found["samples"] == 24
    assert found["distance"]["same"] == pytest.approx(0, abs=1e-6)
    assert found["distance"]["dark"] > found["real_halves"] > 0
    assert found["extractor"] == "pixels-8x8"
