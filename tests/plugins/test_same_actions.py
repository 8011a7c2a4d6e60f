import pytest
import torch

from genie.plugins.same_actions import GameTest, distances, merge


def frames_of(levels, noise=4.0, prompts=24, repeats=2):
    """Games of actions that make frames of these grey levels, with noise, from each prompt."""
    generator = torch.Generator().manual_seed(0)
    shape = (prompts, len(levels), repeats, 3, 8, 8, 3)
    grey = torch.tensor(levels, dtype=torch.float32)[:, None, None, None, None, None]
    frames = 100 + grey + noise * torch.randn(shape, generator=generator)
    return frames.round().clamp(0, 255).to(torch.uint8)


def game_test(frames):
    generator = torch.Generator().manual_seed(0)
    between = distances(frames.flatten(1, 2))
    return GameTest(between, frames.shape[2], 199, generator)


def test_distances_are_grey_levels_between_games_of_one_prompt():
    frames = torch.zeros(2, 3, 4, 20, 20, 3, dtype=torch.uint8)
    frames[1, 2] = 10
    found = distances(frames)
    assert found.shape == (2, 3, 3)
    assert found[0].abs().max() == 0
    torch.testing.assert_close(found[1], torch.tensor([[0.0, 0, 10], [0, 0, 10], [10, 10, 0]]))


def test_actions_that_do_the_same_are_not_told_apart_and_others_are():
    apart, same = game_test(frames_of([0, 0, 20])).pairs(3)
    assert apart[0, 1] == pytest.approx(0.5, abs=0.15)
    assert (apart[0, 2], apart[1, 2]) == (1, 1)
    assert torch.equal(apart, apart.mT)
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_games_too_few_to_be_sure_do_the_same():
    _, same = game_test(frames_of([0, 20], prompts=1)).pairs(2)
    assert same.all(), "two games of each may be apart by chance"


def test_an_action_is_distinct_if_it_is_told_from_a_random_other_one():
    test = game_test(frames_of([0, 0, 0, 30]))
    assert test.rest(3, 4) == (1.0, True)
    told, distinct = game_test(frames_of([0, 0, 0, 0])).rest(0, 4)
    assert told == pytest.approx(0.5, abs=0.1)
    assert not distinct


def test_frames_that_never_differ_are_chance():
    apart, same = game_test(frames_of([0, 0], noise=0)).pairs(2)
    assert (apart == 0.5).all()
    assert same.all()


def test_groups_are_joined_only_if_all_of_their_actions_do_the_same():
    apart = torch.tensor([[0.5, 0.52, 0.9], [0.52, 0.5, 0.6], [0.9, 0.6, 0.5]])
    same = apart < 0.7
    assert merge(apart, same) == [[0, 1], [2]], "1 is like 0 and like 2, but 0 is not like 2"
    assert merge(apart, torch.eye(3, dtype=torch.bool)) == [[0], [1], [2]]
    assert merge(apart, torch.ones(3, 3, dtype=torch.bool)) == [[0, 1, 2]]
