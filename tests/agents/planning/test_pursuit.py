import numpy as np
import pytest

from genie.agents.planning.pursuit import PursuitConfig, play_randomly, pursue
from genie.agents.planning.search import SearchConfig
from genie.agents.planning.simulators import RealSimulator
from genie.core.config import UserError

MOVES = ("left", "right", "up", "down")


@pytest.fixture(scope="module")
def games(maze_goals):
    config, _ = maze_goals
    made = {count: config.games(count) for count in (1, 16)}
    yield made
    for each in made.values():
        each.close()


def actions_of(games):
    return [games.action_names.index(name) for name in MOVES]


class Scripted:
    """Plans the moves that it was told, whatever the goal is, and counts its calls."""

    def __init__(self, moves, actions):
        self.moves, self.actions, self.choices, self.seen = moves, actions, 4, []

    def score(self, situation, goal, plans, seed):
        self.seen.append((situation, plans.shape))
        return (plans == plans.new_tensor(self.moves[: plans.shape[1]])).float().sum(1)

    def real_action(self, frame, choice):
        return self.actions[choice]


def test_planning_in_the_real_game_reaches_what_random_play_misses(maze_goals, games):
    _, goals = maze_goals
    simulator = RealSimulator(games[16], actions_of(games[1]))
    config = PursuitConfig(SearchConfig(3, 48, 6, horizon=8), executed=4, limit=12)
    planned = [pursue(goal, simulator, games[1], config, seed=3) for goal in goals]
    played = [play_randomly(goal, games[16], actions_of(games[1]), 12, 3) for goal in goals]
    assert [outcome.reached for outcome in planned] == [1, 1, 1]
    assert all(outcome.nearest == 0 for outcome in planned)
    assert np.mean([outcome.reached for outcome in played]) < 0.7
    for outcome, goal in zip(played, goals, strict=True):
        assert 0 < outcome.nearest < goal.distance


def test_some_steps_of_a_plan_are_acted_before_the_next_and_no_step_after_the_limit(
    maze_goals, games
):
    _, goals = maze_goals
    left = Scripted([0] * 8, actions_of(games[1]))
    config = PursuitConfig(SearchConfig(horizon=8, samples=4, elites=1), executed=3, limit=7)
    outcome = pursue(goals[0], left, games[1], config, seed=0)
    shapes = [shape for _, shape in left.seen]
    assert shapes == [(4, 7)] * 2 + [(4, 4)] * 2 + [(4, 1)] * 2
    first, last = left.seen[0][0], left.seen[-1][0]
    assert first.state == goals[0].start.state
    assert (first.frames == goals[0].start.frames).all()
    assert last.frames.shape == first.frames.shape
    assert outcome.reached in (0, 1)


def test_a_goal_that_is_passed_counts_though_the_agent_goes_on(maze_goals, games):
    """Random play always takes all its steps."""
    _, goals = maze_goals
    goal = goals[0]
    there = [play_randomly(goal, games[16], actions_of(games[1]), limit, 5) for limit in (4, 60)]
    assert there[0].reached <= there[1].reached
    assert there[0].nearest >= there[1].nearest
    assert there[1].reached > 0


def test_a_pursuit_acts_at_least_one_step():
    with pytest.raises(UserError, match="executed: must be at least 1"):
        PursuitConfig(executed=0)
