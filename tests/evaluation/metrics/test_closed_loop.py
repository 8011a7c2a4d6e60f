from contextlib import contextmanager

import numpy as np
import pytest
import torch

from genie.evaluation.metrics.closed_loop import (
    CLOSED_LOOP,
    MIN_HOLD,
    REAL_GAMES,
    closed_loop,
    find_held_stretches,
    follows_action,
    measure_stretches,
    select_actions,
)
from genie.evaluation.metrics.context import Skipped

SIZES = {
    "closed_loop_games": 30, "action_selection_games": 5, "closed_loop_steps": 6, "batch": 8,
}  # fmt: skip


@pytest.fixture
def loop(game, evaluation, classifier):
    """Holds actions for six steps; returns the section, and what was shown of the progress."""

    def measure(world, store):
        asked, ticks = evaluation(world, store, classifier, **SIZES), []

        @contextmanager
        def bars(name, total):
            yield lambda: ticks.append(total)

        asked.bars = bars
        return closed_loop(asked), len(ticks), ticks[0]

    return measure


def test_a_world_that_obeys_goes_every_way(game, loop, classifier):
    found, ticks, most = loop(game.world(), game.store(episodes=40))
    assert found["mean"]["share"] == 1
    assert [line["action"] for line in found["actions"].values()] == [0, 1, 2, 3]
    assert list(found["actions"]) == classifier.group_names
    # One random button in four is the right one.
    assert found["mean"]["chance"] == pytest.approx(0.25, abs=0.15)
    # Every button stands for an action, so random ones were all held before.
    assert ticks == most - 6 * 4


def test_buttons_of_a_world_that_ignores_them_do_as_random_ones_do(game, loop):
    world = game.world(obeys=False, noise=True)
    found, *_ = loop(world, game.store(episodes=40))
    assert found["mean"]["share"] == pytest.approx(found["mean"]["chance"], abs=0.1)
    assert found["mean"]["share"] < 0.4


def test_the_real_game_is_read_over_stretches_in_which_an_action_was_held(
    game, evaluation, classifier
):
    store = game.store(episodes=40)
    held = np.repeat(np.arange(40) % 4, 40).reshape(40, 40)
    store.labels = lambda split=None: held.flatten()
    starts, length = find_held_stretches(store, classifier, "val", 16)
    # Twenty held-out episodes of 39 steps; actions 1 and 3 were held in the odd, held-out ones.
    assert length == 16
    assert [len(part) for part in starts] == [0, 20, 0, 20]
    read = measure_stretches(evaluation(store=store), starts[1], 16, classifier.predict)
    assert torch.equal(read[0], store.true[1, :16])
    assert torch.equal(read[1], store.true[1, 16:32])


def test_held_out_actions_that_are_unknown_lose_only_the_real_game(game, evaluation, classifier):
    store = game.store()
    known = store.labels().reshape(12, 40)
    known[1::2] = -1
    store.labels = lambda split=None: known.flatten()
    found = closed_loop(evaluation(store=store, classifier=classifier))
    assert found["mean"]["share"] > 0.9
    assert found["mean"]["real"] is None
    assert CLOSED_LOOP.headlines_of(found) == []


def test_without_the_network_nothing_is_read(evaluation):
    with pytest.raises(Skipped, match="inverse_dynamics_steps: 0"):
        closed_loop(evaluation())


def test_without_a_training_split_no_action_can_be_selected(game, evaluation, classifier):
    store = game.store()
    for episode in store.episodes:
        episode.split = "val"
    with pytest.raises(Skipped, match="no 'train' split"):
        closed_loop(evaluation(store=store, classifier=classifier))


def test_shorter_stretches_where_there_are_too_few_long_ones(game, classifier):
    store = game.store(episodes=60)
    held = np.repeat(np.arange(240) % 5, 10).reshape(60, 40)
    store.labels = lambda split=None: held.flatten()
    starts, length = find_held_stretches(store, classifier, "val", 16)
    assert length == 9  # the last step of an episode has no action
    merged = classifier.merge(torch.from_numpy(held)).flatten().numpy()
    for action, firsts in enumerate(starts):
        assert len(firsts) >= REAL_GAMES
        for first in firsts:
            assert (merged[first : first + length] == action).all()
            assert first % 40 + length <= 39
            assert first // 40 % 2 == 1


def test_where_no_action_is_held_there_is_no_real_game(game, loop):
    store = game.store()
    store.labels = lambda split=None: np.full(len(store.frames), -1)
    found, *_ = loop(game.world(), store)
    assert found["real_steps"] == MIN_HOLD
    assert found["mean"]["share"] == 1
    assert found["mean"]["real"] is None
    assert found["mean"]["relative"] is None


def test_relative_is_our_share_over_the_real_one(game, loop):
    store = game.store(episodes=40)
    held = np.repeat(np.arange(160) % 4, 10).reshape(40, 40)
    store.labels = lambda split=None: held.flatten()
    # The labels say what is held, but the video shows random play.
    found, *_ = loop(game.world(), store)
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
    chosen = select_actions(
        read,
        lambda kept: follows_action(kept, 3),
        prefer=lambda kept: 1e-3 * torch.nn.functional.one_hot(kept, 3).float().mean((0, 1)),
    )
    assert chosen == [0, 1, 2]
