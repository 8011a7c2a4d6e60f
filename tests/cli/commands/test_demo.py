"""The demo from videos to report, with models and budgets of toy size."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from genie.cli.commands import demo as module
from genie.cli.commands.demo import default_game, demo, find_samples
from genie.core.config import UserError
from genie.data.video import write_video
from genie.models.layers.transformer import TransformerConfig
from genie.presets import registry
from genie.presets.registry import Preset
from genie.presets.schedule import StageConfig, TrainConfig


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Videos of a square that walks about, in the layout of `samples/`."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("samples")
    for split, count in (("train", 3), ("val", 2)):
        videos = folder / "square" / split
        videos.mkdir(parents=True)
        for i in range(count):
            write_video(videos / f"{i}.mp4", _walk(random), 15)
    return folder


def _walk(random: np.random.Generator) -> np.ndarray:
    video = np.full((40, 64, 64, 3), 40, np.uint8)
    place = random.integers(0, 48, 2)
    for frame in video:
        place = np.clip(place + random.integers(-6, 7, 2), 0, 48)
        frame[place[0] : place[0] + 16, place[1] : place[1] + 16] = (230, 80, 60)
    return video


@pytest.fixture(scope="module")
def toy(short_detector):
    """Makes the preset `demo` and the report tiny indeed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_tiny(monkeypatch)
        yield


@pytest.fixture(scope="module")
def first_run(samples, toy, tmp_path_factory):
    """The folder of a demo from nothing, and what was printed."""
    shown = io.StringIO()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(shown):
        out = demo(
            samples=samples, out=tmp_path_factory.mktemp("demo") / "run", minutes=0.02, play=False
        )
    return out, shown.getvalue()


def make_tiny(monkeypatch):
    world, layers = registry.get("demo").world, TransformerConfig(layers=1, width=16, heads=2)
    patches = {
        "patch": 16,
        "encoder": replace(layers, window=1, spatial_attention=False),
        "decoder": replace(layers, window=2),
    }
    world = replace(
        world,
        tokenizer=replace(world.tokenizer, **patches),
        actions=replace(world.actions, **patches),
        dynamics=replace(world.dynamics, layers=1, width=16, heads=2, window=2),
    )
    stage = StageConfig(steps=4, batch_size=2, clip_frames=3, warmup_steps=1)
    train = TrainConfig(tokenizer=stage, actions=stage, dynamics=stage)
    monkeypatch.setitem(registry.PRESETS, "demo", Preset("toy", world, train))
    small = {
        "clips": 2,
        "horizon": 4,
        "action_prompts": 1,
        "action_steps": 2,
        "supervised_clips": 2,
    }
    small |= {
        "inverse_dynamics_steps": 2,
        "closed_loop_games": 2,
        "closed_loop_steps": 4,
        "action_selection_games": 1,
    }
    monkeypatch.setattr(module, "MEASURED", small)
    monkeypatch.setattr(module, "PRESSED", 1)
    monkeypatch.setattr(module, "LONG_GAMES", (1, 16))
    monkeypatch.setattr(module, "HELD", {"prompts": 2, "steps": 2, "permutations": 19})
    monkeypatch.setattr(module, "ROLLOUT_FRAMES", 3)


@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_videos_become_a_world_a_report_and_a_film(samples, first_run):
    out, shown = first_run
    for name in ("config.json", "model.safetensors", "rollout.gif", "evaluation/report.html"):
        assert (out / name).stat().st_size > 0
    assert "perplexity" in shown
    groups = json.loads((out / "actions.json").read_text())["groups"]
    assert sum(len(group["actions"]) for group in groups) == 8
    assert all(group["effect"] in shown for group in groups)
    assert f"genie play {out}" in shown
    weights = load_file(out / "model.safetensors")
    demo(samples=samples, out=out, minutes=0.02, play=False)
    again = load_file(out / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)


def test_the_world_is_served_at_the_end(samples, toy, tmp_path, monkeypatch):
    served = []
    for part in ("_prepare", "_train"):
        monkeypatch.setattr(module, part, lambda *_: tmp_path)
    monkeypatch.setattr(module, "_evaluate", lambda *_: tmp_path / "report.html")
    monkeypatch.setattr(module, "_name_actions", lambda *_: None)
    monkeypatch.setattr(module, "_rollout", lambda *_: tmp_path / "rollout.gif")
    monkeypatch.setattr(module, "_serve", lambda *given: served.append(given))
    demo(samples=samples, out=tmp_path / "run", port=0, play=True)
    assert served == [(tmp_path / "run", 0, None)]


def test_a_game_is_chosen_by_name(samples):
    assert find_samples(samples, "square") == samples / "square"
    with pytest.raises(UserError, match="no videos of 'pong'; choose one of square"):
        find_samples(samples, "pong")
    with pytest.raises(UserError, match="clone of the repository"):
        find_samples(samples / "nowhere", None)


@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_it_goes_on_from_a_world_that_knows_the_game(
    samples, first_run, tmp_path, capsys, monkeypatch
):
    base, _ = first_run
    monkeypatch.setitem(module.BASES, "square", str(base))
    out = demo(samples=samples, out=tmp_path / "run", minutes=0.02, play=False)
    assert json.loads((out / "train.json").read_text())["base"]["name"] == str(base)
    assert (out / "evaluation" / "comparison.html").exists()
    shown = capsys.readouterr().out
    assert "before" in shown
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"tokenizer", "dynamics"}  # buttons mean what they meant


def test_the_default_is_a_game_that_a_bundled_world_knows():
    assert default_game(["coinrun", "miner"]) == "coinrun"
    assert default_game(["maze", "miner"]) == "maze"


def test_a_game_can_have_its_own_size(samples, toy, tmp_path, monkeypatch):
    monkeypatch.setitem(module.SIDES, "square", 32)
    monkeypatch.setattr(module, "_evaluate", lambda *_: tmp_path / "report.html")
    monkeypatch.setattr(module, "_name_actions", lambda *_: None)
    out = demo(samples=samples, out=tmp_path / "run", minutes=0.02, play=False)
    assert json.loads((out / "config.json").read_text())["config"]["height"] == 32


def test_a_demo_takes_some_time(samples):
    with pytest.raises(UserError, match="minutes: 0"):
        demo(samples=samples, minutes=0, play=False)


def test_the_command_to_play_is_one_that_can_be_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / ".venv" / "bin" / "genie"
    monkeypatch.setattr("sys.executable", str(beside.with_name("python")))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert module._command() == "genie"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert module._command() == ".venv/bin/genie"
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/genie")
    assert module._command() == "genie"
