import math

import pytest
import torch

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.formulas import FrameErrors
from genie.models.external_networks import NetworkFile
from genie.models.layers.pixels import MAX_PSNR


def frames(*values):
    """One clip of 2 x 2 grey frames, each of one value."""
    rows = [torch.full((2, 2, 3), value, dtype=torch.uint8) for value in values]
    return torch.stack(rows)[None]


def test_the_three_psnrs_differ_as_they_should():
    real, predicted = frames(0, 0), frames(51, 0)
    moving = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    moving[0, 0, 0, 0] = moving[0, 1, 0, :] = True
    summary = FrameErrors.between(real, predicted, moving).summary()
    assert summary["psnr"] == pytest.approx((13.9794 + MAX_PSNR) / 2, abs=1e-3)
    assert summary["psnr_mean_error"] == pytest.approx(-10 * math.log10(0.02), abs=1e-3)
    # One pixel with error 0.04 and two without.
    assert summary["psnr_moving"] == pytest.approx(-10 * math.log10(0.04 / 3), abs=1e-3)


def test_nothing_moving_has_no_psnr_on_moving_pixels():
    still = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    errors = FrameErrors.between(frames(0), frames(9), still, chosen=())
    assert math.isnan(errors.summary()["psnr_moving"])
    assert math.isnan(errors.summary()["ssim"])
    assert errors.moving_psnr().isnan().all()


def test_errors_join_and_split():
    real, moving = frames(0, 10, 20), torch.ones(1, 3, 2, 2, dtype=torch.bool)
    errors = FrameErrors.between(real, frames(51, 10, 20), moving)
    both = FrameErrors.cat([errors, errors])
    assert both.psnr().shape == (2, 3)
    assert torch.equal(both.at(slice(1)).psnr(), errors.psnr()[:, :1].expand(2, 1))


def test_interval_by_hand():
    found = formulas.mean_interval(torch.tensor([1.0, 2.0, 3.0, math.nan]))
    assert found["clips"] == 3
    assert found["mean"] == 2
    assert found["stderr"] == pytest.approx(1 / math.sqrt(3))
    # Student's t at 0.975 with two degrees of freedom is 4.3027.
    assert found["high"] - found["mean"] == pytest.approx(4.3027 / math.sqrt(3), rel=1e-3)


def test_interval_of_one_value_is_unknown():
    found = formulas.mean_interval(torch.tensor([1.0]))
    assert found["mean"] == 1
    assert math.isnan(found["low"])


def test_clips_of_one_episode_count_once():
    values = torch.tensor([1.0, 5.0, 3.0, 7.0, math.nan, 2.0, 8.0])
    found = formulas.interval_over_episodes(values, torch.tensor([4, 4, 4, 9, 9, 2, 2]))
    over_means = formulas.mean_interval(torch.tensor([3.0, 7.0, 5.0]))
    assert found == over_means | {"clips": 6, "episodes": 3}
    alone = formulas.interval_over_episodes(values, torch.zeros(7, dtype=torch.int64))
    assert math.isnan(alone["stderr"])


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (30, 2.042)]
)
def test_student_quantiles(freedom, expected):
    assert formulas.student_quantile(freedom) == pytest.approx(expected, rel=5e-3)


def test_usage_counts_codes():
    assert formulas.code_counts(torch.tensor([[0, 2], [2, 2]]), 4).tolist() == [1, 0, 3, 0]


def test_contingency_by_hand():
    latent, true = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2, 2, 0, 0, 2])
    table = formulas.contingency(latent, true, 2, 3)
    assert table.tolist() == [[0, 0, 2], [2, 0, 1]]
    assert formulas.purity(table) == pytest.approx(4 / 5)


def test_information_of_equal_labels_is_their_entropy():
    labels = torch.arange(400) % 5
    table = formulas.contingency(4 - labels, labels, 5, 5)
    assert formulas.mutual_information(table) == pytest.approx(math.log(5))
    assert formulas.normalised_mutual_information(table) == pytest.approx(1)
    assert formulas.purity(table) == 1


def test_information_of_independent_labels_is_zero():
    latent, true = torch.arange(600) % 2, torch.arange(600) % 3
    table = formulas.contingency(latent, true, 2, 3)
    assert formulas.mutual_information(table) == pytest.approx(0, abs=1e-12)
    assert formulas.normalised_mutual_information(table) == pytest.approx(0, abs=1e-12)


def test_information_of_a_constant_is_zero():
    table = formulas.contingency(torch.zeros(9, dtype=torch.long), torch.zeros(9).long(), 2, 2)
    assert formulas.mutual_information(table) == 0
    assert formulas.normalised_mutual_information(table) == 0


