import json
from dataclasses import replace

import pytest
from quick_cloning import QUICK
from square_game import LENGTH, SQUARE
from toy import SIDE, ToyWorld, made_store

from genie.agents.agent import Agent
from genie.agents.cloning import clone as module
from genie.agents.cloning.clone import clone
from genie.agents.real_game import RealGameConfig
from genie.core.config import UserError
from genie.data.store import ClipStore
from genie.world.genie import Genie
from small import TINY

GAME = RealGameConfig(SQUARE, levels=6, seeds=1, num_envs=6)
OPTIONS = {"training": QUICK, "game": GAME, "progress": False}


@pytest.fixture(autouse=True)
def toy_world(monkeypatch):
    world = Genie({**TINY, "height": SIDE, "width": SIDE, "num_actions": 4})
    monkeypatch.setattr(world.actions, "infer", ToyWorld().infer)
    monkeypatch.setattr(module.Genie, "from_pretrained", lambda *_: world)
    monkeypatch.setattr(module, "world_folder", lambda name: name)


def test_a_clone_comes_close_to_the_expert_and_is_saved(expert_video, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    options = {"labels": 20, "out": out, "decoders": ["dictionary"], **OPTIONS}
    made = clone("toy", expert_video.path, **options)
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["expert"]["return"] == LENGTH
    assert report["references"]["oracle"]["mean"] > 0.8 * LENGTH
    assert report["references"]["random play"]["mean"] < 0.6 * LENGTH
    assert report["references"]["commonest action"]["mean"] == pytest.approx(LENGTH / 2, abs=3)
    (line,) = report["curve"]
    assert set(line) == {
        "labels", "dictionary", "labels alone", "shuffled, dictionary", "shuffled, head"
    }  # fmt: skip
    assert line["dictionary"]["share"]["mean"] > 0.7
    assert line["dictionary"]["accuracy"] > 0.8
    assert line["shuffled, dictionary"]["share"]["mean"] < 0.6
    agent = Agent.from_pretrained(out)
    agent.require_world(module.Genie.from_pretrained("toy"))
    assert agent.config.labels == 20
    assert agent.mapper is not None  # for worlds, and for those who train it further
    assert "6 levels of which the expert video has none" in (out / "README.md").read_text()

    # What was trained and played is not done again; another number of labels is added.
    def never(*_):
        raise AssertionError("it is known")

    monkeypatch.setattr(module, "fit_policy", never)
    more = clone("toy", expert_video.path, **{**options, "counts": [10]}, baselines=False)
    assert [line["labels"] for line in more.report["curve"]] == [10, 20]
    known = {key: line["dictionary"][key] for key in ("mean", "accuracy")}
    assert {key: more.report["curve"][1]["dictionary"][key] for key in known} == known


def test_what_cannot_be_cloned_is_said(expert_video, tmp_path):
    options = {"out": tmp_path / "out", **OPTIONS}
    with pytest.raises(UserError, match="this store has no true actions; prepare videos"):
        clone("toy", made_store(tmp_path / "plain", 1, 1, names=None).path, **options)
    with pytest.raises(UserError, match=r"labels: 181, but .* has 180 labelled steps"):
        clone("toy", expert_video.path, labels=181, **options)
    with pytest.raises(UserError, match="labels: 0, at least 1"):
        clone("toy", expert_video.path, counts=[0], **options)
    other = replace(GAME, env="gym:GenieTest/Unnamed-v0")
    with pytest.raises(UserError, match=r"has the actions action 0, .* name the game of the vid"):
        clone("toy", expert_video.path, **{**options, "game": other})
    with pytest.raises(UserError, match="there is no held-out split"):
        clone("toy", made_store(tmp_path / "train", 2, 0).path, **options)


def test_video_of_another_game_is_refused(expert_video, tmp_path, monkeypatch):
    """Games of Procgen have the same actions, so their names do not tell."""
    monkeypatch.setattr(ClipStore, "environments", ["procgen:miner"])
    options = {"out": tmp_path / "out", **OPTIONS}
    words = f"is video of procgen:miner, but the agent would be tested in {GAME.env}; name the game"
    with pytest.raises(UserError, match=words):
        clone("toy", expert_video.path, **options)
    assert not (tmp_path / "out").exists()


def test_what_says_little_is_noted(expert_video, tmp_path, monkeypatch):
    """Without training, the oracle is no better than one action; noise has no information."""
    world = module.Genie.from_pretrained("toy")
    monkeypatch.setattr(world.actions, "infer", ToyWorld(noise=True).infer)
    options = {"labels": 30, "out": tmp_path, "decoders": [], **OPTIONS}
    options["training"] = replace(QUICK, steps=1)
    with pytest.warns(UserWarning, match="say no more about|say little about") as notes:
        clone("toy", expert_video.path, **options)
    said = " ".join(str(note.message) for note in notes)
    assert "the latent actions say no more about the real ones than chance" in said
    assert "record more expert video, or train for longer" in said
