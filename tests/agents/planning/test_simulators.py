from dataclasses import replace

import numpy as np
import pytest
import torch

from genie.agents.planning.goals import Goal, Situation
from genie.agents.planning.similarity import similarity
from genie.agents.planning.simulators import Dream, NamedDream, RealSimulator
from genie.world.action_mapper import ActionMapper, MapperConfig
from genie.world.genie import Genie
from small import TINY


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    for weight in world.dynamics.parameters():  # a new world hardly follows its actions
        weight.data.add_(0.3 * torch.randn_like(weight))
    return world


@pytest.fixture(scope="module")
def mapper(world):
    mapper = ActionMapper(
        MapperConfig("dictionary", ("left", "right", "up"), world.config.num_actions, "", 60)
    )
    mapper.counts[0, 0], mapper.counts[1, 1], mapper.counts[0, 1] = 10, 6, 44
    return mapper


def goal_for(world):
    rng = np.random.default_rng(0)
    shape = (3, world.config.height, world.config.width, 3)
    frames = rng.integers(256, size=shape, dtype=np.uint8)
    return Goal(Situation(b"", frames), frames[0], b"", 1, 0.5)


def test_plans_score_as_if_each_were_played_alone_and_by_their_best_step(world, mapper):
    goal = goal_for(world)
    plans = torch.randint(world.config.num_actions, (5, 4))
    dream = Dream(world, mapper, replace(world.config.sampling, steps=1))
    found = dream.score(goal.start, goal, plans, seed=4)
    picture = torch.from_numpy(goal.picture)
    for plan, score in zip(plans, found, strict=True):
        played = world.generate(goal.start.frames, plan, seed=4, sampling=dream.sampling)[3:]
        assert torch.isclose(score, similarity(played, picture).max(), atol=1e-5)
    assert len(found.unique()) > 1


def test_a_plan_of_names_plays_their_latent_actions_and_acts_the_names(world, mapper):
    goal = goal_for(world)
    named, latent = (kind(world, mapper, world.config.sampling) for kind in (NamedDream, Dream))
    assert named.choices == 2  # "up" has no label
    plans = torch.tensor([[0, 1, 1], [1, 0, 1]])
    same = torch.tensor([mapper.to_latent(goal.picture, name) for name in ("left", "right")])[plans]
    found = named.score(goal.start, goal, plans, seed=1)
    assert torch.equal(found, latent.score(goal.start, goal, same, seed=1))
    assert [named.real_action(goal.picture, choice) for choice in (0, 1)] == [0, 1]


def test_a_latent_action_becomes_the_real_one_that_most_often_has_it(world, mapper):
    """Here "right" is the commonest action by far, but "left" always has latent action 0."""
    dream = Dream(world, mapper, world.config.sampling)
    assert mapper.to_real(goal_for(world).picture, 0) == 1
    assert [dream.real_action(goal_for(world).picture, latent) for latent in (0, 1)] == [0, 1]


def test_the_real_game_scores_plans_by_what_it_shows(maze_goals):
    config, goals = maze_goals
    games = config.games(4)
    try:
        actions = [games.action_names.index(name) for name in ("left", "right", "up", "down")]
        plans = torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(1))
        found = RealSimulator(games, actions).score(goals[0].start, goals[0], plans, seed=0)
        games.restore([goals[0].start.state] * 4)
        shown = []
        for choice in plans[5]:
            games.step(np.full(4, actions[choice]), np.zeros(4, bool))
            shown.append(games.observe()[0])
        near = similarity(torch.from_numpy(np.stack(shown)), torch.from_numpy(goals[0].picture))
        assert found.shape == (6,)
        assert torch.isclose(found[5], near.max())
    finally:
        games.close()
