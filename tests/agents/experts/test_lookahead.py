import numpy as np
import pytest
import square_game

from genie.agents.experts.lookahead import LookAhead, plans
from genie.core.config import UserError
from genie.data.recording.environments import LevelRange, make_env_batch

NAMES = ["left+down", "left", "left+up", "down", "noop", "up", "right+down", "right", "right+up"]


def test_plans_hold_an_action_and_then_run_to_the_right():
    found = plans(LookAhead(horizon=6, holds=(2, 4)), NAMES)
    assert found.shape == (22, 6)
    assert len(np.unique(found, axis=0)) == 22
    assert [2, 2, 8, 8, 8, 8] in found.tolist()


def test_it_reaches_the_coin():
    pytest.importorskip("procgen")
    games = make_env_batch("procgen:coinrun", mode="easy", options={})(1, LevelRange(3, 1), 0)
    player, first = LookAhead(copies=22).attach(games), np.ones(1, bool)
    for _ in range(120):
        step = games.step(player(games.observe(), first), np.zeros(1, bool))
        first = step.terminated
        if first.any():
            break
    games.close()
    assert step.rewards == [10]


def test_games_without_saved_states_are_refused():
    square_game.register()
    games = make_env_batch(square_game.SQUARE, mode="easy", options={})(1, LevelRange(0, 1), 0)
    with pytest.raises(UserError, match="lookahead plays procgen:coinrun only"):
        LookAhead().attach(games)
