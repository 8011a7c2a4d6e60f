import torch

from genie.models.layers.kmeans import (
    cluster_sums,
    distortion,
    kmeans,
    kmeans_plus_plus,
    lloyd,
    nearest,
)


def points(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(200, 5, generator=generator)


def test_the_nearest_centre_is_that_of_the_least_distance():
    centres = points(1)[:9]
    assert torch.equal(nearest(points(), centres), torch.cdist(points(), centres).argmin(1))


def test_cluster_sums_by_hand():
    counts, sums = cluster_sums(
        torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([2, 0, 2]), 3
    )
    assert counts.tolist() == [1, 0, 2]
    assert sums.tolist() == [[3, 4], [0, 0], [6, 8]]


def test_every_round_brings_centres_nearer():
    start = points()[:6]
    left = [distortion(points(), lloyd(points(), start, rounds)) for rounds in (0, 1, 5, 50)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.9 * left[0]
    best = lloyd(points(), start, 50)
    means = [points()[nearest(points(), best) == i].mean(0) for i in range(6)]
    torch.testing.assert_close(best, torch.stack(means))


def test_fixed_centres_and_those_that_nothing_is_near_stay():
    start = torch.cat([points()[:3], torch.full((1, 5), 100.0)])
    found = lloyd(points(), start, 5, fixed=2)
    assert torch.equal(found[[0, 1, 3]], start[[0, 1, 3]])
    assert not torch.equal(found[2], start[2])


def test_what_is_far_from_all_centres_is_added():
    corners = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    crowd = torch.cat([corners[:1].expand(500, 2), corners])
    for seed in range(5):
        found = kmeans_plus_plus(crowd, corners[:1], 4, torch.Generator().manual_seed(seed))
        assert torch.equal(found[0], corners[0])
        assert sorted(found.tolist()) == sorted(corners.tolist())


def test_more_centres_than_there_are_different_points():
    found = lloyd(torch.ones(2, 3), kmeans_plus_plus(torch.ones(2, 3), torch.ones(1, 3), 5), 3)
    assert torch.equal(found, torch.ones(5, 3))
    assert distortion(torch.ones(2, 3), found) == 0


def test_the_best_start_is_taken():
    starts = [points()[:6], points()[6:12], points()[12:18]]
    left = [distortion(points(), lloyd(points(), start, 3)) for start in starts]
    several = iter(starts)
    found = kmeans(points(), lambda: next(several), iterations=3, starts=3)
    assert distortion(points(), found) == min(left) < max(left)
