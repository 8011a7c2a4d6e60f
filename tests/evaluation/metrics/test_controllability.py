import numpy as np
import pytest
import torch

from genie.evaluation.metrics import controllability
from genie.evaluation.metrics.controllability import (
    ACTIONS,
    ActionFollowing,
    closed_loop,
    find_held_stretches,
    follows_action,
    real_held_actions,
    select_actions,
)
from genie.evaluation.metrics.sections import rollout_conditions
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import random_actions

NAMES = ["stay", "right", "left", "down"]


def loop(world, store, classifier):
    ticks, measures = [], {ACTIONS: classifier.predict}
    held = HeldActionGames(world, store, measures, prompt_frames=1, steps=6, seed=0, batch=8)
    found = closed_loop(
        held, classifier, split="val", games=30, choosing_games=5, on_step=lambda: ticks.append(1)
    )
    return found, len(ticks), held.max_steps(30, 5, len(classifier.groups))


def test_a_world_that_obeys_goes_every_way(game, classifier):
    found, ticks, most = loop(game.world(), game.store(episodes=40), classifier)
    assert found["mean"]["share"] == 1
    assert [line["action"] for line in found["actions"].values()] == [0, 1, 2, 3]
    assert list(found["actions"]) == classifier.group_names
    # One random button in four is the right one.
    assert found["mean"]["chance"] == pytest.approx(0.25, abs=0.15)
    # Every button stands for an action, so random ones were all held before.
    assert ticks == most - 6 * 4


def test_buttons_of_a_world_that_ignores_them_do_as_random_ones_do(game, classifier):
    world = game.world(obeys=False, noise=True)
    found, *_ = loop(world, game.store(episodes=40), classifier)
    assert found["mean"]["share"] == pytest.approx(found["mean"]["chance"], abs=0.1)
    assert found["mean"]["share"] < 0.4


def test_the_real_game_is_read_over_stretches_in_which_an_action_was_held(game, classifier):
    store = game.store(episodes=40)
    held = np.repeat(np.arange(40) % 4, 40).reshape(40, 40)
    store.labels = lambda split=None: held.flatten()
    length, real = real_held_actions(store, classifier, "val", 16, 3)
    # Twenty held-out episodes of 39 steps; actions 1 and 3 were held in the odd, held-out ones.
    assert length == 16
    assert [len(part) for part in real] == [0, 20, 0, 20]
    assert torch.equal(real[1][0], store.true[1, :16])
    assert torch.equal(real[1][1], store.true[1, 16:32])


def test_shorter_stretches_where_there_are_too_few_long_ones(game, classifier):
    store = game.store(episodes=60)
    held = np.repeat(np.arange(240) % 5, 10).reshape(60, 40)
    store.labels = lambda split=None: held.flatten()
    starts, length = find_held_stretches(store, classifier, "val", 16)
    assert length == 9  # the last step of an episode has no action
    merged = classifier.merge(torch.from_numpy(held)).flatten().numpy()
    for action, firsts in enumerate(starts):
        assert len(firsts) >= controllability.REAL_GAMES
        for first in firsts:
            assert (merged[first : first + length] == action).all()
            assert first % 40 + length <= 39
            assert first // 40 % 2 == 1


def test_where_no_action_is_held_there_is_no_real_game(game, classifier):
    store = game.store()
    store.labels = lambda split=None: np.full(len(store.frames), -1)
    found, *_ = loop(game.world(), store, classifier)
    assert found["real_steps"] == controllability.MIN_HOLD
    assert found["mean"]["share"] == 1
    assert found["mean"]["real"] is None
    assert found["mean"]["relative"] is None


def test_relative_is_our_share_over_the_real_one(game, classifier):
    store = game.store(episodes=40)
    held = np.repeat(np.arange(160) % 4, 10).reshape(40, 40)
    store.labels = lambda split=None: held.flatten()
    # The labels say what is held, but the video shows random play.
    found, *_ = loop(game.world(), store, classifier)
    for line in found["actions"].values():
        assert 0 < line["real"] < 1
        assert line["relative"] == pytest.approx(1 / line["real"])


def test_a_game_goes_the_way_of_what_is_read_most():
    read = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1], [2, 2, 2, 2]])
    assert follows_action(read, 3).tolist() == [
        [False, True, False], [False, False, False], [False, False, True],
    ]  # fmt: skip


def test_the_button_after_which_most_games_go_the_way():
    read = torch.zeros(3, 4, 5, dtype=torch.long)
    read[1] = 1
    read[2, :2] = 1
    # Nobody goes the way of 2, but the last button shows it now and then.
    read[2, 2, 0] = 2
    assert select_actions(read, 3) == [0, 1, 2]


@pytest.fixture
def following(game, classifier):
    store = game.store()
    frames = torch.from_numpy(store.frames.reshape(12, 40, 16, 16, 3)[:, :9].copy())
    return lambda world: ActionFollowing(world, classifier, store.true[:, 1:7], 2), frames


def watched(found, world, frames):
    for first in (0, 5):
        batch = frames[first : first + 5]
        found.update(batch, rollout_conditions(world, batch, 2, 0, first))
    return found.compute()


def test_true_actions_are_read_back_from_a_world_that_obeys(game, following):
    make, frames = following
    found = make(game.world())
    found.true = found.true[:10]
    result = watched(found, game.world(), frames[:10])
    assert result["inferred"]["macro_f1"] == result["real"]["macro_f1"] == 1
    assert result["reconstruction"]["accuracy"] == 1
    assert result["majority"]["accuracy"] < 0.5
    drawn = random_actions(4, 10, 7, 0)[:, :6]
    right = (drawn == found.true).float().mean().item()
    assert result["random"]["accuracy"] == pytest.approx(right)
    assert result["transitions"] == 60
    assert result["actions"][0] == "stay/nothing"


def test_a_world_that_ignores_its_buttons_shows_other_actions(game, following):
    make, frames = following
    world = game.world(obeys=False, noise=True)
    found = make(world)
    found.true = found.true[:10]
    found.true[0, 0] = -1
    result = watched(found, world, frames[:10])
    assert result["transitions"] == 59
    assert result["inferred"]["accuracy"] < 0.5
    assert result["inferred"]["confusion"] == result["random"]["confusion"]
    assert result["real"]["accuracy"] == 1
