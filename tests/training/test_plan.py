import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from genie.core.config import UserError, from_dict
from genie.presets import registry
from genie.presets.preset import Preset
from genie.presets.schedule import StageConfig, TrainConfig
from genie.training import plan as planning
from genie.training.plan import GPUS, Cluster, Gpu, StagePlan, bytes_per_frame, plan, what_would_fit
from genie.world.config import GenieConfig
from small import TINY

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
benchmark = importlib.import_module("plan")

STAGE = StageConfig(steps=100, batch_size=2, clip_frames=3)
TRAIN = TrainConfig(tokenizer=STAGE, actions=STAGE, dynamics=STAGE)
WORLD = from_dict(GenieConfig, TINY)


@pytest.fixture(scope="module")
def alone():
    """The dynamics on one GPU."""
    return StagePlan("dynamics", WORLD, TRAIN, Cluster(devices=1))


@pytest.fixture(scope="module")
def two():
    """The dynamics on two GPUs."""
    return StagePlan("dynamics", WORLD, TRAIN, Cluster(devices=2))


@pytest.mark.parametrize("name", ["actions", "dynamics"])
def test_the_peak_is_that_of_a_real_step_on_the_cpu(name, monkeypatch):
    monkeypatch.setattr(registry, "get", lambda _: Preset("", WORLD, TRAIN))
    assert benchmark.compare("", name, clips=4)["ratio"] == pytest.approx(1, abs=0.1)


def test_sharding_divides_all_but_the_activations(alone, two):
    weights = 4 * alone.parameters
    whole = alone.memory("ddp")
    assert alone.strategies == ("ddp",)
    assert (whole.gradients, whole.optimizer, whole.exchange) == (weights, 2 * weights, 0)
    copied, shared = (two.memory(name) for name in two.strategies)
    assert copied.exchange == weights
    assert shared.optimizer == pytest.approx(weights, abs=64)
    assert shared.gradients == pytest.approx(weights / 2, abs=64)
    assert (alone.clips, two.clips) == (2, 1)
    assert alone.cost.flops == pytest.approx(2 * two.cost.flops, rel=0.05)


def test_muon_keeps_one_moment_and_whole_matrices(two):
    train = replace(TRAIN, dynamics=replace(STAGE, optimizer="muon"))
    muon = StagePlan("dynamics", WORLD, train, two.cluster)
    assert muon.strategies == ("ddp",)
    vars(muon)["cost"] = two.cost
    assert muon.memory("ddp").optimizer < two.memory("ddp").optimizer


def test_time_and_data_follow_from_the_work(alone):
    rate = 0.4 * GPUS["h100"].fp32
    assert alone.seconds == pytest.approx(alone.cost.flops / rate)
    assert alone.bytes_per_second == pytest.approx(2 * 3 * (8 + 8) / alone.seconds)
    assert bytes_per_frame(WORLD) == {"frames": 768, "tokens": 8, "actions": 8}
    assert alone.steps == 100
    timed = replace(TRAIN, dynamics=replace(STAGE, steps=0, minutes=1))
    other = StagePlan("dynamics", WORLD, timed, alone.cluster)
    vars(other)["cost"] = alone.cost
    assert other.steps == round(60 / alone.seconds)


def test_what_does_not_fit_is_told_what_would(alone, monkeypatch):
    total = alone.memory("ddp").total
    monkeypatch.setitem(GPUS, "h100", Gpu(0.95 * total / planning.USABLE, 1.0, 1.0))
    assert not alone.fits("ddp")
    assert what_would_fit(alone).startswith("activation_checkpointing of dynamics (ddp")
    monkeypatch.setattr(StagePlan, "fits", lambda *_: False)
    assert what_would_fit(alone) == ""


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="2 clips do not divide by 3 GPUs"):
        StagePlan("dynamics", WORLD, TRAIN, Cluster(devices=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": "x"}, "none of h100"),
        ({"nodes": 0}, "nodes"),
        ({"utilisation": 0.0}, "utilisation"),
    ],
)
def test_machines_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Cluster(**settings)


def test_stages_without_a_budget_are_left_out(alone):
    train = replace(TRAIN, actions=StageConfig())
    stages = plan(WORLD, train, alone.cluster, ("actions", "dynamics"))
    assert [stage.name for stage in stages] == ["dynamics"]
    joint = replace(TRAIN, joint=True)
    [stage] = plan(WORLD, joint, alone.cluster, ("actions", "dynamics"))
    assert stage.parameters > alone.parameters
    vars(stage)["cost"] = alone.cost
    assert stage.bytes_per_second * stage.seconds == pytest.approx(2 * 3 * (768 + 16))
