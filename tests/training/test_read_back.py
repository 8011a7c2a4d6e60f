from dataclasses import replace
from functools import partial

import pytest
import torch
from grey_tokenizer import GreyTokenizer
from schedules import small_schedule

from genie.core.config import UserError
from genie.models.dynamics import Dynamics, DynamicsConfig
from genie.models.latent_actions.pair import PairActionConfig, PairActionModel
from genie.presets.schedule import ReadBack
from genie.training.pipeline import train
from genie.training.previews import replace_dynamics
from genie.training.read_back import ReadBackModel
from genie.training.stages.dynamics import STAGE
from genie.world.genie import Genie

ACTIONS = 4
ON = ReadBack(weight=1.0, rollouts=4, steps=2, passes=1)


class FirstPatch(PairActionModel):
    """Reads an action off the grey level of the first patch of the frame that it led to."""

    def infer(self, frames):
        return frames[:, 1:, 0, 0, 0].long() // 16 % self.num_actions


@pytest.fixture
def model() -> ReadBackModel:
    torch.manual_seed(0)
    config = DynamicsConfig(layers=1, width=32, heads=2, window=3, context_corruption=0.0)
    tokenizer = GreyTokenizer()
    dynamics = Dynamics(config, tokenizer.grid, tokenizer.vocabulary, ACTIONS)
    reader = FirstPatch(PairActionConfig(), (16, 16), ACTIONS)
    return ReadBackModel(dynamics, tokenizer, reader, ON)


def noise(clips: int, frames: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Videos without any trace of the actions."""
    return torch.randint(16, (clips, frames, 4)), torch.randint(ACTIONS, (clips, frames - 1))


def test_the_share_of_actions_that_are_read_rises(model):
    """The videos say nothing of actions, so all that is learned of them is by the reward."""
    model.train().config = replace(ON, weight=30.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    seen = []
    for _ in range(40):
        loss, logs = model.loss(*noise(16))
        seen.append(logs["read_back"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(seen[:5]) / 5 == pytest.approx(1 / ACTIONS, abs=0.12)
    assert sum(seen[-5:]) / 5 > 0.55


def test_the_best_rollout_is_one_that_goes_on_from_the_clip(model):
    tokens, actions = noise(8, frames=9)
    best, played, mean, gain = model.best_rollouts(tokens, actions)
    assert torch.equal(best[:, :3], tokens[:, -5:-2])  # a window before the rollout
    assert torch.equal(played[:, :2], actions[:, -4:-2])
    read = model._scores(best, played)
    torch.testing.assert_close(read, mean + gain)
    assert (gain >= 0).all()
    assert gain.any()


@pytest.mark.parametrize("held", [0.0, 1.0])
def test_rollouts_hold_one_action_or_repeat_the_clip(model, held):
    model.config = replace(ON, held_fraction=held)
    tokens, actions = noise(32)
    played = model.best_rollouts(tokens, actions)[1]
    assert torch.equal(played, actions) == (held == 0)
    assert (played[:, -1] == played[:, -2]).all() == (held == 1)


def test_only_the_weight_of_a_frame_makes_it_count(model):
    tokens, actions = noise(8)
    loss = partial(model.dynamics.train().weighted_loss, tokens, actions)

    def at(weights: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return loss(weights)

    ones = torch.ones(8, 3)
    assert at(ones * 0) == 0
    torch.testing.assert_close(at(2 * ones), 2 * at(ones))
    first = torch.eye(3)[0].expand(8, -1)
    torch.testing.assert_close(at(first) + at(ones - first), at(ones))


def test_the_models_that_score_are_neither_trained_nor_saved(small_world):
    world = Genie(small_world)
    found = STAGE.model(world, small_schedule(read_back=ON))
    assert isinstance(found, ReadBackModel)
    assert all(name.startswith("dynamics.") for name in found.state_dict())
    assert replace_dynamics(world, found).dynamics is world.dynamics
    assert STAGE.model(world, small_schedule()) is world.dynamics


def test_a_run_with_it_logs_the_scores(finished, store, console, tmp_path):
    schedule = small_schedule(read_back=ON, loggers=("csv",))
    empty = replace(schedule.tokenizer, steps=0)
    steps = {"tokenizer": empty, "actions": empty, "dynamics": replace(schedule.dynamics, steps=5)}
    train(store, tmp_path, train=replace(schedule, **steps), base=finished, console=console)
    rows = [path.read_text() for path in (tmp_path / "logs").rglob("*.csv")]
    assert any("read_back_gain" in row for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"read_back": replace(ON, steps=4)}, "clip_frames"),
        ({"read_back": ON, "joint": True}, "joint"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        small_schedule(**change)


@pytest.mark.parametrize(
    "change",
    [{"weight": -1.0}, {"rollouts": 1}, {"steps": 0}, {"passes": 0}, {"held_fraction": 2.0}],
)
def test_impossible_settings_name_the_field(change):
    with pytest.raises(UserError, match=next(iter(change))):
        ReadBack(**change)
