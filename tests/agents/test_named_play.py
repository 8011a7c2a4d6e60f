from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import made_steps

from genie.agents import named_play
from genie.agents.mapper import fit_mapper
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation

MOVES = torch.tensor([[0, 0], [0, 2], [0, -2], [-2, 0]])  # of the camera: noop, right, left, up
PICTURE = np.kron(np.random.default_rng(0).integers(256, size=(100, 100)), np.ones((2, 2)))
START = torch.tensor([84, 84])


def shown(places):
    """Frames (B, 32, 32, 3) of one large picture, from the corners (B, 2)."""
    frames = [PICTURE[y : y + 32, x : x + 32] for y, x in places.tolist()]
    return torch.from_numpy(np.stack(frames))[..., None].expand(-1, -1, -1, 3).to(torch.uint8)


class Camera:
    """Latent action 3 - n does what true action n does."""

    def __init__(self):
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(height=32, width=32, num_actions=4)
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=lambda frames: frames)
        self.played = []

    def start(self, prompt, seed=0):
        assert len(seed) == len(prompt)
        return self._state(START.expand(len(prompt), 2))

    def step(self, state, action, sampling=None):
        self.played.append(action.tolist())
        state = self._state(state.places + MOVES[3 - torch.as_tensor(action)])
        return state.frame, state

    def _state(self, places):
        return SimpleNamespace(places=places, frame=shown(places))


@pytest.fixture
def mapper():
    true = torch.arange(4).repeat(5)
    return fit_mapper(made_steps(3 - true, true), "dictionary")


def test_a_name_is_held_by_the_latent_action_of_every_step(mapper):
    world = Camera()
    frames = named_play.hold_name(
        world, mapper, shown(START.expand(2, 2))[:, None], "right", [1, 2], 3
    )
    assert world.played == [[2, 2]] * 3
    assert torch.equal(frames[0], shown(START + MOVES[1] * torch.arange(4)[:, None]))


def test_directions_are_counted_by_their_plainest_name(mapper, monkeypatch):
    monkeypatch.setattr(
        named_play, "real_directions", lambda _: {"left": None, "right": None, "jump": None}
    )
    frames = shown(START.expand(6, 2)).numpy()
    episodes = [SimpleNamespace(id=i, split="val", start=3 * i, length=3) for i in range(2)]
    store = SimpleNamespace(
        height=32, width=32, episodes=episodes,
        windows=lambda starts, length: frames[np.asarray(starts)[:, None] + np.arange(length)],
    )  # fmt: skip
    config = EvaluationConfig(closed_loop_games=4, closed_loop_steps=8, batch=3)
    swapped = fit_mapper(made_steps(torch.arange(4), torch.arange(4)), "dictionary")
    found = named_play.scrolling_by_name(
        Evaluation(Camera(), store, config), {"right": mapper, "wrong": swapped}
    )
    assert found == {
        "left": {"right": 1, "wrong": 0},
        "right": {"right": 1, "wrong": 0},
        "jump": {"right": 1, "wrong": 0},
    }
