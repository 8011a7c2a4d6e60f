import numpy as np
import pytest

from genie.agents.planning.procgen_states import agent_position
from genie.data.recording.environments import LevelRange, make_env_batch


@pytest.mark.parametrize("game", ["coinrun", "miner"])
def test_positions_follow_the_agent_in_cells(game):
    games = make_env_batch(f"procgen:{game}", mode="easy", options={})(2, LevelRange(5, 50), 3)
    try:
        right, left = (games.action_names.index(name) for name in ("right", "left"))
        places = [[agent_position(state) for state in games.save()]]
        for action in [right] * 3 + [left] * 3:
            games.step(np.full(2, action), np.zeros(2, bool))
            places.append([agent_position(state) for state in games.save()])
        moved = np.diff(places, axis=0)
        assert (moved[:3, :, 0] >= 0).all()
        assert (moved[:3, :, 0].sum(0) > 0.4).any()
        assert (np.abs(moved) <= 1).all()
        if game == "miner":  # an agent of the grid goes back a cell at a time
            assert (np.array(places) % 1 == 0.5).all()
            assert (moved[3:, :, 0] <= 0).all()
    finally:
        games.close()
