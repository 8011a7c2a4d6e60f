import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rewarded import made_world
from toy import NAMES, PERMUTATION, ToyWorld, walk

from genie.agents import pressing
from genie.agents.pressing import (
    COLUMNS,
    HOLD,
    Clip,
    Pressed,
    Pressing,
    best_delay,
    folder_of,
    keys_of,
    labelled_steps,
    labels_of,
    played_clip,
    video_clip,
)
from genie.core.config import UserError
from genie.data.video import write_video
from genie.world.action_mapper import ActionMapper

FPS = 10.0
HELD = {"noop": [], "right": ["right"], "left": ["left"], "up": ["up"]}


def toy_clip(orders=60, hold=8):
    """A game of the toy in which every action is held for a while, and the true actions."""
    true = np.random.default_rng(0).integers(4, size=orders).repeat(hold)
    frames = torch.from_numpy(walk(true, np.zeros(2, int)))
    latent = torch.cat([PERMUTATION[torch.from_numpy(true)], torch.tensor([-1])])
    return Clip(frames, latent, FPS, "toy"), np.append(true, true[-1])


def person(true, delay, share_of_mistakes=0.1):
    """Presses the key of what it sees some frames later, and at times a wrong one."""
    seen = np.concatenate([np.zeros(delay, int), true])[: len(true)]
    rng = np.random.default_rng(1)
    wrong = rng.random(len(seen)) < share_of_mistakes
    return [HELD[NAMES[a]] for a in np.where(wrong, rng.integers(4, size=len(seen)), seen)]


@pytest.fixture
def pressed(tmp_path, monkeypatch):
    monkeypatch.setattr(pressing, "latent_actions_hash", lambda world: "toy")
    clip, true = toy_clip()

    def make(**options):
        return Pressing(ToyWorld(), clip, NAMES, tmp_path / "mapper", **options)

    return make, true, tmp_path / "mapper"


@pytest.mark.parametrize("delay", [1, 4])
def test_the_reaction_of_a_person_is_found(delay):
    clip, true = toy_clip()
    labels = labels_of(person(true, delay), NAMES)
    found, told = best_delay(clip, labels, NAMES, 4)
    assert found == delay
    assert len(told) == 9
    assert told[delay] == max(told)


def test_keys_become_a_mapper(pressed):
    make, true, folder = pressed
    reports = []
    pressing = make(on_made=reports.append)
    report = pressing.held(Pressed(person(true, 3)))
    assert reports == [report]
    assert report == json.loads((folder / "report.json").read_text())
    assert report["delay_seconds"] == 0.3
    assert report["delay_estimated"]
    assert report["labels"] == len(true) - 3
    assert report["last_quarter"]["to_real"]["accuracy"] > 0.85
    assert report["commonest"] < 0.5
    assert report["mutual_information"]["found"] > report["mutual_information"]["chance_95"]
    mapper = ActionMapper.from_pretrained(folder)
    assert mapper.config.latent_actions == "toy"
    frame = walk(np.array([0]), np.zeros(2, int))[0]
    found = [mapper.to_latent(frame, name) for name in NAMES]
    assert found == PERMUTATION.tolist()


def test_a_mapper_can_be_a_network(pressed, tmp_path):
    clip, true = toy_clip(orders=12)
    made = Pressing(ToyWorld(), clip, NAMES, tmp_path / "network", kind="network", delay=0.1)
    assert made.make(person(true, 1))["kind"] == "network"
    assert ActionMapper.from_pretrained(tmp_path / "network").config.kind == "network"


def test_a_delay_that_is_given_is_taken(pressed):
    make, true, _ = pressed
    report = make(delay=0.2).make(person(true, 3))
    assert (report["delay_seconds"], report["delay_estimated"]) == (0.2, False)


