from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.plugins import held_jump as module
from genie.plugins.held_jump import HELD_JUMP, falls, held_jump

NAMES = ["noop", "up", "right+up"]
GROUND, RISE, FALL = 100, 3, 2
HELD = 16
PICTURE = torch.from_numpy(
    np.kron(np.random.default_rng(0).integers(256, size=(100, 16)), np.ones((2, 2)))
)


def shown(heights):
    """Frames (..., 32, 32, 3) of one large picture, seen from heights (...) above the ground."""
    flat = [PICTURE[GROUND - y : GROUND - y + 32] for y in heights.flatten().tolist()]
    frames = torch.stack(flat).unflatten(0, heights.shape)
    return frames[..., None].expand(*frames.shape, 3).to(torch.uint8)


def jump(steps):
    """Heights after so many steps of a held jump: five steps up, then down to the ground."""
    peak = 5 * RISE
    return torch.where(steps <= 5, RISE * steps, (peak - FALL * (steps - 5)).clamp_min(0))


class Jumper:
    """Action 2 jumps; the jump may never end, or never begin."""

    def __init__(self, height=jump):
        self.height, self.device = height, torch.device("cpu")
        self.config = SimpleNamespace(height=32, width=32, num_actions=4)
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=lambda frames: frames)

    def start(self, prompt, seed=0):
        return torch.zeros(len(prompt), dtype=torch.int64)

    def step(self, state, action, sampling=None):
        state = (state + 1) * (action == 2)
        return shown(self.height(state)), state


def store(height=jump, held=HELD, count=24, names=NAMES):
    """Held-out video in which a jump is held, with one step of noop before it and after it."""
    steps = (torch.arange(held + 2) - 1).clamp_min(0).expand(count, -1)
    frames = shown(height(steps)).flatten(0, 1).numpy()
    actions = torch.tensor([0, 1, *[2] * (held - 1), -1]).repeat(count)
    length = held + 2
    episodes = [
        SimpleNamespace(id=i, split="val", start=i * length, length=length) for i in range(count)
    ]
    return SimpleNamespace(
        episodes=episodes, height=32, width=32, action_names=names,
        labels=lambda: actions.numpy(),
        windows=lambda starts, n: frames[np.asarray(starts)[:, None] + np.arange(n)],
    )  # fmt: skip


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.setattr(module, "direction_actions", lambda evaluation: {"jump": 2})

    def measure(world, video=None, steps=20, **changes):
        config = replace(EvaluationConfig.quick(), batch=7, inverse_dynamics_steps=0, **changes)
        return held_jump(Evaluation(world, video or store(), config), steps)

    return measure


def verdict(section):
    (line,) = HELD_JUMP.headlines_of(section)
    return line["verdict"]


def test_a_fall_comes_after_a_rise():
    height = torch.tensor([[4, 8, 8, 4], [-4, -8, -4, -4], [4, 8, 12, 16], [-8, -4, -8, -8]])
    assert falls(height, 4).tolist() == [True, False, False, True]


def test_a_world_that_jumps_as_the_real_game_falls_with_it(measure):
    found = measure(Jumper())
    assert (found["games"], found["games_that_fall"]) == (16, 16)
    assert found["world"]["falls"]["mean"] == found["world"]["falls_in_time"]["mean"] == 1
    assert found["world"]["distance"]["mean"] == 0
    curves = found["curves"]
    assert curves["real"] == pytest.approx([*curves["world"][:HELD], *[None] * (20 - HELD)])
    assert found["random"]["falls"]["mean"] < 0.6
    assert found["still"]["distance"]["mean"] == pytest.approx(
        jump(torch.arange(1, 17)).float().mean()
    )
    assert verdict(found) == "good"


def test_a_jump_that_never_ends_does_not_fall(measure):
    found = measure(Jumper(lambda steps: RISE * steps.clamp_max(30)))
    assert found["world"]["falls"]["mean"] == 0
    assert found["world"]["distance"]["mean"] > found["still"]["distance"]["mean"]
    assert verdict(found) == "poor"


def test_a_fall_after_the_player_let_go_is_late(measure):
    found = measure(Jumper(lambda steps: jump((steps - HELD).clamp_min(0))), steps=30)
    assert found["world"]["falls"]["mean"] == 1
    assert found["world"]["falls_in_time"]["mean"] == 0


def test_longer_prompts_lie_within_the_episode(measure):
    assert measure(Jumper(), prompt_frames=2)["games"] == 16
    with pytest.raises(Skipped, match="0 real games fall"):
        measure(Jumper(), prompt_frames=3)


def test_real_games_that_rise_only_have_nothing_to_compare_with(measure):
    with pytest.raises(Skipped, match="0 real games fall"):
        measure(Jumper(), store(lambda steps: RISE * steps))
    with pytest.raises(Skipped, match="0 real games fall"):
        measure(Jumper(), store(held=module.MIN_HOLD - 1))


def test_without_named_true_actions_it_is_skipped(measure):
    video = store()
    video.action_names = None
    with pytest.raises(Skipped, match="names, are not known"):
        measure(Jumper(), video)
