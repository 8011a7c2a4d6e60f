import math

import pytest
import torch

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.formulas import FrameErrors
from genie.models.layers.pixels import MAX_PSNR


def frames(*values):
    """One clip of 2 x 2 grey frames, each of one value."""
    rows = [torch.full((2, 2, 3), value, dtype=torch.uint8) for value in values]
    return torch.stack(rows)[None]


def test_unsigned_bytes_do_not_wrap_around():
    assert formulas.frame_distance(frames(0), frames(255)).item() == 255


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
    errors = FrameErrors.between(frames(0), frames(9), still, ssim_frames=())
    assert math.isnan(errors.summary()["psnr_moving"])
    assert math.isnan(errors.summary()["ssim"])
    assert errors.moving_psnr().isnan().all()


def test_errors_join_and_split():
    real, moving = frames(0, 10, 20), torch.ones(1, 3, 2, 2, dtype=torch.bool)
    errors = FrameErrors.between(real, frames(51, 10, 20), moving)
    both = FrameErrors.cat([errors, errors])
    assert both.psnr().shape == (2, 3)
    assert torch.equal(both.at(0).psnr(), errors.psnr()[:, :1].expand(2, 1))


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
    assert formulas.student_quantile(0.975, freedom) == pytest.approx(expected, rel=5e-3)


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


def test_chance_keeps_the_counts_and_repeats():
    latent, true = torch.arange(60) % 2, torch.arange(60) % 3
    first, again = (formulas.chance_tables(latent, true, 2, 3, 4, seed=7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(t.sum(1).tolist() == [30, 30] for t in first)
    assert not torch.equal(first[0], first[1])


def held(by_action, by_seed):
    """Frames (1, A, 2, 1, 2, 2, 3) whose grey is the sum of one number per action and per seed."""
    grey = torch.tensor(by_action)[:, None] + torch.tensor(by_seed)
    return grey[None, :, :, None, None, None, None].expand(-1, -1, -1, 1, 2, 2, 3).to(torch.uint8)


def test_buttons_that_do_nothing_are_as_far_apart_as_seeds():
    separation = formulas.action_separation(formulas.action_distances(held([50, 50, 50], [0, 9])))
    assert separation == {"between_actions": 9.0, "between_seeds": 9.0, "ratio": 1.0}


def test_buttons_that_do_nothing_without_chance():
    distances = formulas.action_distances(held([50, 50], [0, 0]))
    assert formulas.action_separation(distances)["ratio"] == 1.0


def test_buttons_that_do_something():
    distances = formulas.action_distances(held([50, 150], [0, 10]))
    assert distances.tolist() == [[10, 110], [90, 10]]
    assert formulas.action_separation(distances)["ratio"] == 10


def test_macro_f1_counts_every_action_alike():
    perfect = torch.diag(torch.tensor([90, 10]))
    assert formulas.macro_f1(perfect) == 1
    blind = torch.tensor([[90, 0], [10, 0]])
    assert formulas.macro_f1(blind) == pytest.approx((180 / 190 + 0) / 2)
    # An action that never occurs is left out, though saying it is wrong.
    unseen = torch.tensor([[8, 2, 0], [0, 0, 0], [0, 0, 10]])
    assert formulas.macro_f1(unseen) == pytest.approx((16 / 18 + 1) / 2)


def test_bootstrap_intervals_hold_the_figures_and_draw_episodes_whole():
    torch.manual_seed(0)
    error = torch.rand(40, 3) / 10
    moved = torch.full((40, 3), 7.0)
    errors = FrameErrors(error, error * moved, moved, torch.full((40, 3), 0.5))
    found, summary = errors.intervals(torch.arange(40)), errors.summary()
    for name in ("psnr", "psnr_mean_error", "psnr_moving"):
        low, high = found[name]
        assert low < summary[name] < high
    assert found["ssim"] == [0.5, 0.5]
    twice = FrameErrors.cat([errors, errors]).intervals(torch.arange(40).repeat(2))
    assert twice["psnr"] == pytest.approx(found["psnr"])
    assert all(math.isnan(limit) for limit in errors.intervals(torch.zeros(40).long())["psnr"])
