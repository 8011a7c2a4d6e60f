import numpy as np
import pytest

from genie.agents.planning.goals import GoalConfig, make_goals
from genie.core.config import UserError


def test_a_goal_is_what_the_game_showed_some_steps_after_its_start(maze_goals):
    config, goals = maze_goals
    assert len(goals) == len({goal.level for goal in goals}) == config.goals
    for goal in goals:
        assert goal.start.frames.shape == (3, 64, 64, 3)
        assert goal.level in range(1_000_000, 1_010_000)
        assert goal.distance >= config.min_distance
        # An agent of a maze moves by one cell.
        assert goal.distance <= config.steps
        assert goal.distance_from(goal.state) == 0
    games = config.games(config.goals)
    try:
        games.restore([goal.start.state for goal in goals])
        now = [goal.start.frames[-1] for goal in goals]
        assert (games.observe() == np.stack(now)).all()
        assert games.levels == [goal.level for goal in goals]
        games.restore([goal.state for goal in goals])
        assert (games.observe() == np.stack([goal.picture for goal in goals])).all()
    finally:
        games.close()


def test_more_goals_of_a_seed_begin_with_the_same_ones(maze_goals):
    config, goals = maze_goals
    fewer = make_goals(GoalConfig(**vars(config) | {"goals": 2}), history=3)
    assert [goal.state for goal in fewer] == [goal.state for goal in goals[:2]]


def test_goals_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"only 0 of 3 goals .* 60 cells .* lower min_distance"):
        make_goals(
            GoalConfig("procgen:maze", goals=3, min_distance=60, before=1, steps=1, num_envs=1), 1
        )
    with pytest.raises(UserError, match="planning needs a game whose states can be saved"):
        GoalConfig("gym:CartPole-v1")
    with pytest.raises(UserError, match="tolerance: must be above 0 and at most min_distance"):
        GoalConfig(tolerance=3)
