import json

import pytest
import torch
from toy import NAMES, made_store

from genie.agents.mapping import map_actions
from genie.core.config import UserError
from genie.world.action_mapper import ActionMapper
from genie.world.genie import Genie
from small import TEAL, save_world

QUICK = {"repeats": 0, "progress": False, "device": "cpu"}


@pytest.fixture
def world(tmp_path):
    """The folder of a world whose latent actions have never been trained."""
    return save_world(tmp_path / "world", TEAL)


@pytest.mark.filterwarnings("ignore:in 60 labelled steps")
def test_a_mapper_is_saved_beside_its_world(world, store):
    made = map_actions(world, store.path, labels=60, kind="dictionary", **QUICK)
    assert made.folder == world / "mapper"
    mapper = ActionMapper.from_pretrained(world, Genie.from_pretrained(world, "cpu"))
    assert mapper.names == list(NAMES)
    assert int(mapper.counts.sum()) == mapper.config.labels == 60
    report = json.loads((world / "mapper" / "report.json").read_text())
    assert report == made.report
    assert report["held_out"] == {"split": "val", "steps": 6 * 29}
    assert set(report["mapper"]) == {"to_real", "to_latent"}


@pytest.mark.filterwarnings("ignore:in ")
def test_counts_of_labels_are_measured_too(world, store, tmp_path):
    options = QUICK | {"repeats": 2, "out": tmp_path / "out", "counts": [4]}
    made = map_actions(world, store.path, labels=8, kind="dictionary", **options)
    assert made.folder == tmp_path / "out"
    assert [line["labels"] for line in made.report["curve"]] == [4, 8]
    line = made.report["curve"][0]
    assert {"dictionary", "network", "commonest", "frame_alone", "supervised"} <= set(line)


def test_a_world_whose_latent_actions_say_nothing_is_noted(world, store):
    genie = Genie.from_pretrained(world, "cpu")
    genie.actions.quantizer.codebook.zero_()  # every step is latent action 0
    genie.save_pretrained(world)
    with pytest.warns(UserWarning, match="say no more about the real ones than chance does"):
        map_actions(world, store.path, labels=60, kind="dictionary", **QUICK)
    assert (world / "mapper" / "config.json").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": 349}, r"labels: 349, but the 'train' split .* has 348 labelled steps"),
        ({"labels": 0}, "labels: 0, at least 1"),
        ({"counts": [10, 999]}, "labels: 999, but"),
        ({"held_out": 0}, "held_out: 0, at least 1"),
        ({"repeats": -1}, "repeats: -1, must not be negative"),
    ],
)
def test_numbers_that_cannot_be_are_refused(world, store, options, words):
    with pytest.raises(UserError, match=words):
        map_actions(world, store.path, **QUICK | options)
    assert not (world / "mapper").exists()


def test_a_store_without_sidecars_or_held_out_videos_is_refused(world, tmp_path):
    made_store(tmp_path / "plain", 1, 1, names=None)
    with pytest.raises(UserError, match="this store has no true actions"):
        map_actions(world, tmp_path / "plain", **QUICK)
    made_store(tmp_path / "train", 2, 0)
    with pytest.raises(UserError, match="there is no held-out split"):
        map_actions(world, tmp_path / "train", labels=5, **QUICK)


@pytest.mark.filterwarnings("ignore:in ")
def test_worlds_of_the_package_are_not_written_to(monkeypatch, tmp_path, store, world):
    from genie.world import bundled

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "HERE", world.parent)
    made = map_actions("world", store.path, labels=20, kind="dictionary", **QUICK)
    assert made.folder.as_posix() == "mappers/world"
    assert torch.is_tensor(ActionMapper.from_pretrained(made.folder).counts)
