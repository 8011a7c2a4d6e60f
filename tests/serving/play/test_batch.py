import io

import numpy as np
import pytest
import torch
from PIL import Image

from genie.serving.play.batch import (
    CopyGame,
    DropGame,
    GameBatch,
    PlayAction,
    PreviewActions,
    Rewind,
    ShowFrame,
    StartGame,
    extra_maskgit_steps,
)
from genie.world.genie import Genie
from genie.world.kept_states import KEEP_EVERY
from genie.world.maskgit import SamplingConfig
from small import TINY


def dot(drawn):
    """Row and column of the dot in a drawn picture."""
    picture = np.asarray(Image.open(io.BytesIO(drawn.picture[1])).convert("L"))
    return tuple(int(i) for i in np.unravel_index(picture.argmax(), picture.shape))


@pytest.fixture
def games(dot_world, dot_prompts):
    return GameBatch(dot_world, dot_prompts)


def test_a_game_starts_at_its_prompt_and_follows_its_actions(games):
    assert dot(games.advance({7: StartGame(0, seed=1)})[7]) == (12, 12)
    assert dot(games.advance({7: PlayAction(1)})[7]) == (12, 13)
    assert dot(games.advance({7: PlayAction(2)})[7]) == (11, 13)


def test_all_players_step_in_one_batch(games, dot_world):
    games.advance({i: StartGame(i % 2, seed=i) for i in range(4)})
    drawn = games.advance({i: PlayAction(i) for i in range(4)})
    assert [dot(drawn[i]) for i in range(4)] == [(12, 11), (3, 4), (11, 12), (4, 3)]
    assert dot_world.batches == [4]


def test_joining_leaving_and_pausing_do_not_affect_others(games):
    games.advance({1: StartGame(0, seed=0), 2: StartGame(1, seed=0)})
    games.advance({1: PlayAction(1), 2: PlayAction(3)})
    games.advance({1: PlayAction(1)})
    games.advance({1: PlayAction(1), 3: StartGame(1, seed=5)})
    drawn = games.advance({3: PlayAction(1), 2: PlayAction(3), 1: PlayAction(1)})
    assert [dot(drawn[i]) for i in (1, 2, 3)] == [(12, 16), (5, 3), (3, 4)]
    games.run_maintenance([DropGame(2)])
    assert dot(games.advance({1: PlayAction(1)})[1]) == (12, 17)


def test_a_new_start_drops_the_old_game(games):
    games.advance({1: StartGame(0, seed=0), 2: StartGame(0, seed=0)})
    games.advance({1: PlayAction(1), 2: PlayAction(1)})
    assert dot(games.advance({1: StartGame(0, seed=0), 2: PlayAction(1)})[1]) == (12, 12)
    drawn = games.advance({1: PlayAction(1), 2: PlayAction(1)})
    assert (dot(drawn[1]), dot(drawn[2])) == ((12, 13), (12, 15))


def test_dropping_a_game_frees_its_states(games):
    games.advance({i: StartGame(0, seed=0) for i in range(3)})
    games.advance({i: PlayAction(0) for i in range(3)})
    games.run_maintenance([DropGame(game) for game in (0, 1, 2, 99)])
    assert (games._games, games._single, games._batches, games._previews) == ({}, {}, [], {})


def test_players_with_other_sampling_step_in_a_batch_of_their_own(games, dot_world):
    slow = SamplingConfig(steps=20)
    games.advance({i: StartGame(0, seed=0) for i in range(3)})
    for _ in range(2):
        drawn = games.advance({0: PlayAction(1), 1: PlayAction(1, slow), 2: PlayAction(1)})
    assert [dot(drawn[i]) for i in range(3)] == [(12, 14)] * 3
    assert dot_world.batches == [2, 1, 2, 1]
    assert dot_world.samplings == [None, slow, None, slow]
    drawn = games.advance({i: PlayAction(3, slow) for i in range(3)})
    assert dot_world.batches[4:] == [3]
    assert {dot(drawn[i]) for i in range(3)} == {(13, 14)}


