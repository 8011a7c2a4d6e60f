import numpy as np
import pytest
import square_game

from genie.agents.experts.nearest import Nearest
from genie.core.config import UserError
from genie.data.recording.environments import LevelRange, make_env_batch


def play(game, levels, steps, disturb=()):
    """Rewards of one game, in which moves at some steps are replaced by a step to the right."""
    games = make_env_batch(game, mode="easy", options={})(1, levels, 0)
    player, first, earned = Nearest(copies=8).attach(games), np.ones(1, bool), []
    right = games.action_names.index("right")
    for number in range(steps):
        chosen = player(games.observe(), first)
        step = games.step(np.array([right]) if number in disturb else chosen, np.zeros(1, bool))
        first = step.terminated
        earned.append(float(step.rewards[0]))
        if first.any():
            break
    games.close()
    return earned


def test_it_takes_the_shortest_way_to_each_reward():
    pytest.importorskip("procgen")
    earned = play("procgen:miner", LevelRange(4, 1), 60)
    assert earned[-1] == 10  # the exit, which opens when all diamonds are taken
    assert sum(earned) > 10


def test_it_finds_another_way_after_a_move_that_was_not_its_own():
    pytest.importorskip("procgen")
    assert play("procgen:maze", LevelRange(1, 1), 60, disturb=(1, 3))[-1] == 10


def test_games_without_saved_states_are_refused():
    square_game.register()
    games = make_env_batch(square_game.SQUARE, mode="easy", options={})(1, LevelRange(0, 1), 0)
    with pytest.raises(UserError, match="nearest plays games of Procgen only"):
        Nearest().attach(games)
