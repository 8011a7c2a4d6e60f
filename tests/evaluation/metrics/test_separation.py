import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.evaluation.config import SeparationConfig
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.separation import (
    HELD_ACTIONS,
    SEPARATION,
    action_effects,
    frame_distance,
    separation,
)
from genie.evaluation.protocol.rollouts import RolloutPlayer


def noise(states=40, actions=4, repeats=4):
    return torch.randint(256, (states, actions, repeats, 2, 2, 3), dtype=torch.uint8)


def test_frames_that_ignore_their_actions_have_uniform_p():
    own = [separation(noise(states=1), 99, seed)["p"] for seed in range(60)]
    assert 0.35 < np.mean(own) < 0.65
    assert np.mean(np.array(own) < 0.2) == pytest.approx(0.2, abs=0.15)
    found = separation(noise(), 199)
    assert found["ratio"] == pytest.approx(1, abs=0.25)
    assert found["ratio"] < 1.1 * found["null_95"]
    assert found["share_separated"] < 0.2


def test_frames_that_differ_by_action_stand_out():
    frames = noise() // 4
    frames += (40 * torch.arange(4)[:, None, None, None, None]).to(torch.uint8)
    found = separation(frames, 199)
    assert found["p"] == 1 / 200
    assert found["share_separated"] == 1
    assert found["ratio"] > 3 > found["null_95"]
    assert 0.5 < found["explained"] < 1


def test_the_ratio_by_hand():
    frames = torch.tensor([[0, 2], [4, 10]], dtype=torch.uint8)[None, :, :, None, None, None]
    # Means 1 and 7 around 4: between 4 * 3**2 = 36 with one degree of freedom; within
    # 2 * 1**2 + 2 * 3**2 = 20 with two.
    assert separation(frames, 19)["ratio"] == pytest.approx(36 / 10)
    assert separation(frames, 19)["explained"] == pytest.approx(36 / 56)


def test_a_world_without_chance_and_one_that_stands_still():
    obeys = torch.zeros(3, 4, 4, 2, 2, 3, dtype=torch.uint8)
    still = separation(obeys, 199)
    assert (still["ratio"], still["p"], still["explained"]) == (1, 1, 0)
    obeys += torch.arange(4, dtype=torch.uint8)[:, None, None, None, None]
    found = separation(obeys, 199)
    assert found["ratio"] > 1e3
    assert found["p"] == 1 / 200


@pytest.mark.parametrize("obeys", [True, False])
def test_worlds_that_obey_and_that_do_not(game, obeys):
    prompts = game.draw(torch.arange(12))[:, None]
    world = game.world(obeys=obeys, noise=not obeys)
    frames = RolloutPlayer(world, batch=50).hold_all(prompts, repeats=4, seed=0)[:, :, :, 0]
    assert frames.shape == (12, 4, 4, 16, 16, 3)
    found = separation(frames, 99)
    assert (found["p"] <= 0.02) == obeys
    again = RolloutPlayer(world, batch=7).hold_all(prompts, repeats=4, seed=0)
    assert torch.equal(frames, again[:, :, :, 0])


def test_each_press_has_noise_of_its_own(game):
    world = game.world(obeys=False, noise=True)
    prompt = game.draw(torch.tensor([5]))[:, None]
    cells = game.look(RolloutPlayer(world, batch=64).hold_all(prompt, 8, seed=0))[0]
    assert len(cells.unique(dim=0)) > 1
    assert len(cells.flatten().unique()) > 2


def test_settings_that_test_nothing():
    with pytest.raises(UserError, match="repeats: must be at least 2"):
        SeparationConfig(repeats=1)


def held(by_action, by_seed):
    """Frames (1, A, 2, 1, 2, 2, 3) whose grey is the sum of one number per action and per seed."""
    grey = torch.tensor(by_action)[:, None] + torch.tensor(by_seed)
    return grey[None, :, :, None, None, None, None].expand(-1, -1, -1, 1, 2, 2, 3).to(torch.uint8)


def effects(by_action, by_seed):
    return action_effects(held(by_action, by_seed), torch.zeros(1, 2, 2, 3, dtype=torch.uint8))


def test_unsigned_bytes_do_not_wrap_around():
    black, white = (torch.full((2, 2, 3), grey, dtype=torch.uint8) for grey in (0, 255))
    assert frame_distance(black, white).item() == 255


def test_buttons_that_do_nothing_are_as_far_apart_as_seeds():
    found = effects([50, 50, 50], [0, 9])
    assert (found["between_actions"], found["between_seeds"], found["ratio"]) == (9, 9, 1)


def test_buttons_that_do_nothing_without_chance():
    assert effects([50, 50], [0, 0])["ratio"] == 1


def test_buttons_that_do_something():
    found = effects([50, 150], [0, 10])
    assert found["distances"] == [[1, 11], [9, 1]]
    assert (found["between_actions"], found["between_seeds"], found["ratio"]) == (100, 10, 10)
    assert found["change_from_prompt"] == [55, 155]


def held_actions(game, **world):
    prompts = game.draw(torch.arange(16))[:, None]
    player = RolloutPlayer(game.world(**world), batch=64)
    held = player.hold_all(prompts, 2, seed=0, steps=2, same_noise=True)
    return action_effects(held, prompts[:, -1])


def test_held_actions_of_a_world_that_obeys(game):
    found = held_actions(game)
    assert found["ratio"] > 50
    assert found["stillest_action"] == 0
    assert found["change_from_prompt"][0] == 0
    assert np.shape(found["distances"]) == (4, 4)


def test_held_actions_of_a_world_that_ignores_them(game):
    assert held_actions(game, obeys=False, noise=True)["ratio"] == pytest.approx(1)


def test_held_actions_have_a_sheet_for_each_prompt_that_is_shown(evaluation):
    asked = evaluation(action_prompts=2, action_steps=3, figure_clips=1)
    found = HELD_ACTIONS.measure(asked)
    assert (found["prompts"], found["steps"]) == (2, 3)
    assert found["between_seeds"] == 0
    assert [figure.name for figure in asked.figures] == ["actions_1"]
    # A world that follows its actions stands still with the action "stay", and no other.
    assert found["stillest_action"] == 0


def test_states_may_be_left_out(evaluation):
    few = SeparationConfig(states=3, permutations=99)
    assert SEPARATION.measure(evaluation(separation=few))["p"] == 1 / 100
    with pytest.raises(Skipped, match="no state"):
        SEPARATION.measure(evaluation(separation=SeparationConfig(states=0)))


@pytest.mark.parametrize(
    ("ratio", "p", "share", "verdict"),
    [(5, 0.001, 0.9, "good"), (1.5, 0.01, 0.2, "fair"), (1.1, 0.2, 0.0, "poor")],
)
def test_separation_must_be_more_than_chance(ratio, p, share, verdict):
    part = {"ratio": ratio, "null_95": 1.2, "p": p, "share_separated": share}
    assert SEPARATION.headlines_of(part)[0]["verdict"] == verdict
