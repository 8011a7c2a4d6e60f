from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from genie.config import UserError
from genie.evaluation import long_play as module
from genie.evaluation.frechet import Pixels
from genie.evaluation.long_play import (
    LongPlayConfig,
    Seen,
    Watcher,
    first_spell,
    longest_spell,
    player_actions,
    restricted_mean,
    strip_times,
    token_distance,
)
from genie.evaluation.progress import progress_bars

STEPS = 48


def flags(text):
    return torch.tensor([letter == "x" for letter in text])


def test_spells_by_hand():
    assert first_spell(flags("..x.xxx.xxx"), 3) == 4
    assert first_spell(flags("xx.xx"), 3) is None
    assert first_spell(flags("xx"), 3) is None
    assert first_spell(flags("xxx"), 3) == 0
    assert longest_spell(flags("x.xxx.xx")) == 3
    assert longest_spell(flags("...")) == 0


def test_token_distance_by_hand():
    reference = torch.tensor([10, 10, 0, 0])
    counts = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    same, half, other = token_distance(counts, reference, 2).tolist()
    assert same == pytest.approx(0)
    # Shares 1/4 each against halves: H(3/8, 3/8, 1/8, 1/8) - 2 / 2 - 1 / 2.
    assert half == pytest.approx(1.8112781 - 1.5, abs=1e-6)
    assert other == pytest.approx(1)


def test_the_mean_time_to_the_end():
    assert restricted_mean([2, 4, 6, 8], [True] * 4, 8) == 5
    assert restricted_mean([2, 8, 8, 8], [True, False, False, False], 8) == 6.5
    # One is last seen at 2 and one ends at 4, when three are watched.
    assert restricted_mean([2, 4, 8, 8], [False, True, False, False], 8) == pytest.approx(
        4 + 4 * 2 / 3
    )
    assert restricted_mean([3, 3], [False, False], 3) == 3


def test_actions_follow_each_other_as_in_real_video():
    usage, chain = torch.tensor([60, 40, 0]), torch.tensor([[54, 6, 0], [8, 32, 0], [0, 0, 0]])
    actions = player_actions(usage, chain, 50, 400, seed=0)
    assert actions.shape == (50, 400)
    assert not (actions == 2).any()
    stays = (actions[:, 1:] == actions[:, :-1])[actions[:, :-1] == 0].float().mean()
    assert stays == pytest.approx(0.9, abs=0.02)
    assert (actions[:, 0] == 0).float().mean() == pytest.approx(0.6, abs=0.2)
    assert torch.equal(actions[:3], player_actions(usage, chain, 3, 400, seed=0))


def test_a_strip_begins_with_the_prompt_and_ends_with_the_play():
    assert strip_times(256) == [0, 32, 64, 128, 256]


@dataclass(frozen=True)
class Player:
    """A game of a world that replays, freezes or breaks."""

    frames: torch.Tensor
    place: torch.Tensor


def worlds(game, store):
    """Worlds that go on as a held-out episode did, stand still, or show what was never seen."""
    real = torch.from_numpy(store.frames)

    class Replaying(game.world):
        def start(self, prompt, seed=0):
            matches = (real[None] == prompt[:, -1:]).flatten(2).all(-1)
            place = torch.stack([m.nonzero()[0, 0] for m in matches])
            return Player(prompt[:, -1], place)

        def step(self, state, action, sampling=None):
            state = replace(state, frames=real[state.place + 1], place=state.place + 1)
            return state.frames, state

    class Frozen(Replaying):
        def step(self, state, action, sampling=None):
            return state.frames, state

    class Broken(Replaying):
        """After twelve steps every token is another, and goes on changing."""

        def step(self, state, action, sampling=None):
            frames, state = super().step(state, action)
            late = (state.place % 80 >= 12)[:, None, None, None]
            return torch.where(late, 255 - frames, frames), state

    return Replaying, Frozen, Broken


