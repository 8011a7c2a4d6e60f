import math

import pytest
import torch

from genie.evaluation.metrics import frechet
from genie.evaluation.metrics.frechet import (
    Moments,
    compare_features,
    features_of_rollouts,
    frechet_distance,
)
from genie.models.external_networks import Pixels


def test_equal_distributions_are_at_distance_zero():
    rows = torch.randn(50, 8)
    moments = Moments.from_features(rows)
    assert moments.distance(moments) == pytest.approx(0, abs=1e-6)
    few = Moments.from_features(rows[:4])  # a covariance without an inverse
    assert few.distance(few) == pytest.approx(0, abs=1e-6)


def test_normal_distributions_by_hand():
    mean, other = torch.zeros(2), torch.tensor([3.0, 4.0])
    a, b = torch.diag(torch.tensor([1.0, 9.0])), torch.diag(torch.tensor([4.0, 1.0]))
    # Where axes agree it is the distance of means and of standard deviations, squared.
    assert frechet_distance(mean, a, other, b) == pytest.approx(25 + (1 - 2) ** 2 + (3 - 1) ** 2)


def test_covariances_that_do_not_commute():
    torch.manual_seed(1)
    a, b = (x @ x.T for x in torch.randn(2, 5, 7).double())
    zero = torch.zeros(5).double()
    shared = torch.linalg.eigvals(a @ b).sqrt().sum().real
    expected = (a.trace() + b.trace() - 2 * shared).item()
    assert frechet_distance(zero, a, zero, b) == pytest.approx(expected)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(expected)


def test_moments_are_those_of_the_features():
    rows = torch.randn(30, 4).double()
    mean, covariance = Moments.from_features(rows[None])._normal()
    assert torch.allclose(mean, rows.mean(0))
    assert torch.allclose(covariance, rows.T.cov())
    rest = Moments.from_features(rows) - Moments.from_features(rows[:10])
    assert rest.distance(Moments.from_features(rows[10:])) == pytest.approx(0, abs=1e-6)
    assert math.isnan(Moments.from_features(rows[:1]).distance(Moments.from_features(rows)))


def test_the_floor_is_low_for_parts_alike_and_high_for_parts_that_differ():
    alike = list(torch.randn(40, 16, 3))
    apart = [part + 10 * (i % 2) for i, part in enumerate(alike)]
    low, count = frechet.real_data_distance(alike, 8, seed=0)
    assert 0 < low < 0.2
    assert count == 8
    assert frechet.real_data_distance(apart, 2, seed=0)[0] > 10 * low
    assert frechet.real_data_distance(alike[:6], 8, seed=0)[1] == 3
    assert math.isnan(frechet.real_data_distance(alike[:1], 8, seed=0)[0])


def test_distance_of_the_real_frames_themselves_is_zero():
    frames = torch.randint(256, (6, 5, 16, 16, 3), dtype=torch.uint8)
    measure = features_of_rollouts(Pixels(), 1)
    kept = [
        measure(part, {"same": part[:, 1:], "dark": part[:, 1:] // 2}) for part in frames.split(4)
    ]
    features = {side: torch.cat([part[side] for part in kept]) for side in kept[0]}
    found = compare_features(features, "pixels-8x8", seed=0)
    assert found["samples"] == 24
    assert found["distance"]["same"] == pytest.approx(0, abs=1e-6)
    assert found["distance"]["dark"] > found["real_halves"] > 0
    assert (found["extractor"], found["dimensions"]) == ("pixels-8x8", 192)
