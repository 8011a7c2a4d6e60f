from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.evaluation.metrics import scrolling as module
from genie.evaluation.metrics.scrolling import SHIFTS, followed, real_directions, scroll, scrolling
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import ignore_step

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


def held(world, video=None, on_step=ignore_step):
    video = video or store()
    games = HeldActionGames(
        world, video, {SHIFTS: scroll}, prompt_frames=1, steps=8, seed=0, batch=7
    )
    real = real_directions(video, "val", 8, 7)
    return scrolling(games, real, split="val", games=20, choosing_games=3, on_step=on_step)


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


def test_buttons_are_chosen_by_what_they_do_and_go_their_way(few):
    ticks = []
    found = held(Camera(), on_step=lambda: ticks.append(1))
    assert {way: line["action"] for way, line in found["directions"].items()} == {
        "left": 0, "right": 2, "jump": 3,
    }  # fmt: skip
    assert found["mean"]["share"] == found["mean"]["real"] == found["mean"]["relative"] == 1
    assert 0.1 < found["mean"]["chance"] < 0.5
    # Four buttons tried from one batch; then three batches of each of three chosen ones, and of the
    # random games the eight with the fourth.
    assert len(ticks) == 8 * (4 + 9 + 2)


def test_a_world_that_ignores_its_buttons_goes_no_way(few):
    assert held(Camera(obeys=False))["mean"]["share"] == 0


def test_real_stretches_are_read_in_batches(few):
    video, sizes = store(), []
    windows = video.windows
    video.windows = lambda starts, n: sizes.append(len(starts)) or windows(starts, n)
    found = real_directions(video, "val", 8, 4)
    assert found == {"left": (15, 1.0), "right": (15, 1.0), "jump": (15, 1.0)}
    assert sizes == 3 * [4, 4, 4, 3]


def test_where_nothing_scrolls_it_is_skipped(few):
    still = store()
    still.windows = lambda starts, n: np.zeros((len(starts), n, 32, 32, 3), np.uint8)
    assert real_directions(still, "val", 8, 2) == {}
    assert "no true action" in held(Camera(), still)["skipped"]
    unnamed = store()
    unnamed.action_names = None
    assert real_directions(unnamed, "val", 8, 2) == {}


def test_stretches_of_an_action_lie_within_episodes():
    held = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    episodes = [
        SimpleNamespace(split="val", start=0, length=5),
        SimpleNamespace(split="val", start=5, length=5),
        SimpleNamespace(split="train", start=0, length=5),
    ]
    found = module._find_stretches(SimpleNamespace(episodes=episodes), held, "val", 2)
    assert list(found) == [0, 2, 6]
