import pytest
import torch

from genie.agents.planning.search import SearchConfig, refit, search
from genie.core.config import UserError

WANTED = torch.tensor([3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 0, 7])


def right_steps(plans):
    return (plans == WANTED[: plans.shape[1]]).float().sum(1)


def mean_score(config, goals=20):
    found = [
        search(right_steps, 8, config, torch.Generator().manual_seed(seed)) for seed in range(goals)
    ]
    return sum(plan.score for plan in found) / goals


def test_fitting_to_the_best_plans_beats_as_many_random_ones():
    config = SearchConfig(iterations=6, samples=50, elites=5, horizon=12)
    assert mean_score(config) > mean_score(config.shooting()) + 2


def test_the_best_plan_of_all_iterations_is_kept_with_its_own_score():
    asked = []

    def score(plans):
        asked.append(plans)
        return right_steps(plans) - 100 * (len(asked) > 1)

    plan = search(score, 8, SearchConfig(horizon=12), torch.Generator().manual_seed(1))
    assert [len(plans) for plans in asked] == [100, 100]
    assert plan.score == right_steps(asked[0]).max()
    assert right_steps(plan.actions[None]) == plan.score


def test_random_shooting_tries_as_many_plans_evenly():
    asked = []

    def score(plans):
        asked.append(plans)
        return right_steps(plans)

    config = SearchConfig(horizon=12).shooting()
    search(score, 8, config, torch.Generator().manual_seed(0))
    assert [plans.shape for plans in asked] == [(200, 12)]
    assert (torch.bincount(asked[0].flatten(), minlength=8) - 300).abs().max() < 70


def test_actions_are_held_and_the_last_is_cut_off():
    config = SearchConfig(horizon=8, hold=3, elites=1, samples=4)
    plan = search(lambda plans: plans[:, 0] * 1.0, 8, config, torch.Generator().manual_seed(0))
    assert plan.actions.shape == (8,)
    for first in (0, 3, 6):
        assert len(plan.actions[first : first + 3].unique()) == 1
    assert config.within(5).horizon == 5
    assert config.within(20).horizon == 8


def test_a_distribution_is_fitted_to_the_elites_and_nothing_becomes_impossible():
    elites = torch.tensor([[0, 2], [0, 1], [0, 1]])
    found = refit(elites, 4, smoothing=1.0)
    assert torch.allclose(found.sum(1), torch.ones(2))
    assert torch.allclose(found[0], torch.tensor([3.25, 0.25, 0.25, 0.25]) / 4)
    assert torch.allclose(found[1], torch.tensor([0.25, 2.25, 1.25, 0.25]) / 4)
    assert torch.equal(refit(elites, 4, 0.0)[0], torch.tensor([1.0, 0, 0, 0]))


def test_sizes_that_search_nothing_are_refused():
    with pytest.raises(UserError, match="elites: 11, but there are only 10 samples"):
        SearchConfig(samples=10, elites=11)
    with pytest.raises(UserError, match="hold: must be at least 1"):
        SearchConfig(hold=0)
