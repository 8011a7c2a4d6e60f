import csv
import ctypes
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from killing import save_on_full_disks, train_here, train_on_a_full_disk, train_with_a_straggler
from lightning.pytorch.utilities import rank_zero_only
from schedules import STAGES, small_schedule

from forked import in_a_group
from genie.core.config import UserError
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training import distributed
from genie.training.distributed import (
    all_results,
    connect,
    first_alone,
    others_needed,
    rank_and_size,
    strategy_of,
    together,
)


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
    assert first_alone(lambda: "done") == together(lambda: "done") == "done"
    assert all_results(lambda: "done") == ["done"]
    with pytest.raises(RuntimeError, match="gloo"), others_needed():
        raise RuntimeError("/gloo/")  # nobody else is here, so it is no sentence for users


@pytest.fixture
def group(monkeypatch):
    """A group of processes, the second of which is this one; what each tells the others."""
    told = [(None, "one"), None]

    def exchange(found, own):
        told[1] = own
        found[:] = told

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", exchange)
    return told


def test_the_others_wait_for_what_the_first_one_does_alone(group):
    assert rank_and_size() == (1, 2)
    assert first_alone(lambda: pytest.fail("not here")) is None
    assert group[1] == (None, None)
    assert all_results(lambda: "two") == ["one", "two"]


def test_what_fails_in_one_process_fails_in_all(group):
    with pytest.raises(ZeroDivisionError):
        together(lambda: 1 / 0)
    assert group[1] == ("division by zero", None)
    group[0] = ("the disk is full", None)
    with pytest.raises(UserError, match="process 0 of 2 failed: the disk is full"):
        first_alone(lambda: None)


def test_a_disk_that_is_full_in_one_process_ends_all_with_a_sentence(tmp_path):
    assert in_a_group(2, save_on_full_disks, tmp_path) == [0, 0]
    first, second = (json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in (0, 1))
    full = "ckpt: the disk is full (No space left on device). Make room. Earlier checkpoints are"
    assert all(full in words for words in (*first[:5], *second))
    alone = [words.startswith("process ") for words in first[:5]]
    assert alone == [False, False, True, False, False]
    assert [words.startswith("process 0 of 2 failed: ") for words in second] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert first[5].startswith("another process of this training ended")


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


def trained(count, out, store, world, stages=STAGES, how=train_here, code=0, **changes):
    """The losses of a run of so many processes, all of which end with a code."""
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
    codes = in_a_group(count, how, store.path, out, world, schedule, stages, None)
    assert codes == [code] * count
    return losses_of(out)


@pytest.mark.long
def test_the_number_of_processes_and_sharded_weights_change_no_result(store, small_world, tmp_path):
    """One of two processes has no space at first, and is stopped for a second later."""
    one = trained(1, tmp_path / "one", store, small_world)
    trained(2, tmp_path / "two", store, small_world, how=train_on_a_full_disk, code=1)
    two = trained(2, tmp_path / "two", store, small_world, how=train_with_a_straggler)
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
