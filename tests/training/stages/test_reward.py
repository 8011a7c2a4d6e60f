"""Heads learn from the record of a real game, and are saved beside the world."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded import made_recording
from schedules import small_schedule

from genie.core.config import UserError, from_dict
from genie.data.store import ClipStore
from genie.presets.schedule import RewardStageConfig, StageConfig
from genie.training.finetune import finetune_schedule
from genie.training.pipeline import train
from genie.training.stages.reward import evidence_of_labels, labelled_episodes
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.replay import world_hash
from genie.world.reward_figures import measure_reward
from genie.world.reward_model import RewardModel
from sharing import once
from small import TINY

WORLD = {**TINY, "height": 64, "width": 64}
STAGE = RewardStageConfig(steps=12, batch_size=8, learning_rate=1e-2, final_learning_rate=1e-2)
OFF = StageConfig()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    pytest.importorskip("procgen")
    return ClipStore.open(once(tmp_path_factory, "recording", made_recording) / "store")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    world = Genie(from_dict(GenieConfig, WORLD)).eval()
    world.actions.quantizer.placed.fill_(True)
    folder = tmp_path_factory.mktemp("base")
    world.save_pretrained(folder)
    return folder


def schedule(**changes):
    off = {"tokenizer": OFF, "actions": OFF, "dynamics": OFF}
    return small_schedule(**off, reward=replace(STAGE, **changes))


def test_heads_are_trained_beside_a_world_that_stays_as_it_is(recording, base, tmp_path, console):
    out = tmp_path / "run"
    train(
        recording, out, base=base, train=schedule(), stages=["reward"], console=console,
    )  # fmt: skip
    world = Genie.from_pretrained(out)
    assert world_hash(world) == world_hash(Genie.from_pretrained(base))
    RewardModel.from_pretrained(out, world)
    report = json.loads((out / "reward" / "report.json").read_text())
    assert report["split"] == "val"
    assert report["steps"] == recording.num_frames("val")
    assert {"auc", "brier", "brier_constant", "calibration_error"} <= report["end"].keys()
    told = console.file.getvalue()
    assert "reward heads on" in told
    assert "Brier score" in told
    again = measure_reward(world, RewardModel.from_pretrained(out).heads, recording, "val")
    assert again == report
    assert 0 < report["end"]["predicted"] < 0.2  # new heads say a half


def test_the_true_action_of_a_last_step_tells_of_its_latent_action(recording):
    labels = recording.labels(last=True)
    last = np.array([e.start + e.length - 1 for e in recording.episodes])
    ended = recording.ends()[last] == 1
    assert ended.any()
    assert (labels[last[ended]] >= 0).all()
    actions = np.where(recording.labels() >= 0, recording.labels() % 4, -1)
    evidence = evidence_of_labels(recording, actions, 4)
    assert (evidence[last[ended]].argmax(1) == labels[last[ended]] % 4).all()
    assert (evidence[labels < 0] == 0).all()


def test_so_many_labelled_episodes_are_used(recording):
    chosen = labelled_episodes(recording, replace(STAGE, episodes=3), seed=0)
    assert len(chosen) == 3
    assert {e.split for e in chosen} == {"train"}
    with pytest.raises(UserError, match=r"train.reward.episodes: 99, but .* has \d+ training"):
        labelled_episodes(recording, replace(STAGE, episodes=99), seed=0)


def test_a_store_without_rewards_is_refused(store, small_world, tmp_path, console):
    torch.manual_seed(0)
    world = Genie(small_world)
    world.actions.quantizer.placed.fill_(True)
    world.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="no rewards and ends; prepare videos that have sidecar"):
        train(
            store, tmp_path / "run", base=tmp_path / "base", train=schedule(), stages=["reward"],
            console=console,
        )  # fmt: skip


def test_its_learning_rate_is_not_that_of_trained_models():
    before = small_schedule(reward=STAGE)
    assert finetune_schedule(before).reward == STAGE
    assert finetune_schedule(before).tokenizer.learning_rate < before.tokenizer.learning_rate
