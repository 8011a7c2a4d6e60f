import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie.core.config import overridden
from genie.data.store import ClipStore
from genie.presets import registry
from genie.training import config, finetune
from small import TEAL, save_store, save_world

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
stages = importlib.import_module("_stages")
study = importlib.import_module("_study")
scaling = importlib.import_module("study_scaling")
robots = importlib.import_module("study_robots")
genres = importlib.import_module("study_genres")
prompts = importlib.import_module("study_prompts")


def options_of(path, **more):
    return argparse.Namespace(json=path, plot=None, work=path.parent, device="cpu", **more)


def test_a_row_that_is_there_is_not_made_again(tmp_path):
    path = tmp_path / "rows.json"
    pictures = tmp_path / "pictures"
    first = study.Results(options_of(path, seed=0, pictures=pictures))
    assert first.row("a", lambda: {"loss": 1.23456})["loss"] == 1.2346
    again = study.Results(options_of(path, seed=0, pictures=pictures))
    assert again.row("a", lambda: pytest.fail("made again"))["loss"] == 1.2346
    assert json.loads(path.read_text())["settings"] == {"seed": 0, "pictures": str(pictures)}
    with pytest.raises(SystemExit, match="other settings"):
        study.Results(options_of(path, seed=1))


def test_a_run_begins_with_the_earlier_stages_of_a_world(tmp_path):
    world = save_world(tmp_path / "world", TEAL)
    clips = [(split, np.zeros((8, 16, 16, 3), np.uint8)) for split in ("train", "val")]
    store, stage = save_store(tmp_path / "store", *clips, fps=15), {"steps": 1, "minutes": 0}
    schedule = overridden(registry.get("tiny").train, {"dynamics": stage})
    settings = (finetune.config_of(world), schedule, ["dynamics"], 3)
    stages.begin(tmp_path / "run", store, *settings, base=str(world))
    names = {path.name for path in (tmp_path / "run/checkpoints").glob("*.ckpt")}
    assert names == {"tokenizer.ckpt", "actions.ckpt"}
    config.resolve(
        tmp_path / "run", store, world=settings[0], train=schedule, stages=["dynamics"], seed=3
    )
    assert config.untrained(tmp_path / "run") == ["dynamics"]


def test_a_power_law_is_found_with_its_error():
    x = np.array([1.0, 3.0, 10.0, 30.0])
    fit = scaling.power_law(x, 5 * x**-0.25)
    assert fit["exponent"] == pytest.approx(0.25)
    assert fit["factor"] == pytest.approx(5)
    assert fit["stderr"] == pytest.approx(0, abs=1e-6)
    y = 5 * x**-0.25 * np.array([1.1, 0.9, 1.1, 0.9])
    (slope, _), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    noisy = scaling.power_law(x, y)
    assert noisy["exponent"] == pytest.approx(-slope)
    assert noisy["stderr"] == pytest.approx(np.sqrt(covariance[0, 0]))
    assert scaling.power_law(x[:2], x[:2])["stderr"] is None


def test_only_rows_that_no_cheaper_one_beats_are_the_frontier():
    rows = [
        {"compute": compute, "loss": {"mean": loss}}
        for compute, loss in ((4, 1.5), (1, 3.0), (2, 3.5), (3, 2.0), (5, 1.6))
    ]
    assert [row["compute"] for row in scaling.frontier(rows)] == [1, 3, 4]


def test_codes_that_name_directions_explain_them_and_shuffled_ones_do_not():
    rng = np.random.default_rng(0)
    codes = rng.integers(4, size=800)
    vectors = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])[codes] + rng.normal(0, 0.1, (800, 2))
    episodes = np.arange(800) // 20
    half = slice(400), slice(400, 800)
    known, judged = ((codes[part], vectors[part], episodes[part]) for part in half)
    found = robots.directions(known, judged, 4)
    assert found["latent"]["r2"] > 0.95
    assert found["latent"]["low"] < found["latent"]["r2"] < found["latent"]["high"]
    assert abs(found["shuffled"]["r2"]) < 0.05
    assert found["ceiling"]["r2"] > 0.95
    np.testing.assert_allclose(found["means"][2], [0, 1], atol=0.05)


def test_true_vectors_stand_beside_their_frames(tmp_path):
    clips = [
        ("train", np.zeros((5, 16, 16, 3), np.uint8)),
        ("val", np.ones((4, 16, 16, 3), np.uint8)),
    ]
    store = save_store(tmp_path / "store", *clips)
    np.save(
        tmp_path / "store" / "source_frames.npy", np.array([2, 3, 4, 5, 6, 0, 1, 2, 3], np.int32)
    )
    for name, steps in (("0", 7), ("1", 3)):
        actions = [[step, 10 * step] for step in range(steps)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"actions": actions}))
    store = ClipStore.open(tmp_path / "store")
    store.episodes = [replace(episode, sidecar=f"{episode.id}.json") for episode in store.episodes]
    vectors = robots.vectors_of(store, tmp_path)
    assert vectors[:, 0].tolist() == [2, 3, 4, 5, 6, 0, 1, 2, 2]
    assert vectors[:, 1].tolist() == (10 * vectors[:, 0]).tolist()


def test_every_genre_can_be_recorded_by_the_packages_of_the_project():
    assert len(genres.GENRES) == 6
    assert {game.env.split(":")[0] for game in genres.GENRES.values()} == {"procgen", "gym"}


def test_a_direction_is_compared_with_the_other_actions():
    went = np.zeros((3, 4, 2), np.float32)
    went[:, 1] = 1
    went[0, 2] = 1
    row = prompts._beside_others(torch.from_numpy(went), 1)
    assert row["share"] == 1
    assert row["others"] == pytest.approx(1 / 9)
    assert row["difference"]["mean"] == pytest.approx(8 / 9)
    assert row["difference"]["low"] < 8 / 9 < row["difference"]["high"]


def test_drawings_differ_by_their_number_and_by_who_is_in_them():
    first, again, other = (prompts.drawing(number, True, 32) for number in (0, 0, 1))
    empty = prompts.drawing(0, False, 32)
    assert first.shape == (32, 32, 3)
    np.testing.assert_array_equal(first, again)
    changed = (first != empty).any(-1).mean()
    assert 0.01 < changed < 0.2
    assert (first != other).any()


@pytest.mark.parametrize("preset", ["coinrun-tiny", "coinrun"])
def test_frames_of_the_arm_are_as_many_tokens_as_the_preset_has(preset):
    larger, smaller = robots.config_of(preset), registry.get(preset).world
    assert (larger.height, larger.width) == (128, 128)
    assert larger.height // larger.tokenizer.patch == smaller.height // smaller.tokenizer.patch
    assert (
        larger.height // larger.actions.downsample == smaller.height // smaller.actions.downsample
    )
