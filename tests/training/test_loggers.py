import csv
import json
import sys
from types import ModuleType

import numpy as np
import pytest
from lightning.pytorch.loggers import WandbLogger
from schedules import small_schedule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genie.core.config import UserError, from_record, to_dict
from genie.presets.schedule import TrainConfig
from genie.training import loggers
from genie.training.loggers import (
    build_loggers,
    close_loggers,
    log_images,
    log_scalars,
    log_warning,
)
from genie.training.pipeline import train

IMAGE = np.zeros((4, 6, 3), np.uint8)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_scalars_go_to_every_logger(tmp_path):
    both = build_loggers(("tensorboard", "csv"), tmp_path, "tokenizer", 0)
    log_scalars(both, {"loss": 0.5}, 3)
    log_scalars(both, {"loss": 0.25, "psnr": 20.0}, 6)
    log_images(both, {"clip": IMAGE}, 6)
    log_warning(both, "It is ill.", 6)
    for logger in both:
        logger.save()
    events = EventAccumulator(str(tmp_path / "logs" / "tokenizer")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5), (6, 0.25)]
    assert events.Tags()["images"] == ["clip"]
    assert events.Tags()["tensors"] == ["warnings/text_summary"]
    rows = rows_of(tmp_path / "logs" / "csv" / "tokenizer-from-0000000" / "metrics.csv")
    assert [(row["step"], row["loss"], row["psnr"]) for row in rows] == [
        ("3", "0.5", ""),
        ("6", "0.25", "20.0"),
    ]


def test_a_resumed_stage_keeps_the_rows_before(tmp_path):
    for step in (0, 10, 10):
        made = build_loggers(("csv",), tmp_path, "tokenizer", step)
        log_scalars(made, {"loss": float(step)}, step + 5)
        made[0].save()
    files = sorted((tmp_path / "logs" / "csv").glob("*/metrics.csv"))
    assert [[row["step"] for row in rows_of(file)] for file in files] == [["5"], ["15"]]


def test_a_run_writes_csv_files(store, small_world, tmp_path):
    plan = small_schedule(loggers=("csv",))
    out = train(store, tmp_path / "run", world=small_world, train=plan, stages=("tokenizer",))
    rows = rows_of(out / "logs" / "csv" / "tokenizer-from-0000000" / "metrics.csv")
    assert [row["step"] for row in rows if row["loss"]] == ["5", "10"]
    assert not (out / "logs" / "tokenizer").exists()
    recorded = json.loads((out / "train.json").read_text())["train"]
    assert from_record(TrainConfig, recorded).loggers == ("csv",)


def test_an_unknown_logger_is_named():
    values = to_dict(small_schedule()) | {"loggers": ["tensorboard", "paper"]}
    with pytest.raises(UserError, match="loggers"):
        from_record(TrainConfig, values)


def test_without_wandb_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'genie-worlds\[wandb\]'"):
        build_loggers(("wandb",), tmp_path, "tokenizer", 0)


class FakeRun:
    def __init__(self, **settings):
        self.settings, self.logged, self.finished = settings, [], False
        self.id, self.name = settings["id"], settings["name"]

    def define_metric(self, *_, **__):
        pass

    def log(self, values, **_):
        self.logged.append(values)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module in the place of wandb, which opens no connection."""
    runs, fake = [], ModuleType("wandb")

    def init(**settings):
        fake.run = FakeRun(**settings)
        runs.append(fake.run)
        return fake.run

    fake.run, fake.init = None, init
    fake.Image = lambda image, **_: ("image", image.shape)
    fake.Table = lambda **table: ("table", table["data"])
    fake.require = lambda feature: None
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("wandb.sdk", "wandb.sdk.lib", "wandb.wandb_run"):
        module = ModuleType(name)
        module.Run = module.RunDisabled = FakeRun
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(loggers, "find_spec", lambda name: fake)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return runs


def test_weights_and_biases_gets_scalars_images_and_warnings(wandb, tmp_path):
    made = build_loggers(("wandb",), tmp_path / "run", "tokenizer", 0)
    assert isinstance(made[0], WandbLogger)
    log_scalars(made, {"loss": 0.5}, 3)
    log_images(made, {"clip": IMAGE}, 3)
    log_warning(made, "It is ill.", 3)
    close_loggers(made)
    (run,) = wandb
    assert (run.settings["project"], run.name) == ("genie", "run-tokenizer")
    assert run.logged[0] == {"loss": 0.5, "trainer/global_step": 3}
    assert run.logged[1]["clip"] == [("image", (4, 6, 3))]
    assert run.logged[2]["warnings"] == ("table", [["3", "It is ill."]])
    assert run.finished


def test_a_resumed_stage_goes_on_with_its_run(wandb, tmp_path):
    for step in (0, 10, 0):
        log_scalars(build_loggers(("wandb",), tmp_path, "tokenizer", step), {"loss": 1.0}, step)
        sys.modules["wandb"].run = None
    first, resumed, anew = wandb
    assert first.id == resumed.id != anew.id
