from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.models.layers.pixels import MAX_PSNR
from genie.plugins import composition as module
from genie.plugins.composition import COMPOSITION, composition

NAMES = ["noop", "left", "right+up"]
PICTURE = torch.from_numpy(
    np.kron(np.random.default_rng(0).integers(256, size=(16, 100)), np.ones((2, 2)))
)
START, STEPS = 90, 8
MOVES = torch.tensor([0, -2, 2])


def shown(places):
    """Frames (..., 32, 32, 3) of one large picture, from columns (...)."""
    flat = [PICTURE[:, x : x + 32] for x in places.flatten().tolist()]
    frames = torch.stack(flat).unflatten(0, places.shape)
    return frames[..., None].expand(*frames.shape, 3).to(torch.uint8)


class Camera:
    """Actions 2 and 1 go left and right; others stand still, as some of those may."""

    def __init__(self, left=-2, right=2):
        self.moves, self.device = torch.tensor([0, right, left, 0]), torch.device("cpu")
        self.config = SimpleNamespace(height=32, width=32, num_actions=4)
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=lambda frames: frames)

    def start(self, prompt, seed=0):
        return torch.full((len(prompt),), START)

    def step(self, state, action, sampling=None):
        state = state + self.moves[action]
        return shown(state), state


def store(steps=STEPS, count=12):
    """Video in which players go left and right, every second one right and left."""
    to = torch.tensor([0] + [1] * steps + [2] * steps)
    actions = torch.stack([to, (3 - to) * (to > 0)]).repeat(count // 2, 1)
    places = START + torch.cat(
        [torch.zeros(count, 1, dtype=torch.int64), MOVES[actions].cumsum(1)], 1
    )
    length = places.shape[1]
    frames = shown(places).flatten(0, 1).numpy()
    labels = torch.cat([actions, torch.full((count, 1), -1)], dim=1).flatten().numpy()
    episodes = [
        SimpleNamespace(id=i, split="val", start=i * length, length=length) for i in range(count)
    ]
    return SimpleNamespace(
        episodes=episodes, height=32, width=32, action_names=NAMES, labels=lambda: labels,
        windows=lambda starts, n: frames[np.asarray(starts)[:, None] + np.arange(n)],
    )  # fmt: skip


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.setattr(
        module, "direction_actions", lambda evaluation: {"left": 2, "right": 1, "jump": 3}
    )

    def measure(world, video=None, **changes):
        config = replace(EvaluationConfig.quick(), batch=7, inverse_dynamics_steps=0, **changes)
        return composition(Evaluation(world, video or store(), config))

    return measure


def verdict(section):
    (line,) = COMPOSITION.headlines_of(section)
    return line["verdict"]


def test_a_world_that_obeys_comes_back_as_the_real_game_does(measure):
    found = measure(Camera())
    assert (found["games"], found["steps"]) == (12, STEPS)
    assert found["actions"] == {"left": 2, "right": 1}
    for side in ("world", "real"):
        assert found[side]["back"]["mean"] == pytest.approx(MAX_PSNR)
        assert found[side]["away"]["mean"] < 15
        assert (found[side]["far"]["mean"], found[side]["shift"]["mean"]) == (16, 0)
    assert found["random"]["gain"]["mean"] < found["world"]["gain"]["mean"] / 2
    assert verdict(found) == "good"


@pytest.mark.parametrize(("left", "right"), [(0, 0), (-2, -2), (-2, 0)])
def test_a_world_that_does_not_obey_does_not(measure, left, right):
    found = measure(Camera(left, right))
    assert found["world"]["gain"]["mean"] < 0.6 * found["real"]["gain"]["mean"]
    assert verdict(found) != "good"


def test_where_the_real_game_does_not_come_back_there_is_no_verdict(measure):
    moving = np.random.default_rng(1).integers(256, size=(12 * 18, 32, 32, 3)).astype(np.uint8)
    video = store()
    video.windows = lambda starts, n: moving[np.asarray(starts)[:, None] + np.arange(n)]
    assert COMPOSITION.headlines_of(measure(Camera(), video)) == []


def test_prompts_lie_within_the_episode(measure):
    assert measure(Camera(), prompt_frames=2)["games"] == 12
    assert measure(Camera(), prompt_frames=3)["steps"] == STEPS - 1


def test_shorter_ways_are_taken_where_players_turned_sooner(measure):
    assert measure(Camera(), store(steps=5))["steps"] == 5
    with pytest.raises(Skipped, match="4 steps 0 times"):
        measure(Camera(), store(steps=3))


def test_without_named_true_actions_it_is_skipped(measure):
    video = store()
    video.action_names = None
    with pytest.raises(Skipped, match="names, are not known"):
        measure(Camera(), video)
