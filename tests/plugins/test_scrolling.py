from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import find_metrics
from genie.plugins import scrolling as module
from genie.plugins.scrolling import direction_actions, followed, real_directions, scroll

NAMES = ["noop", "right", "left", "up"]
STEPS = torch.tensor([[0, 0], [0, 2], [0, -2], [-2, 0]])  # of the camera, rows and columns


def shown(places):
    """Frames (..., 32, 32, 3) of one large picture, from the corners (..., 2)."""
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(np.kron(rng.integers(256, size=(100, 100)), np.ones((2, 2))))
    flat = [picture[y : y + 32, x : x + 32] for y, x in places.reshape(-1, 2).tolist()]
    frames = torch.stack(flat).unflatten(0, places.shape[:-1])
    return frames[..., None].expand(*frames.shape, 3).to(torch.uint8)


def walk(actions, start):
    """Corners (n, t + 1, 2) of a camera that follows the actions (n, t)."""
    steps = STEPS[actions].cumsum(1)
    return start[:, None] + torch.cat([torch.zeros_like(steps[:, :1]), steps], dim=1)


PLACES = walk(torch.arange(4)[:, None].expand(-1, 8), torch.full((4, 2), 84)).flatten(0, 1)


class Camera:
    """Shows the picture from where its buttons take it; one that does not obey stands still."""

    def __init__(self, obeys=True):
        self.obeys, self.device = obeys, torch.device("cpu")
        self.config = SimpleNamespace(height=32, width=32, num_actions=4)
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=lambda frames: frames)

    def start(self, prompt, seed=0):
        known = shown(PLACES)
        match = (prompt[:, -1][:, None] == known).flatten(2).all(dim=2)
        return PLACES[match.int().argmax(1)]

    def step(self, state, action, sampling=None):
        # Its buttons mean left, noop, right, up: others than the names of the true actions.
        moved = state + STEPS[torch.tensor([2, 0, 1, 3])[action]] * self.obeys
        return shown(moved), moved


def store(steps=8, count=30):
    """Video in which every action is held to the end of its episode."""
    actions = torch.arange(4).repeat(count)[:, None].expand(-1, steps)
    frames = shown(walk(actions, torch.full((len(actions), 2), 84)))
    labels = torch.cat([actions, -torch.ones_like(actions[:, :1])], dim=1)
    length = steps + 1
    episodes = [
        SimpleNamespace(
            id=i, split="train" if i % 8 < 4 else "val", start=i * length, length=length
        )
        for i in range(len(actions))
    ]
    flat = frames.flatten(0, 1).numpy()
    return SimpleNamespace(
        episodes=episodes,
        height=32,
        width=32,
        action_names=NAMES,
        labels=lambda: labels.flatten().numpy(),
        windows=lambda starts, n: flat[np.asarray(starts)[:, None] + np.arange(n)],
    )


@pytest.fixture
def held():
    """Holds actions for eight steps."""

    def measure(world, video=None, bars=None):
        config = replace(
            EvaluationConfig.quick(), closed_loop_steps=8, closed_loop_games=20,
            action_selection_games=3, batch=7, inverse_dynamics_steps=0,
        )  # fmt: skip
        evaluation = Evaluation(world, video or store(), config, metrics=find_metrics())
        evaluation.bars = bars or evaluation.bars
        measure.evaluation = evaluation
        return module.scrolling(evaluation)

    return measure


def directions(video, batch):
    config = replace(EvaluationConfig.quick(), closed_loop_steps=8, batch=batch)
    return {
        name: (game.games, game.fraction)
        for name, game in real_directions(Evaluation(Camera(), video, config)).items()
    }


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(module, "REAL_GAMES", 10)


def test_the_scene_moves_against_the_camera():
    places = torch.tensor([[[40, 40], [40, 43], [38, 43], [38, 43]]])
    assert scroll(shown(places)).tolist() == [[[0, -3], [2, 0], [0, 0]]]
    assert (scroll(torch.full((1, 3, 32, 32, 3), 7, dtype=torch.uint8)) == 0).all()


def test_a_jump_is_a_rise_wherever_it_begins():
    down = torch.tensor([[-3, -3, 3, 2], [-2, -2, -2, -2], [1, 1, 1, 0]])
    shifts = torch.stack([down, torch.tensor([[1, 1, 1, 1], [-1, -1, -1, -1], [2, -2, 2, -2]])], -1)
    found = followed(shifts, 4)
    assert found["jump"].tolist() == [True, False, False]
    assert found["left"].tolist() == [True, False, False]
    assert found["right"].tolist() == [False, True, False]


def test_buttons_are_chosen_by_what_they_do_and_go_their_way(few, held):
    ticks = []

    @contextmanager
    def bars(name, total):
        yield lambda: ticks.append(1)

    found = held(Camera(), bars=bars)
    assert {way: line["action"] for way, line in found["directions"].items()} == {
        "left": 0, "right": 2, "jump": 3,
    }  # fmt: skip
    assert direction_actions(held.evaluation) == {"left": 0, "right": 2, "jump": 3}
    assert found["mean"]["share"] == found["mean"]["real"] == found["mean"]["relative"] == 1
    assert 0.1 < found["mean"]["chance"] < 0.5
    # Four buttons tried from one batch; then three batches of each of three chosen ones, and of the
    # random games the eight with the fourth.
    assert len(ticks) == 8 * (4 + 9 + 2)


def test_a_world_that_ignores_its_buttons_goes_no_way(few, held):
    assert held(Camera(obeys=False))["mean"]["share"] == 0


def test_real_stretches_are_read_in_batches(few):
    video, sizes = store(), []
    windows = video.windows
    video.windows = lambda starts, n: sizes.append(len(starts)) or windows(starts, n)
    found = directions(video, 4)
    assert found == {"left": (15, 1.0), "right": (15, 1.0), "jump": (15, 1.0)}
    assert sizes == 3 * [4, 4, 4, 3]


def test_where_nothing_scrolls_it_is_skipped(few, held):
    still = store()
    still.windows = lambda starts, n: np.zeros((len(starts), n, 32, 32, 3), np.uint8)
    assert directions(still, 2) == {}
    with pytest.raises(Skipped, match="no true action"):
        held(Camera(), still)
    unnamed = store()
    unnamed.action_names = None
    assert directions(unnamed, 2) == {}
