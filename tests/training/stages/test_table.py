"""Another stage is one class and a field of the schedule: shown with one that learns brightness."""

from dataclasses import fields, make_dataclass

import torch
from schedules import small_schedule
from torch import nn

from genie.presets.schedule import StageConfig, TrainConfig
from genie.training.batches import FrameBatches
from genie.training.checkpointing import read_checkpoint
from genie.training.pipeline import train
from genie.training.reporting import Diagnostic
from genie.training.stages.base import Stage, StageInputs
from genie.training.stages.table import TABLE, find_stages


class Brightness(nn.Module):
    """Predicts the mean of a frame, from no knowledge but a bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def loss(self, frames, progress=1.0):
        error = self.bias - frames.float().mean() / 255
        return error.square().sum(), {"bias": self.bias[0]}


class BrightnessStage(Stage):
    name, needs, optional = "brightness", ("tokenizer",), True

    def __init__(self):
        self.trained, self.reported = Brightness(), False

    def model(self, world, train):
        return self.trained

    def inputs(self, context):
        stage = self.config(context.run.train)
        return StageInputs(
            FrameBatches(context.store, stage.clip_frames, stage.batch_size),
            diagnose=lambda model: [Diagnostic("bias", model.bias.item())],
        )

    def report(self, context):
        self.reported = True


WithBrightness = make_dataclass(
    "WithBrightness",
    [("brightness", StageConfig, StageConfig())],
    bases=(TrainConfig,),
    frozen=True,
)


def schedule_with(stage):
    values = {row.name: getattr(small_schedule(), row.name) for row in fields(TrainConfig)}
    return WithBrightness(**values, brightness=stage)


def test_stages_are_those_of_the_schedule_in_its_order():
    assert (
        list(find_stages())
        == list(TrainConfig().stages)
        == [*("tokenizer", "actions", "dynamics", "reward")]
    )
    before = set()
    for name, stage in TABLE.items():
        assert stage.name == name
        assert set(stage.needs) <= before
        before.add(name)


def test_another_stage_trains_after_those_that_it_needs(store, small_world, tmp_path, monkeypatch):
    stage = BrightnessStage()
    monkeypatch.setitem(TABLE, "brightness", stage)
    monkeypatch.setattr("genie.training.config.STAGES", tuple(TABLE))
    plan = schedule_with(StageConfig(steps=40, batch_size=4, clip_frames=4, learning_rate=1e-2))
    out = tmp_path / "run"
    train(store, out, world=small_world, train=plan, stages=("tokenizer", "brightness"))
    assert stage.reported
    assert read_checkpoint(out / "checkpoints" / "brightness.ckpt")["step"] == 40
    assert stage.trained.bias.item() > 0.1
    assert (out / "logs" / "brightness").is_dir()


def test_a_stage_that_is_optional_and_has_no_budget_is_left_out(
    store, small_world, tmp_path, monkeypatch
):
    monkeypatch.setitem(TABLE, "brightness", BrightnessStage())
    monkeypatch.setattr("genie.training.config.STAGES", tuple(TABLE))
    out = tmp_path / "run"
    plan = schedule_with(StageConfig())
    train(store, out, world=small_world, train=plan, stages=("tokenizer", "brightness"))
    assert not (out / "checkpoints" / "brightness.ckpt").exists()
