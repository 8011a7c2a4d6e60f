import os
import random
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from schedules import STAGES, small_schedule

from genie.cli.main import main
from genie.core.config import UserError, from_dict, to_dict
from genie.evaluation.config import CoherenceConfig, EvaluationConfig, SeparationConfig
from genie.evaluation.evaluate import evaluate
from genie.training import pipeline
from genie.training.batches import FrameBatches
from genie.training.checkpointing import read_checkpoint, write_checkpoint
from genie.training.interrupts import Stopped
from genie.training.pipeline import train
from genie.world.config import GenieConfig
from genie.world.genie import Genie

WEIGHTS = "model.safetensors"


def flat(value):
    """All tensors and numbers of a nested state."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, list) else [value]


def assert_same_state(one, other):
    for mine, yours in zip(flat(one), flat(other), strict=True):
        same = torch.equal(mine, yours) if isinstance(mine, torch.Tensor) else mine == yours
        assert same


@pytest.mark.long
def test_a_killed_run_ends_as_the_uninterrupted_one(
    store, small_world, schedule, processes, tmp_path
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = schedule.tokenizer.steps
    assert processes(store.path, whole, small_world, schedule, STAGES, None) == 0
    for stage in STAGES:
        for first in (0, steps // 2):
            kill_at = random.SystemRandom().uniform(first, first + steps // 2 - 1)
            arguments = (store.path, killed, small_world, schedule, (stage,), kill_at)
            assert processes(*arguments) == -9, f"not killed at {kill_at}"
        assert processes(store.path, killed, small_world, schedule, (stage,), None) == 0
        states = [read_checkpoint(run / "checkpoints" / f"{stage}.ckpt") for run in (whole, killed)]
        for part in ("step", "model", "average", "optimizer"):
            assert_same_state(*(state[part] for state in states))
    assert_same_state(load_file(whole / WEIGHTS), load_file(killed / WEIGHTS))


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("trained") / "run")


def test_weights_of_other_models_are_named(trained, store, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    path = out / "checkpoints" / "tokenizer.ckpt"
    state = read_checkpoint(path)
    state["average"] = {"other": torch.zeros(1)}
    write_checkpoint(path, state)
    with pytest.raises(UserError, match=r"tokenizer\.ckpt: does not fit the model"):
        train(store, out)


def test_a_store_becomes_a_world_that_plays(trained, store):
    world = Genie.from_pretrained(trained, device="cpu")
    assert world.config.fps == store.fps
    prompt = sorted((trained / "prompts").iterdir())[0]
    assert world.generate(prompt, actions=[0, 1, 2]).shape == (4, 16, 16, 3)


def test_the_world_is_the_averaged_weights(trained):
    world = Genie.from_pretrained(trained, device="cpu")
    for stage in STAGES:
        state = read_checkpoint(trained / "checkpoints" / f"{stage}.ckpt")
        assert_same_state(getattr(world, stage).state_dict(), state["average"])
        with pytest.raises(AssertionError):
            assert_same_state(state["model"], state["average"])


def test_tensorboard_gets_scalars_and_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pictures = {
        "tokenizer": {"reconstructions", "codebook_use"},
        "actions": {"each_action_from_one_frame", "action_use"},
        "dynamics": {"rollouts", "each_action_held"},
    }
    rollouts = {"action_effect", "rollout_gain_over_copying", "rollout_motion_ratio"}
    expected = {
        "tokenizer": {"codebook_usage"},
        "actions": {"latent_gain"},
        "dynamics": rollouts,
    }
    for stage, names in pictures.items():
        events = EventAccumulator(str(trained / "logs" / stage)).Reload()
        assert set(events.Tags()["images"]) == names
        assert {"loss", "learning_rate", "steps_per_second"} <= set(events.Tags()["scalars"])
        assert [event.step for event in events.Scalars("loss")] == [5, 10]
        assert any(name.startswith("val/") for name in events.Tags()["scalars"])
        found = {name for name in events.Tags()["scalars"] if name.startswith("diagnostics/")}
        assert found == {f"diagnostics/{name}" for name in expected[stage]}


def test_a_finished_run_is_left_alone(trained, store, console):
    before = load_file(trained / WEIGHTS)
    train(store, trained, console=console)  # its settings are in the folder
    assert_same_state(load_file(trained / WEIGHTS), before)


def test_only_the_dynamics_go_on_when_the_budget_grows(trained, store, console, tmp_path):
    run = shutil.copytree(trained, tmp_path / "copy")
    longer = replace(small_schedule().dynamics, steps=12)
    stages = {name: replace(small_schedule().tokenizer, steps=12) for name in STAGES[:2]}
    train(store, run, train=small_schedule(dynamics=longer, **stages), console=console)
    steps = [read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["step"] for name in STAGES]
    assert steps == [10, 10, 12]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, r"train\.seed 0 \(now 5\)"),
        ({"preset": "small"}, "64x64"),
        ({"stages": ("tokeniser",)}, "none of tokenizer"),
        ({"minutes": 0.0}, "above 0"),
        ({"device": "tpu"}, "none of auto"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trained, store, console, change, message):
    with pytest.raises(UserError, match=message):
        train(store, trained, console=console, **change)


def test_dynamics_alone_need_the_others(store, small_world, schedule, console, tmp_path):
    with pytest.raises(UserError, match="'tokenizer' has not run here"):
        train(
            store,
            tmp_path,
            world=small_world,
            train=schedule,
            stages=("dynamics",),
            console=console,
        )


def test_a_checkpoint_of_other_tokens_is_refused(trained, store, console, tmp_path):
    run = shutil.copytree(trained, tmp_path / "copy")
    for path in (run / "checkpoints").glob("tokenizer.ckpt*"):
        path.unlink()
    keep = (run / "checkpoints" / "dynamics.ckpt").rename(run / "dynamics.ckpt")
    schedule = small_schedule(tokenizer=replace(small_schedule().tokenizer, steps=3))
    train(store, run, train=schedule, stages=("tokenizer",), console=console)
    keep.rename(run / "checkpoints" / "dynamics.ckpt")
    with pytest.raises(UserError, match="other models"):
        train(store, run, train=schedule, console=console)


def test_frozen_parts_stay_as_they_are(
    store, small_world, schedule, console, tmp_path, monkeypatch
):
    def others(world, stage):
        return {n: v.clone() for n, v in world.state_dict().items() if not n.startswith(stage)}

    seen = []
    run_stage = pipeline.run_stage

    def watching(run, name, model, read, **options):
        before = others(running[0].world, name)

        def spying(place):
            modes = {n: m.training for n, m in running[0].world.named_children() if n != name}
            seen.append((name, modes))
            return read(place)

        run_stage(run, name, model, spying, **options)
        assert_same_state(before, others(running[0].world, name))

    running = []
    begin = pipeline._Pipeline.__init__
    monkeypatch.setattr(
        pipeline._Pipeline,
        "__init__",
        lambda self, *a: (begin(self, *a), running.append(self))[0],
    )
    monkeypatch.setattr(pipeline, "run_stage", watching)
    train(store, tmp_path, world=small_world, train=schedule, console=console)
    assert {name for name, _ in seen} == set(STAGES)
    assert not any(mode for _, modes in seen for mode in modes.values())


def test_joint_training_trains_actions_and_dynamics(
    store, small_world, schedule, console, tmp_path
):
    schedule = replace(schedule, joint=True, previews_every=10)
    with pytest.raises(UserError, match="continuous_fraction"):
        train(store, tmp_path / "run", world=small_world, train=schedule, console=console)
    actions = replace(small_world.actions, continuous_fraction=0)
    small_world = replace(small_world, actions=actions)
    out = train(store, tmp_path / "run", world=small_world, train=schedule, console=console)
    assert not (out / "checkpoints" / "actions.ckpt").exists()
    torch.manual_seed(schedule.seed)
    fresh, world = Genie(small_world), Genie.from_pretrained(out, device="cpu")
    for name in STAGES:
        before, after = (list(getattr(w, name).parameters()) for w in (fresh, world))
        assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    train(store, out, console=console)


def test_a_stop_request_saves_and_says_how_to_go_on(
    store, small_world, schedule, console, tmp_path, monkeypatch
):
    read = FrameBatches.__call__

    def interrupting(self, place):
        if place.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, place)

    arguments = {"world": small_world, "train": schedule, "console": console}
    with monkeypatch.context() as patch:
        patch.setattr(FrameBatches, "__call__", interrupting)
        with pytest.raises(Stopped) as stopped:
            train(store, tmp_path / "a", stages=("tokenizer",), **arguments)
    assert stopped.value.code == 143
    assert "the same command goes on" in console.file.getvalue()
    assert read_checkpoint(tmp_path / "a" / "checkpoints" / "tokenizer.ckpt")["step"] < 10
    for run in "ab":
        train(store, tmp_path / run, stages=("tokenizer",), **arguments)
    assert_same_state(load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS))


def test_prompts_are_held_out_frames(trained, store):
    held_out = {store.read(int(i), 1)[0].tobytes() for i in store.frames_in_split("val")}
    for path in (trained / "prompts").iterdir():
        assert np.asarray(Image.open(path)).tobytes() in held_out


@pytest.mark.usefixtures("short_detector")
@pytest.mark.parametrize("backbone", ["conv", "conv3d"])
def test_a_world_with_convolutions_is_trained_played_and_measured(
    backbone, store, small_world, schedule, capsys, tmp_path
):
    """By the commands, from a configuration file and options."""
    file, out = tmp_path / "small.yaml", tmp_path / "world"
    values = to_dict(small_world) | {"train": to_dict(schedule)}
    del values["tokenizer"]
    file.write_text(yaml.safe_dump(values))
    chosen = {"backbone": backbone, "channels": 8, "residual_blocks": 1, "patch": 4}
    chosen |= {"quantizer.kind": "fsq", "quantizer.codes": 64}
    options = [f"--tokenizer.{key}={value}" for key, value in chosen.items()]
    options += [f"--train.{stage}.steps=2" for stage in STAGES]
    data = str(store.path)
    assert main(["train", "--data", data, "--out", str(out), "--config", str(file), *options]) == 0
    assert "the world is ready" in capsys.readouterr().out
    world = Genie.from_pretrained(out, device="cpu")
    assert world.config.tokenizer.backbone == backbone
    assert world.tokenizer.grid == (4, 4)
    clip = tmp_path / "clip.gif"
    assert main(["generate", str(out), "--actions", "0,1,2", "--out", str(clip)]) == 0
    assert clip.stat().st_size > 0
    few = replace(
        EvaluationConfig.quick(),
        clips=2,
        horizon=2,
        closed_loop_games=2,
        closed_loop_steps=2,
        action_selection_games=2,
        inverse_dynamics_steps=0,
        action_steps=2,
        action_prompts=1,
        separation=SeparationConfig(states=2, permutations=19),
        coherence=CoherenceConfig(rollouts=((1, 16),), real_frames=20),
    )
    report = evaluate(out, store, tmp_path / "report", config=few, progress=False)
    assert report["tokenizer"]["codebook"]["size"] == 64


BUDGET = {"steps": 2, "minutes": 0, "batch_size": 2, "clip_frames": 4}


def test_a_world_by_the_papers_rules_is_trained_and_played(store, capsys, tmp_path):
    out, clip = tmp_path / "world", tmp_path / "clip.gif"
    sizes = {"layers": 1, "width": 16, "heads": 2, "window": 4}
    parts = ("tokenizer.encoder", "tokenizer.decoder", "actions.encoder", "actions.decoder")
    given = {f"{part}.{key}": sizes[key] for part in (*parts, "dynamics") for key in sizes}
    given |= {f"train.{stage}.{key}": BUDGET[key] for stage in STAGES for key in BUDGET}
    options = [f"--{key}={value}" for key, value in given.items()]
    options += ["--height=16", "--width=16", "--num_actions=3", "--tokenizer.quantizer.codes=16"]
    command = ["train", "--preset", "tiny-paper", "--data", str(store.path), "--out", str(out)]
    assert main([*command, *options]) == 0
    assert "the world is ready" in capsys.readouterr().out
    world = Genie.from_pretrained(out, device="cpu")
    assert world.config.actions.kind == "pixels"
    assert world.actions.quantizer.initialized
    assert (world.config.dynamics.context, world.config.sampling.temperature) == ("masked", 2.0)
    assert main(["generate", str(out), "--actions", "0,1,2", "--out", str(clip)]) == 0
    assert clip.stat().st_size > 0


def test_variants_of_all_parts_train_and_play_together(store, tmp_path, console):
    stack = {"layers": 1, "width": 16, "heads": 2, "window": 3}
    config = from_dict(
        GenieConfig,
        {
            "height": 16,
            "width": 16,
            "num_actions": 4,
            "tokenizer": {
                "backbone": "hierarchical",
                "channels": 8,
                "quantizer": {"kind": "lfq", "codes": 64, "codebooks": 2},
                "extra_losses": {"temporal_weight": 0.1},
            },
            "actions": {
                "kind": "tokens",
                "difference": True,
                "lfq_codebooks": 2,
                "encoder": stack,
                "decoder": stack,
            },
            "dynamics": {
                **stack,
                "action_conditioning": "modulate",
                "multiscale_weight": 0.5,
                "diversity_weight": 0.5,
            },
            "sampling": {"steps": 3, "reencode_every": 2},
        },
    )
    schedule = small_schedule(balanced_actions=0.5)
    short = {name: replace(getattr(schedule, name), steps=4) for name in STAGES}
    schedule = replace(schedule, **short)
    train(store, tmp_path, world=config, train=schedule, stages=["tokenizer"], console=console)
    train(store, tmp_path, world=config, train=schedule, stages=["actions"], console=console)
    longer = replace(schedule, tokenizer=replace(schedule.tokenizer, steps=6))
    train(store, tmp_path, world=config, train=longer, console=console)
    kept = read_checkpoint(tmp_path / "checkpoints" / "tokenizer.ckpt")
    assert kept["step"] == 4  # actions that see tokens were trained on what it made
    world = Genie.from_pretrained(tmp_path, device="cpu")
    prompt = torch.from_numpy(store.windows([0], 2))
    cached, plain = (
        world.generate(prompt, [[0, 1, 2, 3, 0]], use_cache=use_cache).int()
        for use_cache in (True, False)
    )
    assert (cached - plain).abs().max() <= 1
