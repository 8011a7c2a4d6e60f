"""The worlds that come with the package: there, small, playable, and obedient."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie.core.config import from_record
from genie.evaluation.metrics.separation import separation
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.world import bundled
from genie.world.action_groups import read_groups
from genie.world.action_mapper import ActionMapper
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.prompts import load_prompts
from genie.world.replay import world_hash

MEGABYTES = 20
TOGETHER = 25e6
"""Bytes of all worlds in the package."""
PARAMETERS = 10e6


@pytest.fixture(scope="module", params=bundled.names())
def folder(request) -> Path:
    found = bundled.folder_of(request.param)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def world(folder) -> Genie:
    return Genie.from_pretrained(folder.name, device="cpu")


@pytest.fixture(scope="module")
def prompts(folder, world) -> list[np.ndarray]:
    return load_prompts(None, world.config.height, world.config.width, folder)


def test_the_default_is_one_of_them():
    assert bundled.DEFAULT in bundled.names()
    assert bundled.folder_of("no such world") is None


def test_together_they_are_small_enough_for_a_wheel():
    folders = [bundled.folder_of(name) for name in bundled.names()]
    sizes = [f.stat().st_size for folder in folders if folder for f in folder.rglob("*.*")]
    assert sum(sizes) < TOGETHER


def test_it_is_small(folder, world):
    assert sum(f.stat().st_size for f in folder.rglob("*")) < MEGABYTES * 2**20
    assert sum(p.numel() for p in world.parameters()) < PARAMETERS


def test_it_says_how_it_was_made_and_how_good_it_is(folder, world):
    card = (folder / "README.md").read_text()
    for part in ("genie record", "genie prepare", "genie train", "genie evaluate", "seed"):
        assert part in card
    report = json.loads((folder / "report.json").read_text())
    assert report["data"]["split"] == "val"
    measured = from_record(GenieConfig, report["world"]["config"])  # later fields have defaults
    assert measured == world.config, "measure it again"
    assert report["rollouts"]["at"]["4"]["delta_psnr"]["mean"] > 1


def test_its_actions_are_measured_with_its_own_sampling(folder, world):
    groups = read_groups(folder, world.config.num_actions)
    assert groups, "genie actions WORLD --data STORE"
    measured = json.loads((folder / "actions.json").read_text())
    assert measured["guidance"] == world.config.sampling.guidance


def test_its_mapper_is_small_and_its_own(folder, world):
    mapper = ActionMapper.from_pretrained(folder.name, world)
    assert {"left", "right", "up"} <= set(mapper.labelled_names)
    assert sum(f.stat().st_size for f in (folder / "mapper").iterdir()) < 300_000
    report = json.loads((folder / "mapper" / "report.json").read_text())
    assert report["labels"] == mapper.config.labels


def test_replays_of_it_are_still_accepted():
    """Neither new names of keys nor keys that are new change the hash that replays hold."""
    world = Genie.from_pretrained(bundled.DEFAULT, device="cpu")
    assert world_hash(world) == "8642b3f7534199694ae0d511d077927bb8b00c716349897cc8ebe84b25d86329"


def test_a_default_of_guidance_is_not_part_of_the_hash():
    """Replays hold the guidance of each step. `coinrun-9m` got its default after it was shared."""
    world = Genie.from_pretrained("coinrun-9m", device="cpu")
    assert world.config.sampling.guidance == 2
    assert world_hash(world) == "feb4eff94d355d922ce509a929cb81f2344d0f24b607114dfed7b7681df4ed14"
    plain = replace(world.config.sampling, guidance=0.0)
    world.config = replace(world.config, sampling=plain)
    assert world_hash(world) == "feb4eff94d355d922ce509a929cb81f2344d0f24b607114dfed7b7681df4ed14"


def test_a_prompt_comes_back_from_its_tokens(world, prompts):
    frames = torch.from_numpy(np.stack(prompts))[:, None]
    rebuilt = world.tokenizer.decode(world.tokenizer.encode(frames))
    error = (rebuilt.float() - frames.float()).square().mean() / 255**2
    assert 10 * torch.log10(1 / error) > 25


@pytest.mark.long
def test_its_buttons_do_different_things(world, prompts):
    """The next frames of different buttons differ by more than noise lets them."""
    starts = torch.from_numpy(np.stack(prompts[:4]))[:, None]
    frames = RolloutPlayer(world, batch=32).hold_all(starts, repeats=4, seed=0)
    found = separation(frames[:, :, :, 0], permutations=99)
    assert found["p"] < 0.02  # none of the permutations reaches it
    assert found["ratio"] > 2 * found["null_95"]