def test_information_agrees_with_its_definition():
    table = torch.tensor([[3.0, 1.0, 0.0], [2.0, 4.0, 10.0]])
    joint = table / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    terms = [
        joint[i, j] * (joint[i, j] / (rows[i] * columns[j])).log()
        for i in range(2)
        for j in range(3)
        if joint[i, j] > 0
    ]
    assert formulas.mutual_information(table) == pytest.approx(sum(terms).item(), abs=1e-6)


def test_macro_f1_counts_every_action_alike():
    perfect = torch.diag(torch.tensor([90, 10]))
    assert formulas.macro_f1(perfect) == 1
    blind = torch.tensor([[90, 0], [10, 0]])
    assert formulas.macro_f1(blind) == pytest.approx((180 / 190 + 0) / 2)
    # An action that never occurs is left out, though saying it is wrong.
    unseen = torch.tensor([[8, 2, 0], [0, 0, 0], [0, 0, 10]])
    assert formulas.macro_f1(unseen) == pytest.approx((16 / 18 + 1) / 2)
    neither = torch.tensor([[8, 2, 0], [0, 5, 0], [0, 0, 0]])
    assert formulas.macro_f1(neither) == pytest.approx((16 / 18 + 10 / 12) / 2)


def test_sides_are_compared_where_they_differ_from_the_frame_before():
    real, before = frames(200, 10), frames(10, 10)
    sides = {"right": real, "copy_last_frame": before}
    found = formulas.errors_by_side([(real, sides)])
    assert found["right"].moving_count.tolist() == [[4, 0]]
    assert found["right"].moving_error.sum() == 0
    assert found["copy_last_frame"].moving_error[0, 0] > 1
    assert found["right"].perceptual.isnan().all()
    twice = formulas.errors_by_side(2 * [(real, sides)], chosen=[1], distance=Brightness())
    assert twice["copy_last_frame"].perceptual[:, 1].tolist() == [0, 0]
    assert twice["copy_last_frame"].perceptual[:, 0].isnan().all()
    assert twice["right"].similarity[:, 0].isnan().all()


class Brightness(NetworkFile):
    """Compares frames by their brightness."""

    def __init__(self):
        self.name = "brightness"

    def distance(self, real, predicted):
        return (real.float().mean((1, 2, 3)) - predicted.float().mean((1, 2, 3))).abs()


def test_bootstrap_intervals_hold_the_figures_and_draw_episodes_whole():
    torch.manual_seed(0)
    error = torch.rand(40, 3) / 10
    moved = torch.full((40, 3), 7.0)
    half = torch.full((40, 3), 0.5)
    errors = FrameErrors(error, error * moved, moved, half, half)
    found, summary = errors.intervals(torch.arange(40)), errors.summary()
    for name in ("psnr", "psnr_mean_error", "psnr_moving"):
        low, high = found[name]
        assert low < summary[name] < high
    assert found["ssim"] == [0.5, 0.5]
    twice = FrameErrors.cat([errors, errors]).intervals(torch.arange(40).repeat(2))
    assert twice["psnr"] == pytest.approx(found["psnr"])
    assert all(math.isnan(limit) for limit in errors.intervals(torch.zeros(40).long())["psnr"])


def test_rows_and_columns_are_not_confused():
    table = torch.tensor([[5, 1, 0], [0, 2, 2]])
    assert formulas.purity(table) == pytest.approx(0.7)
    rows, columns = (formulas.entropy(table.sum(side)) for side in (1, 0))
    information = formulas.mutual_information(table)
    expected = information / ((rows + columns) / 2)
    assert formulas.normalised_mutual_information(table) == pytest.approx(expected)
    assert rows != columns


def test_a_latent_action_that_never_occurs_gets_the_commonest_true_one():
    table = torch.tensor([[0, 0, 0], [5, 1, 4], [0, 2, 7]])
    assert formulas.action_map(table).tolist() == [2, 0, 2]


def test_rounding_makes_no_information_negative():
    for seed in range(50):
        dice = torch.Generator().manual_seed(seed)
        rows, columns = torch.randint(1, 99, (2, 7), generator=dice)
        assert 0 <= formulas.mutual_information(rows[:, None] * columns) < 1e-9


def test_students_quantiles_are_right_to_half_a_percent():
    known = {3: 3.18245, 4: 2.77645, 5: 2.57058, 6: 2.44691, 10: 2.22814, 30: 2.04227}
    for freedom, quantile in known.items():
        assert formulas.student_quantile(freedom) == pytest.approx(quantile, rel=0.005)
