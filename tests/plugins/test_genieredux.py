import pytest
import torch

from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.models.layers.pixels import MAX_PSNR
from genie.plugins.genieredux import GENIEREDUX, genieredux, predict_each


def verdicts(section):
    return [line["verdict"] for line in GENIEREDUX.headlines_of(section)]


@pytest.fixture
def measure(evaluation):
    return lambda world: genieredux(evaluation(world, prompt_frames=1, horizon=15))


def test_a_world_that_plays_the_game_predicts_every_frame(measure, game):
    found = measure(game.world())
    assert (found["clips"], found["frames"]) == (8, 16)
    for side in ("tokenizer", "one_step", "autoregressive"):
        for horizon in ("10", "15"):
            values = found["sides"][side][horizon]
            assert values["psnr"]["mean"] == pytest.approx(MAX_PSNR)
            assert values["ssim"]["mean"] == pytest.approx(1)
    assert found["sides"]["random"]["15"]["psnr_mean_error"]["mean"] < 20
    assert found["delta_psnr"]["low"] > 10
    assert verdicts(found) == ["good", "good"]


def test_a_world_that_ignores_its_actions_is_right_for_one_step_at_most(measure, game):
    found = measure(game.world(obeys=False))
    sides, still = found["sides"], found["sides"]["copy_previous_frame"]
    assert sides["one_step"] == still
    assert sides["autoregressive"] == sides["copy_last_frame"]
    assert found["delta_psnr"]["mean"] == 0
    assert verdicts(found) == ["good", "fair"]


def test_the_figures_of_the_paper_are_in_the_table(measure, game):
    cells = GENIEREDUX.cells_of(measure(game.world()))
    psnr, ssim = list(cells.values())[2:]
    assert psnr.endswith("(25.51, 25.47)")
    assert ssim.endswith("(0.77, 0.82)")


def test_each_frame_is_predicted_from_the_true_ones_before_it(game):
    class Watched(game.world):
        seen = []  # noqa: RUF012

        def start(self, prompt, seed=0):
            self.seen.append(game.look(prompt).tolist())
            return super().start(prompt, seed)

    world, cells = Watched(), torch.tensor([[0, 6, 3]])
    frames = predict_each(RolloutPlayer(world), game.draw(cells), torch.tensor([[1, 2]]), [0])
    assert world.seen == [[[0]], [[0, 6]]]
    assert game.look(frames).tolist() == [[1, 5]]
