from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.plugins import action_effects
from genie.plugins.action_effects import EffectsConfig, group_actions, measure_actions, movement
from genie.world.maskgit import SamplingConfig

SIDE, STEPS, REPEATS, PROMPTS = 32, 6, 2, 12
CONFIG = EffectsConfig(prompts=PROMPTS, repeats=REPEATS, steps=STEPS, permutations=199)
PICTURE = np.kron(np.random.default_rng(0).integers(256, size=(80, 80, 3)), np.ones((2, 2, 1)))
MOVES = {"right": (0, 2), "left": (0, -2), "up": (-2, 0), "down": (2, 0), "stay": (0, 0)}


def scene(place):
    """What a camera sees of one large picture."""
    y, x = place
    return PICTURE[y : y + SIDE, x : x + SIDE].astype(np.uint8)


def dot(place):
    """A still camera's picture of a square."""
    frame = np.full((SIDE, SIDE, 3), 40, np.uint8)
    y, x = (p - 50 for p in place)
    frame[y : y + 4, x : x + 4] = 220
    return frame


def games(*ways, draw=scene):
    """Held games, and their prompts: each action goes its way, now and then it is missed."""
    rng = np.random.default_rng(1)
    held, prompts = [], []
    for _ in range(PROMPTS):
        start = 64 + rng.integers(-4, 5, 2)
        prompts.append(draw(start)[None])
        for way in ways:
            for _ in range(REPEATS):
                goes = rng.random(STEPS) < 0.9
                steps = np.cumsum(goes[:, None] * np.array(MOVES[way]), 0)
                held.append([draw(start + step) for step in steps])
    shape = (PROMPTS, len(ways), REPEATS)
    return torch.from_numpy(np.stack(held)).unflatten(0, shape), torch.from_numpy(np.stack(prompts))


@pytest.fixture(scope="module")
def groups():
    """Six actions of which two go right, two left, one up and one nowhere."""
    return group_actions(*games("right", "right", "left", "left", "up", "stay"), CONFIG, 2.0)


def test_actions_that_do_the_same_share_a_group(groups):
    members = sorted(sorted(group.actions) for group in groups.groups)
    assert members == [[0, 1], [2, 3], [4], [5]]
    assert all(group.distinct for group in groups.groups)
    assert (groups.games, groups.steps, groups.guidance) == (PROMPTS * REPEATS, STEPS, 2.0)
    assert groups.told_apart[0][2] > 0.9
    assert groups.told_apart[0][1] < 0.7


def test_groups_are_named_after_what_they_do(groups):
    names = {min(group.actions): group.name for group in groups.groups}
    assert names == {0: "right", 2: "left", 4: "up", 5: "stay"}


def test_the_effect_says_which_way_how_fast_and_in_how_many_games(groups):
    right = next(group for group in groups.groups if 0 in group.actions)
    assert right.directions.right == 1
    assert right.directions.left == right.directions.still == 0
    assert right.pixels[0] == pytest.approx(1.8, abs=0.2)
    assert right.pixels[1] == 0
    assert right.effect == (
        f"Goes right {right.pixels[0]:.1f} px a step (the scene scrolls left) in 100% "
        "(other actions 0%), of 24 games."
    )
    stay = next(group for group in groups.groups if 5 in group.actions)
    assert stay.effect == "Hardly moves in 100% (other actions 0%), of 24 games."


def test_a_named_action_stands_for_its_group_and_its_name_is_not_given_twice():
    named = ["", "go", "", "", "right", ""]
    ways = ("right", "right", "left", "left", "up", "stay")
    found = group_actions(*games(*ways), CONFIG, names=named).groups
    right = next(group for group in found if 0 in group.actions)
    assert right.actions == (1, 0)
    assert right.name == "right 2", "another action was called right"


def test_two_ways_are_one_name_and_no_clear_way_is_none():
    shares = torch.tensor([0.0, 0.7, 0.9, 0.1, 0.0])
    usual = torch.tensor([0.2, 0.3, 0.3, 0.3, 0.3])
    assert action_effects._clear_ways(shares, usual) == ["up", "right"]
    assert action_effects._clear_ways(shares, shares) == [], "as all the other actions do"
    held, prompts = games("stay", "stay", "stay")
    (group,) = group_actions(held, prompts, CONFIG).groups
    assert set(group.actions) == {0, 1, 2}
    assert not group.distinct
    assert group.effect == (
        "No clear direction; hardly moves in 100% (other actions 100%), of 24 games."
    )


def test_with_a_still_camera_what_changes_is_what_moves():
    held, prompts = games("right", "up", "left", draw=dot)
    motion, scrolls = movement(held, prompts)
    assert not scrolls
    right, up = motion.sum(3).mean((0, 2)).unbind(-1)
    assert right[0] > 5
    assert abs(right[1]) < 1
    assert right[2] < -5
    assert up[1] > 5
    found = group_actions(held, prompts, CONFIG).groups
    assert {min(group.actions): group.name for group in found} == {0: "right", 1: "up", 2: "left"}
    assert any(group.effect.startswith("Goes right ") for group in found)


class Camera:
    """A world that shows the picture from where its actions take it."""

    device = torch.device("cpu")

    def __init__(self, *ways):
        self.moves = torch.tensor([MOVES[way] for way in ways])
        self.config = SimpleNamespace(num_actions=len(ways), sampling=SamplingConfig())
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=lambda frames: frames)

    def start(self, prompt, seed):
        return torch.full((len(prompt), 2), 64)

    def step(self, places, action, sampling=None):
        places = places + self.moves[action]
        return torch.from_numpy(np.stack([scene(place) for place in places.tolist()])), places


def test_a_world_is_measured_from_held_out_frames():
    frames = np.stack([scene((64, 64))] * 40)
    episode = SimpleNamespace(start=0, length=40)
    store = SimpleNamespace(
        fps=10,
        num_frames=lambda split: 40 if split == "val" else 0,
        episodes_in_split=lambda split: [episode],
        windows=lambda starts, length: frames[np.asarray(starts)[:, None] + np.arange(length)],
    )
    config = EffectsConfig(prompts=8, steps=4, permutations=99, batch=5)
    found = measure_actions(Camera("right", "left", "left"), store, config, progress=False)
    assert found.games == 16
    names = sorted((group.name, sorted(group.actions)) for group in found.groups)
    assert names == [("left", [1, 2]), ("right", [0])]


@pytest.mark.parametrize(
    "wrong", [{"prompts": 0}, {"repeats": 1}, {"steps": 1}, {"batch": 0}, {"permutations": 1}]
)
def test_sizes_that_measure_nothing_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        EffectsConfig(**wrong)


def test_an_effect_is_never_told_of_a_way_that_no_game_went():
    """Two actions without a clear way; the first goes left in no game, and others hardly do."""
    right, up, down, left = (2.0, 0.0), (0.0, 2.0), (0.0, -2.0), (-2.0, 0.0)
    first = [right] * 1 + [up] * 5 + [down] * 4
    other = [right] * 4 + [up] * 3 + [down] * 2 + [left] * 1
    motion = torch.tensor([first, other]).transpose(0, 1)[:, :, None, None]
    effects = action_effects._Effects(motion, scrolls=True, far=1.0)
    for action in (0, 1):
        assert "nan" not in effects.describe([action], 0.5, distinct=False).effect
    usual = torch.tensor([0.03, 0.6, 0.7, 0.7, 0.3])
    assert "nan" not in effects._sentence(0, [], usual)