class Tokens(torch.nn.Module):
    """Sixteen grey levels, so that a window says a little about the level."""

    vocabulary = 16

    def encode(self, frames):
        return (frames[..., 2::4, 2::4, 0] // 16).flatten(-2).long()

    def decode(self, tokens):
        grey = (16 * tokens).unflatten(-1, (4, 4)).to(torch.uint8)
        grey = grey.repeat_interleave(4, -1).repeat_interleave(4, -2)
        return grey[..., None].expand(*grey.shape, 3)


@pytest.fixture
def store(game):
    """Ten held-out episodes of 4 x 4 greys that change with every frame, half of them dark."""
    made = game.store(episodes=20, length=80)
    greys = np.random.default_rng(1).integers(8, size=(1600, 4, 4, 1)) * 16
    made.frames = np.broadcast_to(greys, (1600, 4, 4, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    return made


def played(world, store, game, **settings):
    world = world()
    world.tokenizer = Tokens()
    config = LongPlayConfig(plays=((10, STEPS),), window=8, **settings)
    with progress_bars(False) as bars, torch.no_grad():
        return module.long_play(
            world, store, config, split="val", prompt_frames=1, extractor=Pixels(), seed=0,
            batch=4, bars=bars,
        )  # fmt: skip


@pytest.fixture
def from_the_start(monkeypatch):
    """Prompts are the first frames of held-out episodes, and nobody looks for an avatar."""
    monkeypatch.setattr(module, "find_avatar", lambda *args: (None, {"skipped": "no avatar"}))
    monkeypatch.setattr(
        module, "choose_clips", lambda store, split, length, count, seed: 80 + 160 * np.arange(10)
    )


def test_a_world_that_replays_real_video_stays_coherent(game, store, from_the_start):
    found, strips = played(worlds(game, store)[0], store, game)
    play = found["plays"][0]
    assert play["coherent_steps"]["mean"] >= 0.9 * STEPS
    assert play["share_to_the_end"] >= 0.9
    assert play["frozen_rate"]["mean"] == 0
    assert np.mean(play["distance"]["mean"]) < found["limits"]["distance_95"]
    assert max(play["frechet"]["distance"]) < 3 * play["frechet"]["real"]
    beside = play["real_coherent"]
    assert beside["up_to_steps"] == STEPS
    assert beside["mean_steps"] >= 0.9 * beside["up_to_steps"]
    assert play["coherent_steps_beside_real"] >= 0.9 * beside["up_to_steps"]
    assert (play["games"], play["episodes"]) == (10, 10)
    assert strips[0].frames.shape == (4, 5, 16, 16, 3)
    first = torch.from_numpy(store.frames[[80, 86, 92, 104, 128]])
    assert torch.equal(strips[0].frames[0], first)
    assert found["real"]["frozen_rate"] == 0
    assert found["avatar"]["skipped"] == "no avatar"


def test_the_last_steps_of_an_episode_cannot_be_seen_to_end(game, store):
    watcher = module.Watcher(worlds(game, store)[0](), Pixels(), None, window=8)
    watcher.world.tokenizer = Tokens()
    for length, watched in ((80, 72 - 14), (25, 24 - 14), (9, None)):
        cut = game.store(episodes=20, length=length)
        cut.frames = store.frames
        real = module.reference(watcher, cut, "val", 1000, 0, 4)
        found = module._real_coherent(real, 100, 10.0)
        assert (found and found["up_to_steps"]) == watched


def test_a_world_that_freezes_ends_at_once(game, store, from_the_start):
    play = played(worlds(game, store)[1], store, game)[0]["plays"][0]
    assert play["frozen_rate"]["mean"] == 1
    assert play["coherent_steps"]["mean"] == 0
    assert play["share_to_the_end"] == 0
    assert play["ended_by"] == {"frozen": 10, "token_statistics": 0, "avatar_gone": 0}


def test_a_world_that_breaks_ends_where_it_breaks(game, store, from_the_start):
    play = played(worlds(game, store)[2], store, game)[0]["plays"][0]
    # The first window with a frame that is broken begins seven steps before that frame.
    assert 3 <= play["coherent_steps"]["mean"] <= 12
    assert play["ended_by"] == {"token_statistics": 10, "frozen": 0, "avatar_gone": 0}
    assert play["distance"]["mean"][-1] > 0.9
    assert play["frechet"]["distance"][-1] > 5 * play["frechet"]["distance"][0]


def test_an_avatar_that_is_gone_for_more_than_a_second_ends_a_game(game, store):
    world = worlds(game, store)[0]()
    world.tokenizer = Tokens()
    watcher = Watcher(world, Pixels(), None, 8)
    real = module.reference(watcher, store, "val", 2000, 0, 4)
    assert real.gone == 10
    assert sum(len(s.frozen) for s in real.seen) == 720  # 9 windows of 8 in each of 10 episodes
    seen = real.seen[0]
    away = torch.zeros(72, dtype=torch.bool)
    away[[*range(3, 13), *range(20, 31)]] = True
    distance = real.distance(seen, real.starts[0])
    assert real.ends(replace(seen, visible=~away), distance)[2] == 20
    assert real.ends(seen, distance)[2] == 72


def test_the_end_of_a_play_may_lie_within_a_window(game, store):
    world = game.world()
    watcher = Watcher(world, Pixels(), None, 8)
    prompts = torch.from_numpy(store.windows([80], 1))
    windows = list(module.play(world, prompts, torch.ones(1, 20, dtype=torch.int64), [0], 8))
    assert [w.shape[1] for w in windows] == [9, 9, 5]
    assert torch.equal(windows[0][:, -1], windows[1][:, 0])
    seen = Seen.join([watcher.look(w)[0] for w in windows])
    assert len(seen.counts) == len(seen.frozen) == 20
    assert len(seen.features) == 2


def test_no_episode_holds_a_window(game, store, from_the_start):
    for episode in store.episodes:
        episode.length = 8
    assert "longer than 8 frames" in played(worlds(game, store)[0], store, game)[0]["skipped"]


def test_real_video_is_whole_episodes_within_bounds(game, store):
    world = game.world()
    watcher = Watcher(world, Pixels(), None, 8)
    assert len(module.reference(watcher, store, "val", 200, 0, 4).seen) == 2
    assert len(module.reference(watcher, store, "val", 1, 0, 4).seen) == 1


def test_settings_that_play_nothing():
    with pytest.raises(UserError, match="16 steps or more"):
        LongPlayConfig(plays=((4, 8),))
