from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.separation import frame_distance
from genie.evaluation.protocol.rollouts import RolloutPlayer
from genie.plugins.persistency import (
    PERSISTENCY,
    Objects,
    crops,
    own_objects,
    paste_objects,
    persistency,
    see_objects,
    standing_prompts,
    stillest_action,
)

SIZE, LENGTH = 32, 8


class Still:
    """Shows the prompt, action 1 moves it; what it remembers of a prompt may change with time."""

    def __init__(self, memory=lambda frames, time: frames, tokenizer=lambda frames: frames):
        self.memory, self.device = memory, torch.device("cpu")
        self.config = SimpleNamespace(height=SIZE, width=SIZE, num_actions=2, fps=5.0)
        self.tokenizer = SimpleNamespace(encode=lambda frames: frames, decode=tokenizer)

    def start(self, prompt, seed=0):
        return prompt[:, -1], 1

    def step(self, state, action, sampling=None):
        frames, time = state
        moved = frames.roll(9, 2)
        frames = torch.where((action == 1)[:, None, None, None], moved, frames)
        return self.memory(frames, time), (frames, time + 1)


def blank(frames, time=0):
    return torch.full_like(frames, 128)


@pytest.fixture
def video():
    """Episodes of blocks of pure colours; only every second one stands still."""
    rng = np.random.default_rng(0)
    blocks = 255 * rng.integers(2, size=(40, 1, 4, 4, 3)).repeat(LENGTH, 1)
    blocks[1::2] = 255 * rng.integers(2, size=(20, LENGTH, 4, 4, 3))
    frames = blocks.repeat(8, 2).repeat(8, 3).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)
    episodes = [
        SimpleNamespace(id=i, split="train" if i >= 30 else "val", start=i * LENGTH, length=LENGTH)
        for i in range(40)
    ]
    return SimpleNamespace(
        episodes=episodes, height=SIZE, width=SIZE, labels=lambda: None,
        windows=lambda starts, n: frames[np.asarray(starts)[:, None] + np.arange(n)],
    )  # fmt: skip


@pytest.fixture
def evaluate(video):
    def make(world, store=None):
        config = replace(EvaluationConfig.quick(), batch=7, closed_loop_games=40)
        return Evaluation(world, store or video, config)

    return make


def verdict(section):
    return verdicts(section)[0]


def verdicts(section):
    return [line["verdict"] for line in PERSISTENCY.headlines_of(section)]


def test_what_stays_is_there_to_the_end(evaluate):
    evaluation = evaluate(Still())
    found = persistency(evaluation)
    assert (found["games"], found["steps"], found["action"]) == (10, 15, 0)
    assert found["world"]["end"]["mean"] == 1
    assert found["shown"] > 0.5
    assert found["world"]["seconds"]["mean"] == 3
    assert found["without"]["end"]["mean"] == 0
    assert verdict(found) == "good"
    (figure,) = evaluation.figures
    assert figure.section == "persistency"


def test_what_is_forgotten_is_gone(evaluate):
    found = persistency(evaluate(Still(blank)))
    assert found["world"]["end"]["mean"] == 0
    assert verdict(found) == "poor"


def test_objects_of_the_prompts_stay_where_they_are_drawn(evaluate):
    found = persistency(evaluate(Still()))
    assert found["own"]["games"] >= 8
    assert found["own"]["world"]["end"]["mean"] == 1
    assert found["own"]["without"]["end"]["mean"] < 0.5
    assert verdicts(found) == ["good", "good"]
    gone = persistency(evaluate(Still(blank)))
    assert gone["own"]["world"]["end"]["mean"] == 0
    assert verdicts(gone) == ["poor", "poor"]


def test_an_object_of_a_prompt_differs_from_all_its_neighbours():
    frames = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    frames[0, 4:8, 20:24] = 200  # alone
    frames[1, :, 20:24] = 200  # goes on above and below
    objects, shown = own_objects(frames, 0)
    assert shown.tolist() == [True, False]
    row, column = objects.places[0].tolist()
    assert abs(row - 4) <= 2
    assert abs(column - 20) <= 2
    assert objects.contrast[0] >= 40


