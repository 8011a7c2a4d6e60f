import csv
import ctypes
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from killing import train_here
from lightning.pytorch.utilities import rank_zero_only
from schedules import STAGES, small_schedule

from forked import in_a_group
from genie.core.config import UserError
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training import distributed
from genie.training.distributed import connect, first_alone, rank_and_size, strategy_of


@pytest.mark.parametrize(
    ("accelerator", "devices", "nodes", "several"),
    [
        ("cpu", "auto", 1, False),
        ("cpu", 1, 1, False),
        ("cpu", 2, 1, True),
        ("cpu", 1, 2, True),
        ("cuda", 8, 1, True),
    ],
)
def test_weights_may_lack_gradients_on_several_devices(accelerator, devices, nodes, several):
    train = TrainConfig(accelerator=accelerator, devices=devices, nodes=nodes)
    assert ("find_unused" in strategy_of(train)) is several


def test_one_process_is_the_first_and_only_one(monkeypatch):
    monkeypatch.setattr(distributed, "build_trainer", None)
    connect(TrainConfig(accelerator="cpu"))
    assert rank_and_size() == (0, 1)
    assert first_alone(lambda: "done") == "done"


@pytest.fixture
def group(monkeypatch):
    """A group of processes, the second of which is this one."""
    waits = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "barrier", lambda: waits.append(1))
    return waits


def test_the_others_wait_for_what_the_first_one_does_alone(group):
    assert rank_and_size() == (1, 2)
    assert first_alone(lambda: pytest.fail("not here")) is None
    assert group


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of the second of three processes, as torchrun sets it."""
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which Lightning sets to this one's number
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "3",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)


def test_another_number_of_processes_than_the_settings_say_is_refused(torchrun):
    with pytest.raises(UserError, match=r"train\.nodes, train\.devices: .*world size \(3\)"):
        connect(TrainConfig(accelerator="cpu", devices=2))


def test_torchrun_says_how_many_devices_a_machine_has(torchrun):
    assert "ddp" in strategy_of(TrainConfig(accelerator="cpu"))


def test_a_process_that_lightning_started_ends_with_the_one_that_started_it(monkeypatch):
    asked = []

    class Library:
        prctl = staticmethod(lambda *arguments: asked.append(arguments))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr("sys.platform", "linux")
    distributed._end_with_parent()
    assert not asked
    monkeypatch.setattr(os, "environ", {"LOCAL_RANK": "1"})
    distributed._end_with_parent()
    assert asked == [(1, signal.SIGTERM)]


def losses_of(run: Path) -> dict[str, list[float]]:
    """What each stage logged."""
    rows: dict[str, list[float]] = {}
    for path in sorted((run / "logs" / "csv").glob("*/metrics.csv")):
        with path.open() as file:
            stage = path.parent.name.partition("-")[0]
            rows.setdefault(stage, []).extend(float(row["loss"]) for row in csv.DictReader(file))
    return rows


def trained(count, out, store, world, stages=STAGES, **changes):
    """The losses of a run of so many processes."""
    stage = {"batch_size": 4, "clip_frames": 4, "learning_rate": 1e-3, "warmup_steps": 2}
    plain = StageConfig(steps=changes.pop("steps", 4), lr_schedule="constant", **stage)
    parts = replace(plain, grad_accum_steps=2)
    schedule = small_schedule(
        tokenizer=plain,
        actions=plain,
        dynamics=parts,
        loggers=("csv",),
        log_every=1,
        devices=count,
        **changes,
    )
    assert in_a_group(count, train_here, store.path, out, world, schedule, stages, None) == (
        [0] * count
    )
    return losses_of(out)


@pytest.mark.long
def test_the_number_of_processes_and_sharded_weights_change_no_result(store, small_world, tmp_path):
    one = trained(1, tmp_path / "one", store, small_world)
    two = trained(2, tmp_path / "two", store, small_world)
    sharded = tmp_path / "sharded"
    stages = ("tokenizer",)
    trained(2, sharded, store, small_world, stages, steps=2, strategy="fsdp")
    assert len(list((sharded / "checkpoints" / "tokenizer.ckpt").glob("*.distcp"))) == 2
    resumed = trained(1, sharded, store, small_world, stages, strategy="fsdp")
    assert one.keys() == set(STAGES)
    for name in STAGES:
        assert len(one[name]) == 4
        assert two[name] == pytest.approx(one[name], abs=1e-5)
    assert resumed == {"tokenizer": pytest.approx(one["tokenizer"], abs=1e-5)}