def test_keys_without_meaning_are_noted(pressed):
    make, true, _ = pressed
    held = person(np.random.default_rng(5).permutation(true), 0)
    with pytest.warns(UserWarning, match="say no more about the real ones than chance"):
        make(delay=0.0).make(held)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (lambda count: [[]] * 3, "held: 3 frames, the clip has 481"),
        (lambda count: [[]] * count, "too few keys were pressed"),
        (lambda count: [None] * count, "too few keys were pressed"),
        (lambda count: [["right"]] * 5 + [["left"]] * 5 + [None] * (count - 10), "too few keys"),
    ],
)
def test_too_few_keys_are_refused(pressed, held, words):
    make, true, folder = pressed
    with pytest.raises(UserError, match=words):
        make().make(held(len(true)))
    assert not folder.exists()


def test_moments_that_do_not_count_are_left_out():
    names = ("left", "noop", "right", "right+up")
    held = [[], ["left"], None, ["up", "right"], ["up"], ["right"]]
    labels = labels_of(held, names)
    assert labels.tolist() == [1, 0, -1, 3, -1, 2]
    frames = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 4, 4, 3)
    clip = Clip(frames, torch.tensor([0, 1, 2, -1, 3, -1]), FPS, "")
    steps = labelled_steps(clip, labels, 1, names, 4)
    assert steps.frames[:, :, 0, 0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert steps.latent.tolist() == [0, 2, 3]
    assert steps.true.tolist() == [0, 3, 2]


def test_every_name_has_a_key():
    keys = keys_of(["noop", "left", "right+up", "fire", "fight", "a"])
    assert keys == {
        "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp",
        "fire": "KeyF", "fight": "KeyI", "a": "KeyA",
    }  # fmt: skip
    with pytest.raises(UserError, match="no key left for 'aa'"):
        keys_of(["a", "aa"])


def test_what_no_one_can_press_is_refused(pressed):
    make, _, folder = pressed
    with pytest.raises(UserError, match="delay: expected seconds"):
        make(delay=-1.0)
    with pytest.raises(UserError, match="at least two different ones"):
        Pressing(ToyWorld(), toy_clip()[0], ["left"], folder)


def test_a_world_shows_each_of_its_actions_equally_often():
    world = made_world()
    prompts = np.full((2, 16, 16, 3), 90, np.uint8)
    clip = played_clip(world, seconds=4, prompts=list(prompts))
    again = played_clip(world, seconds=4, prompts=list(prompts))
    assert torch.equal(clip.frames, again.frames)
    assert len(clip.frames) == len(clip.latent) >= 4 * world.config.fps
    counts = clip.latent[clip.latent >= 0].bincount(minlength=4)
    assert (counts % HOLD == 0).all()
    assert counts.min() == counts.max()
    assert clip.latent[-1] == -1


def test_the_latent_actions_of_a_video_are_inferred_at_the_pace_of_the_world(tmp_path):
    true = np.random.default_rng(0).integers(4, size=12)
    frames = walk(true, np.zeros(2, int))
    write_video(tmp_path / "play.mp4", frames.repeat(2, 0), 20, crf=0)
    world = ToyWorld()
    world.config = SimpleNamespace(height=16, width=16, num_actions=4, fps=10.0)
    clip = video_clip(world, tmp_path / "play.mp4")
    assert clip.latent.tolist() == [*PERMUTATION[torch.from_numpy(true)].tolist(), -1]
    assert (clip.fps, clip.source) == (10.0, "play.mp4")
    assert len(video_clip(world, tmp_path / "play.mp4", seconds=0.5).frames) == 5
    with pytest.raises(UserError, match="at least two frames"):
        video_clip(world, tmp_path / "play.mp4", seconds=0.05)


def test_frames_travel_as_one_sheet(pressed):
    make, _, _ = pressed
    clip = toy_clip(orders=4)[0]
    sheet = clip.sheet()
    assert sheet.shape == (2 * 16, COLUMNS * 16, 3)
    assert (sheet[16:, 16:32] == clip.frames[COLUMNS + 1].numpy()).all()
    told = make().clip()
    assert told["count"] == 481
    assert told["keys"] == {"right": "ArrowRight", "left": "ArrowLeft", "up": "ArrowUp"}


def test_it_is_saved_beside_the_world(tmp_path):
    assert folder_of(tmp_path, None) == tmp_path / "mapper"
    assert folder_of(tmp_path, "own").name == "own"
    assert folder_of("coinrun-tiny", None).parts == ("mappers", "coinrun-tiny")