def test_prompts_of_one_episode_have_no_objects_of_their_own(evaluate, video):
    video.episodes = video.episodes[:1] + video.episodes[30:31]
    video.episodes[0].length = 30 * LENGTH
    found = persistency(evaluate(Still()))
    assert "own" not in found
    assert len(verdicts(found)) == 1


def test_it_says_for_how_long(evaluate):
    forgets = Still(lambda frames, time: frames if time <= 5 else blank(frames))
    found = persistency(evaluate(forgets))
    assert found["world"]["seconds"]["mean"] == 1
    assert found["curves"]["world"] == [1.0] * 5 + [0.0] * 10
    assert verdict(found) == "poor"


def test_a_world_that_shows_noise_has_objects_by_chance_only(evaluate):
    noise = torch.from_numpy(np.random.default_rng(1).integers(256, size=(SIZE, SIZE, 3)))
    found = persistency(evaluate(Still(lambda frames, time: noise.to(frames).expand_as(frames))))
    assert found["world"]["end"]["mean"] < 0.2


def test_an_object_is_found_near_its_place():
    piece = torch.full((1, 4, 4, 3), 200, dtype=torch.uint8)
    objects = Objects(piece, torch.tensor([[2, 20]]), torch.tensor([200.0]))
    frames = torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8)
    frames[0, 0, 2:6, 20:24] = 120
    frames[0, 1, 3:7, 18:22] = 200
    frames[0, 2, 7:11, 20:24] = 200
    frames[0, 3, 2:6, 20:24] = 90
    assert objects.found(frames).tolist() == [[True, True, False, False]]


def test_objects_differ_from_what_they_cover_and_lie_beside_the_middle(video):
    prompts = torch.from_numpy(video.windows(np.arange(0, 80, 4), 2))
    pasted, places, tried = paste_objects(prompts, 0)
    assert tried.sum() > 15
    assert ((places - 14).abs().amax(1) >= 4)[tried].all()
    for frame in (0, 1):
        before, after = (crops(part[:, frame], places)[tried] for part in (prompts, pasted))
        assert (frame_distance(before, after) >= 40 * (frame == 1)).all()
        assert (pasted != prompts)[tried, frame].any(-1).sum((1, 2)).max() <= 16
    _, _, none = paste_objects(prompts // 255, 0)
    assert not none.any()


def test_only_what_the_tokenizer_shows_is_looked_for(video):
    prompts = torch.from_numpy(video.windows(np.arange(0, 80, 4), 1))
    pasted, places, tried = paste_objects(prompts, 0)
    objects, shown = see_objects(RolloutPlayer(Still()), prompts, pasted, places)
    assert (objects.pieces == crops(pasted[:, -1], places)).all()
    assert (shown == tried & ~objects.found(prompts)[:, 0]).all()
    assert shown.sum() > 10
    player = RolloutPlayer(Still(tokenizer=lambda frames: frames // 9))
    _, shown = see_objects(player, prompts, pasted, places)
    assert not shown.any()


def test_prompts_are_those_at_which_the_player_stands(evaluate):
    starts = standing_prompts(evaluate(Still()), "val", 10).starts
    assert set(starts // LENGTH % 2) == {0}


def test_the_stillest_action_is_found_on_training_levels(evaluate, video):
    assert stillest_action(evaluate(Still())) == 0
    video.episodes = video.episodes[:30]
    with pytest.raises(Skipped, match="no 'train' split"):
        stillest_action(evaluate(Still()))


def test_without_objects_it_is_skipped(evaluate, video):
    with pytest.raises(Skipped, match="tokenizer shows 0 of 20"):
        persistency(evaluate(Still(tokenizer=blank)))
    grey = SimpleNamespace(**vars(video))
    grey.windows = lambda starts, n: np.full((len(starts), n, SIZE, SIZE, 3), 9, np.uint8)
    with pytest.raises(Skipped, match="0 of 0"):
        persistency(evaluate(Still(), grey))