def test_a_game_rewinds_to_its_nearest_snapshot_or_to_its_start(games, dot_world, monkeypatch):
    games.advance({1: StartGame(0, seed=0), 2: StartGame(1, seed=0)})
    monkeypatch.setattr(dot_world, "start", None)  # going back starts nothing anew
    for _ in range(KEEP_EVERY + 3):
        last = games.advance({1: PlayAction(1), 2: PlayAction(3)})
    assert last[1].step == KEEP_EVERY + 3
    back = games.advance({1: Rewind(KEEP_EVERY + 2)})[1]
    assert (back.step, dot(back)) == (KEEP_EVERY, (12, 12 + KEEP_EVERY))
    assert games.advance({1: Rewind(KEEP_EVERY + 2)})[1].step == KEEP_EVERY
    back = games.advance({1: Rewind(KEEP_EVERY - 1)})[1]
    assert (back.step, dot(back)) == (0, (12, 12))
    assert dot(games.advance({2: PlayAction(3)})[2]) == ((3 + KEEP_EVERY + 4) % 24, 3)


def test_undo_restores_the_states_of_the_first_play():
    """A real world: after going back, the steps that are played again draw the same tokens."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    prompt = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    script = np.random.default_rng(1).integers(4, size=70).tolist()
    games = GameBatch(world, [prompt])
    games.advance({1: StartGame(0, seed=5)})

    def play(actions):
        for action in actions:
            games.advance({1: PlayAction(action)})
            games.commit()
            yield games._state(1).dynamics.tokens.tolist()

    first = list(play(script))
    for back in (1, 20, 60):
        step = games.advance({1: Rewind(70 - back)})[1].step
        assert 70 - back - step < max(KEEP_EVERY, 2 * back)
        assert list(play(script[step:])) == first[step:]


def test_a_predicted_frame_is_committed_once_before_the_next_turn(games, dot_world):
    committed = []
    commit = dot_world.commit
    dot_world.commit = lambda drawing: committed.append(drawing) or commit(drawing)
    games.advance({1: StartGame(0, seed=0), 2: StartGame(1, seed=0)})
    games.advance({1: PlayAction(1), 2: PlayAction(3)})
    assert committed == []
    for _ in range(2):
        games.commit()
        assert len(committed) == 1
    games.advance({1: PlayAction(1), 2: PlayAction(3)})
    assert dot(games.advance({1: PlayAction(1)})[1]) == (12, 15)
    assert len(committed) == 2
    games.run_maintenance([CopyGame(1, 3)])
    assert len(committed) == 3
    assert dot(games.advance({3: PlayAction(1)})[3]) == (12, 16)


def test_a_fault_of_one_player_does_not_stop_the_turns_of_others(games):
    games.advance({1: StartGame(0, seed=0), 2: StartGame(0, seed=0)})
    drawn = games.advance(
        {1: PlayAction(1), 2: StartGame(99, seed=0), 3: PlayAction(0), 4: Rewind(3)}
    )
    assert dot(drawn[1]) == (12, 13)
    assert all(isinstance(drawn[player], LookupError) for player in (2, 3, 4))
    assert dot(games.advance({1: PlayAction(1)})[1]) == (12, 14)


def test_a_compiled_world_gets_few_batch_sizes(dot_world, dot_prompts):
    games = GameBatch(dot_world, dot_prompts, batch_sizes=(1, 2, 4))
    for players in games.batch_sizes:
        games.warm_up(players)
    assert dot_world.batches == [1, 2, 4]
    games.advance({i: StartGame(i % 2, seed=i) for i in range(5)})
    for players in (3, 1, 4, 5, 2):
        drawn = games.advance({i: PlayAction(1) for i in range(players)})
        assert len(drawn) == players
    assert dot_world.batches[3:] == [4, 1, 4, 5, 2]
    assert [dot(games.advance({i: ShowFrame()})[i]) for i in range(5)] == [
        (12, 17), (3, 7), (12, 15), (3, 5), (12, 13),
    ]  # fmt: skip


def test_padding_does_not_change_the_tokens():
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    prompt = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)

    def tokens(sizes):
        games, seen = GameBatch(world, [prompt], sizes), []
        games.advance({player: StartGame(0, seed=player) for player in range(3)})
        for t in range(12):
            playing = range(3 if t % 4 else 1)
            games.advance({player: PlayAction((player + t) % 4) for player in playing})
            games.commit()
            seen += [games._state(player).dynamics.tokens.tolist() for player in playing]
        return seen

    assert tokens((1, 4, 8)) == tokens(())


def test_a_copy_and_its_source_are_independent(games):
    games.advance({1: StartGame(0, seed=0)})
    games.advance({1: PlayAction(1)})
    games.run_maintenance([CopyGame(1, "b"), CopyGame(99, "c")])
    copy = games.advance({"b": ShowFrame()})["b"]
    assert (copy.step, dot(copy)) == (1, (12, 13))
    drawn = games.advance({"b": PlayAction(3), 1: PlayAction(2)})
    assert (dot(drawn["b"]), dot(drawn[1])) == ((13, 13), (11, 13))
    games.run_maintenance([DropGame("b")])
    assert dot(games.advance({1: ShowFrame()})[1]) == (11, 13)


def test_a_preview_of_every_action_does_not_change_the_game(games):
    def ends(drawn):
        pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for _, data in drawn]
        return [tuple(int(i) for i in np.argwhere(picture)[0]) for picture in pictures]

    games.advance({1: StartGame(0, seed=0)})
    every = (0, 1, 2, 3)
    once = games.advance({1: PreviewActions(every, first=True, last=True)})[1]
    assert ends(once.previews) == [(12, 11), (12, 13), (11, 12), (13, 12)]
    assert games.advance({1: PreviewActions((1, 2), first=True, last=False)})[1].previews == ()
    twice = games.advance({1: PreviewActions((1, 2), first=False, last=True)})[1]
    assert ends(twice.previews) == [(12, 14), (10, 12)]
    assert games._previews == {}
    assert dot(games.advance({1: PlayAction(1)})[1]) == (12, 13)
    assert ends(games.advance({1: PreviewActions((3,), first=True, last=True)})[1].previews) == [
        (13, 13)
    ]


def test_a_game_can_start_from_pixels(games, dot_prompts):
    assert dot(games.advance({1: StartGame(dot_prompts[1], seed=0)})[1]) == (3, 3)


def test_a_game_does_not_depend_on_the_other_players():
    """A real world: other players join, undo, branch, look ahead, and draw in other ways."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(0, 256, (2, 16, 16, 3), np.uint8))
    other_ways = [None, SamplingConfig(steps=4), SamplingConfig(steps=2, temperature=0.3)]
    script = rng.integers(4, size=60).tolist()

    def play(crowded):
        games = GameBatch(world, prompts)
        games.advance({"me": StartGame(0, seed=5)})
        tokens, pictures, steps = [], [], {}
        for action in script:
            turns = {}
            for other in range(4) if crowded else ():
                choice = int(rng.integers(8))
                sampling = other_ways[rng.integers(3)]
                if other not in steps or choice == 0:
                    turns[other] = StartGame(1, seed=other)
                elif choice == 1:
                    turns[other] = Rewind(steps[other] // 2)
                elif choice == 2:
                    games.run_maintenance([CopyGame("me", other)])
                    turns[other] = ShowFrame()
                elif choice == 3:
                    turns[other] = PreviewActions((0, 1, 2), True, True, sampling)
                elif choice > 4:
                    turns[other] = PlayAction(choice % 4, sampling)
            drawn = games.advance({**turns, "me": PlayAction(action)})
            steps |= {game: drawn[game].step for game in turns}
            games.commit()
            tokens.append(games._state("me").dynamics.tokens)
            pictures.append(np.asarray(Image.open(io.BytesIO(drawn["me"].picture[1])), np.int16))
        return torch.stack(tokens), np.stack(pictures)

    (tokens, pictures), (alone, pictures_alone) = play(crowded=True), play(crowded=False)
    assert torch.equal(tokens, alone)
    assert np.abs(pictures - pictures_alone).max() <= 1  # sums are rounded differently in a batch


@pytest.mark.parametrize(
    ("turn", "passes"),
    [
        (StartGame(0, 1), 0),
        (StartGame(0, 1, frames=3), 3),
        (StartGame(np.zeros((24, 24, 3), np.uint8), 1), 0),
        (StartGame(np.zeros((9, 24, 24, 3), np.uint8), 1, frames=9), 9),
        (PlayAction(1), 0),
        (PlayAction(1, SamplingConfig()), 0),
        (PlayAction(1, SamplingConfig(temperature=0.5)), 8),
        (PlayAction(1, SamplingConfig(steps=3, order="confidence")), 3),
        (PlayAction(1, SamplingConfig(steps=3, guidance=1.0)), 6),
        (PreviewActions((0, 1), True, True), 16),
        (Rewind(0), 0),
        (ShowFrame(), 0),
    ],
)
def test_turns_outside_the_shared_batch_are_counted_in_maskgit_steps(turn, passes):
    assert extra_maskgit_steps(turn, SamplingConfig()) == passes
