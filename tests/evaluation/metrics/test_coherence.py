from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.evaluation.config import CoherenceConfig
from genie.evaluation.metrics import coherence as module
from genie.evaluation.metrics import context
from genie.evaluation.metrics.coherence import COHERENCE, sample_actions, strip_times
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.observations import Observations, Observer, reference
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.models.external_networks import Pixels

STEPS = 48


def test_actions_follow_each_other_as_in_real_video():
    usage, chain = torch.tensor([60, 40, 0]), torch.tensor([[54, 6, 0], [8, 32, 0], [0, 0, 0]])
    actions = sample_actions(usage, chain, 50, 400, seed=0)
    assert actions.shape == (50, 400)
    assert not (actions == 2).any()
    stays = (actions[:, 1:] == actions[:, :-1])[actions[:, :-1] == 0].float().mean()
    assert stays == pytest.approx(0.9, abs=0.02)
    assert (actions[:, 0] == 0).float().mean() == pytest.approx(0.6, abs=0.2)
    assert torch.equal(actions[:3], sample_actions(usage, chain, 3, 400, seed=0))


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


@pytest.fixture
def played(game, evaluation, grey_store):
    """Measures one of the worlds; returns the section and the frames of the strip."""

    def measure(number):
        world = worlds(game, grey_store)[number]()
        world.tokenizer = game.grey_tokenizer()
        settings = CoherenceConfig(rollouts=((10, STEPS),), window=8)
        asked = evaluation(world, grey_store, coherence=settings, batch=4)
        return module.measure_coherence(asked)

    return measure


@pytest.fixture
def from_the_start(monkeypatch):
    """Prompts are the first frames of held-out episodes, and nobody looks for an avatar."""
    monkeypatch.setattr(module, "find_avatar", lambda *args: (None, {"skipped": "no avatar"}))
    monkeypatch.setattr(
        context, "select_clips", lambda store, split, length, count, seed: 80 + 160 * np.arange(10)
    )
    strips = []
    monkeypatch.setattr(module, "strip_figure", lambda frames, times, fps: strips.append(frames))
    return strips


def test_a_world_that_replays_real_video_stays_coherent(played, grey_store, from_the_start):
    found = played(0)
    play = found["rollouts"][0]
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
    assert from_the_start[0].shape == (4, 5, 16, 16, 3)
    first = torch.from_numpy(grey_store.frames[[80, 86, 92, 104, 128]])
    assert torch.equal(from_the_start[0][0], first)
    assert found["real"]["frozen_rate"] == 0
    assert found["avatar"]["skipped"] == "no avatar"


def test_the_last_steps_of_an_episode_cannot_be_seen_to_end(game, grey_world, grey_store):
    observer = Observer(grey_world, Pixels(), None, window=8)
    for length, watched in ((80, 72 - 14), (25, 24 - 14), (9, None)):
        cut = game.store(episodes=20, length=length)
        cut.frames = grey_store.frames
        real = reference(observer, cut, "val", 1000, 0, 4)
        found = module._real_coherent(real, 100, 10.0)
        assert (found and found["up_to_steps"]) == watched


def test_a_world_that_freezes_ends_at_once(played, from_the_start):
    play = played(1)["rollouts"][0]
    assert play["frozen_rate"]["mean"] == 1
    assert play["coherent_steps"]["mean"] == 0
    assert play["share_to_the_end"] == 0
    assert play["ended_by"] == {"frozen": 10, "token_statistics": 0, "avatar_lost": 0}


def test_a_world_that_breaks_ends_where_it_breaks(played, from_the_start):
    play = played(2)["rollouts"][0]
    # The first window with a frame that is broken begins seven steps before that frame.
    assert 3 <= play["coherent_steps"]["mean"] <= 12
    assert play["ended_by"] == {"token_statistics": 10, "frozen": 0, "avatar_lost": 0}
    assert play["distance"]["mean"][-1] > 0.9
    assert play["frechet"]["distance"][-1] > 5 * play["frechet"]["distance"][0]


def test_the_end_of_a_play_may_lie_within_a_window(game, grey_store):
    world = game.world()
    observer = Observer(world, Pixels(), None, 8)
    prompts = torch.from_numpy(grey_store.windows([80], 1))
    windows = list(
        module.play_windows(
            RolloutPlayer(world), prompts, torch.ones(1, 20, dtype=torch.int64), [0], 8
        )
    )
    assert [w.shape[1] for w in windows] == [9, 9, 5]
    assert torch.equal(windows[0][:, -1], windows[1][:, 0])
    seen = Observations.join([observer.observe(w)[0] for w in windows])
    assert len(seen.counts) == len(seen.frozen) == 20
    assert len(seen.features) == 2


def test_no_episode_holds_a_window(played, grey_store, from_the_start):
    for episode in grey_store.episodes:
        episode.length = 8
    with pytest.raises(Skipped, match="longer than 8 frames"):
        played(0)


def test_rollouts_may_be_left_out(evaluation):
    with pytest.raises(Skipped, match="none was asked for"):
        module.measure_coherence(evaluation(coherence=CoherenceConfig(rollouts=())))


def test_a_detector_of_the_avatar_is_a_plug_in(evaluation, monkeypatch):
    monkeypatch.setattr(module, "registered", lambda kind: [])
    detector, found = module.find_avatar(evaluation())
    assert detector is None
    assert "no plug-in" in found["skipped"]


@pytest.mark.parametrize(("seconds", "verdict"), [(16, "good"), (6, "fair"), (2, "poor")])
def test_coherence_is_judged_beside_real_episodes(seconds, verdict):
    rollout = {
        "seconds": 17.0, "coherent_seconds": {"mean": seconds},
        "coherent_steps_beside_real": min(10 * seconds, 100),
        "real_coherent": {"mean_seconds": 9.5, "up_to_seconds": 10.0, "mean_steps": 95},
    }  # fmt: skip
    (line,) = COHERENCE.headlines_of({"rollouts": [rollout]})
    assert line["verdict"] == verdict
    assert (line["baseline"], line["baseline_name"]) == (9.5, "real episodes, of up to 10.00 s")
    (unknown,) = COHERENCE.headlines_of({"rollouts": [rollout | {"real_coherent": None}]})
    assert (unknown["verdict"], unknown["baseline"]) == ("poor", None)


def test_settings_that_play_nothing():
    with pytest.raises(UserError, match="16 steps or more"):
        CoherenceConfig(rollouts=((4, 8),))
