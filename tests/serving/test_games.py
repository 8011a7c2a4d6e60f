import io

import numpy as np
import pytest
import torch
from PIL import Image

from genie.maskgit import SamplingConfig
from genie.serving.games import MARK_EVERY, Act, Begin, Fork, Games, Look, Peek, Rewind
from genie.world import Genie
from test_replay import TINY


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
    assert (games._games, games._alone, games._batches, games._dreams) == ({}, {}, [], {})


def test_players_with_other_sampling_step_apart_and_are_drawn_by_it(games, dot_world):
    slow = SamplingConfig(steps=20)
    games.advance({i: Begin(0, seed=0) for i in range(3)})
    for _ in range(2):
        drawn = games.advance({0: Act(1), 1: Act(1, slow), 2: Act(1)})
    assert [dot(drawn[i]) for i in range(3)] == [(12, 14)] * 3
    assert dot_world.batches == [2, 1, 2, 1]
    assert dot_world.samplings == [None, slow, None, slow]
    drawn = games.advance({i: Act(3, slow) for i in range(3)})
    assert dot_world.batches[4:] == [3]
    assert {dot(drawn[i]) for i in range(3)} == {(13, 14)}


def test_a_game_goes_back_to_its_nearest_mark_or_to_its_start(games):
    games.advance({1: Begin(0, seed=0), 2: Begin(1, seed=0)})
    for _ in range(MARK_EVERY + 3):
        last = games.advance({1: Act(1), 2: Act(3)})
    assert last[1].step == MARK_EVERY + 3
    back = games.advance({1: Rewind(MARK_EVERY + 2)})[1]
    assert (back.step, dot(back)) == (MARK_EVERY, (12, 12 + MARK_EVERY))
    assert games.advance({1: Rewind(MARK_EVERY + 2)})[1].step == MARK_EVERY
    back = games.advance({1: Rewind(MARK_EVERY - 1)})[1]
    assert (back.step, dot(back)) == (0, (12, 12))
    assert dot(games.advance({2: Act(3)})[2]) == ((3 + MARK_EVERY + 4) % 24, 3)


def test_a_fork_and_its_source_go_their_own_ways(games):
    games.advance({1: Begin(0, seed=0)})
    games.advance({1: Act(1)})
    copy = games.advance({"b": Fork(1)})["b"]
    assert (copy.step, dot(copy)) == (1, (12, 13))
    drawn = games.advance({"b": Act(3), 1: Act(2)})
    assert (dot(drawn["b"]), dot(drawn[1])) == ((13, 13), (11, 13))
    games.forget(["b"])
    assert dot(games.advance({1: Look()})[1]) == (11, 13)


def test_a_peek_dreams_of_every_action_and_leaves_the_game_alone(games):
    def ends(drawn):
        pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for _, data in drawn]
        return [tuple(int(i) for i in np.argwhere(picture)[0]) for picture in pictures]

    games.advance({1: Begin(0, seed=0)})
    every = (0, 1, 2, 3)
    once = games.advance({1: Peek(every, first=True, last=True)})[1]
    assert ends(once.peeks) == [(12, 11), (12, 13), (11, 12), (13, 12)]
    assert games.advance({1: Peek((1, 2), first=True, last=False)})[1].peeks == ()
    twice = games.advance({1: Peek((1, 2), first=False, last=True)})[1]
    assert ends(twice.peeks) == [(12, 14), (10, 12)]
    assert games._dreams == {}
    assert dot(games.advance({1: Act(1)})[1]) == (12, 13)
    assert ends(games.advance({1: Peek((3,), first=True, last=True)})[1].peeks) == [(13, 13)]


def test_a_game_can_start_from_pixels(games, dot_prompts):
    assert dot(games.advance({1: Begin(dot_prompts[1], seed=0)})[1]) == (3, 3)


def test_a_game_is_the_same_whatever_the_others_do():
    """A real world: other players join, undo, branch, look ahead, and draw in other ways."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(0, 256, (2, 16, 16, 3), np.uint8))
    other_ways = [None, SamplingConfig(steps=4), SamplingConfig(steps=2, temperature=0.3)]
    script = rng.integers(4, size=60).tolist()

    def play(crowded):
        games = Games(world, prompts)
        games.advance({"me": Begin(0, seed=5)})
        seen, steps = [], {}
        for action in script:
            turns = {}
            for other in range(4) if crowded else ():
                choice = int(rng.integers(8))
                sampling = other_ways[rng.integers(3)]
                if other not in steps or choice == 0:
                    turns[other] = Begin(1, seed=other)
                elif choice == 1:
                    turns[other] = Rewind(steps[other] // 2)
                elif choice == 2:
                    turns[other] = Fork("me")
                elif choice == 3:
                    turns[other] = Peek((0, 1, 2), True, True, sampling)
                elif choice > 4:
                    turns[other] = Act(choice % 4, sampling)
            drawn = games.advance({**turns, "me": Act(action)})
            steps |= {game: drawn[game].step for game in turns}
            seen.append(drawn["me"].picture)
        return seen

    assert play(crowded=True) == play(crowded=False)
