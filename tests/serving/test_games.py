import io

import numpy as np
import pytest
from PIL import Image

from genie.serving.games import Act, Begin, Games


def dot(drawn):
    """Row and column of the dot in a drawn picture."""
    picture = np.asarray(Image.open(io.BytesIO(drawn.picture[1])).convert("L"))
    return tuple(int(i) for i in np.unravel_index(picture.argmax(), picture.shape))


@pytest.fixture
def games(dot_world, dot_prompts):
    return Games(dot_world, dot_prompts)


def test_a_game_begins_at_its_prompt_and_follows_its_actions(games):
    assert dot(games.advance({7: Begin(0, seed=1)})[7]) == (12, 12)
    assert dot(games.advance({7: Act(1)})[7]) == (12, 13)
    assert dot(games.advance({7: Act(2)})[7]) == (11, 13)


def test_everyone_is_stepped_in_one_batch(games, dot_world):
    games.advance({i: Begin(i % 2, seed=i) for i in range(4)})
    drawn = games.advance({i: Act(i) for i in range(4)})
    assert [dot(drawn[i]) for i in range(4)] == [(12, 11), (3, 4), (11, 12), (4, 3)]
    assert dot_world.batches == [4]


def test_joining_leaving_and_pausing_leave_the_others_alone(games):
    games.advance({1: Begin(0, seed=0), 2: Begin(1, seed=0)})
    games.advance({1: Act(1), 2: Act(3)})
    games.advance({1: Act(1)})
    games.advance({1: Act(1), 3: Begin(1, seed=5)})
    drawn = games.advance({3: Act(1), 2: Act(3), 1: Act(1)})
    assert [dot(drawn[i]) for i in (1, 2, 3)] == [(12, 16), (5, 3), (3, 4)]
    games.forget([2])
    assert dot(games.advance({1: Act(1)})[1]) == (12, 17)


def test_beginning_anew_forgets_the_old_game(games):
    games.advance({1: Begin(0, seed=0), 2: Begin(0, seed=0)})
    games.advance({1: Act(1), 2: Act(1)})
    assert dot(games.advance({1: Begin(0, seed=0), 2: Act(1)})[1]) == (12, 12)
    drawn = games.advance({1: Act(1), 2: Act(1)})
    assert (dot(drawn[1]), dot(drawn[2])) == ((12, 13), (12, 15))


def test_forgetting_leaves_nothing_behind(games):
    games.advance({i: Begin(0, seed=0) for i in range(3)})
    games.advance({i: Act(0) for i in range(3)})
    games.forget([0, 1, 2, 99])
    assert (games._alone, games._members, games._batch) == ({}, (), None)
