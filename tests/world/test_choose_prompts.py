"""Prompts: held out, away from the ends of an episode, showing something, and different."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from genie.data.store import Episode
from genie.world.choose_prompts import candidates, choose_prompts, farthest_points, shows_enough

FPS = 10


@dataclass
class Videos:
    """A clip store in memory."""

    clips: list[tuple[str, np.ndarray]]
    fps: float = FPS
    episodes: list[Episode] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = 0
        for i, (split, clip) in enumerate(self.clips):
            self.episodes.append(Episode(i, str(i), split, start, len(clip), str(i)))
            start += len(clip)
        self.frames = np.concatenate([clip for _, clip in self.clips])

    def episodes_in_split(self, split: str) -> list[Episode]:
        return [episode for episode in self.episodes if episode.split == split]

    def num_frames(self, split: str) -> int:
        return sum(episode.length for episode in self.episodes_in_split(split))

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        return self.frames[np.asarray(starts)[:, None] + np.arange(length)]


class Patches:
    """A tokenizer whose token is the colour of a patch of four pixels."""

    device = torch.device("cpu")

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        corners = frames[:, :, ::4, ::4].long() // 32
        return ((corners[..., 0] * 8 + corners[..., 1]) * 8 + corners[..., 2]).flatten(2)


def scene(length: int, floor: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise that moves over a floor of one colour; the frame number stands in the corner."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8)
    frames[:, 8:] = floor
    frames[:, 15, 15] = np.arange(length)[:, None]
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    return frames[:, 15, 15, 0].tolist()


def test_prompts_are_held_out_and_a_second_away_from_both_ends_of_an_episode():
    store = Videos([("train", scene(60, (0, 0, 255))), ("val", scene(40, (200, 0, 0)))])
    chosen = choose_prompts(store, Patches(), 8)
    assert len(chosen) == 8
    assert (chosen[:, 8, 0] == (200, 0, 0)).all(), "from the held-out split"
    assert min(numbers(chosen)) >= FPS
    assert max(numbers(chosen)) < 40 - FPS, "a second of play follows in the recording"


def test_the_same_videos_give_the_same_prompts():
    store = Videos([("val", scene(200, (200, 0, 0)))])
    np.testing.assert_array_equal(
        choose_prompts(store, Patches(), 4), choose_prompts(store, Patches(), 4)
    )


def test_every_kind_of_scene_is_among_the_prompts():
    floors = [(200, 0, 0)] * 9 + [(0, 200, 0), (0, 0, 200), (200, 200, 0)]
    store = Videos([("val", scene(40, floor, i)) for i, floor in enumerate(floors)])
    chosen = choose_prompts(store, Patches(), 4)
    assert len({tuple(frame[8, 0]) for frame in chosen}) == 4


def test_games_start_where_the_recording_is_at_rest():
    standing = scene(21, (0, 0, 200), 1)
    standing[8:13] = standing[10]
    clips = [scene(40, (200, 0, 0)), scene(40, (0, 200, 0)), standing, scene(40, (200, 200, 0))]
    videos = Videos([("val", clip) for clip in clips])
    chosen = choose_prompts(videos, Patches(), 4)
    assert tuple(chosen[0, 8, 0]) == (0, 0, 200)
    assert len({tuple(frame[8, 0]) for frame in chosen}) == 4
    typical = choose_prompts(videos, Patches(), 4, first="typical")
    floors = [tuple(frame[8, 0]) for frame in typical]
    assert floors.index((0, 0, 200)) > 0
    floors.remove((0, 0, 200))
    assert [tuple(frame[8, 0]) for frame in chosen[1:]] == floors


def test_short_episodes_are_used_where_there_are_no_longer_ones():
    short = Videos([("val", scene(9, (200, 0, 0), i)) for i in range(3)])
    frames, margin = candidates(short, 12)
    assert margin == 2
    assert frames.tolist() == [2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24]
    mixed = Videos([("val", scene(n, (200, 0, 0), n)) for n in (9, 9, 30, 30)])
    assert candidates(mixed, 2)[1] == FPS, "two are long enough for two prompts"
    assert candidates(Videos([("train", scene(1, (0, 0, 0)))]), 12)[0].tolist() == [0]


def test_blank_empty_and_still_frames_are_left_out():
    rich = torch.from_numpy(scene(4, (200, 0, 0)))
    blank, plain = torch.full((1, 16, 16, 3), 3, dtype=torch.uint8), rich[:1].clone()
    plain[:, :4], plain[:, 4:8] = 0, 255
    frames = torch.cat([rich, blank, plain])
    tokens = Patches().encode(frames[:, None])[:, 0]
    moving = torch.tensor([0.5, 0.4, 0.0, 0.5, 0.5, 0.5])
    assert shows_enough(frames, tokens, moving).tolist() == [True, True, False, True, False, False]
    still = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    assert shows_enough(still, torch.zeros(1, 16).long(), torch.zeros(1)).all(), "nothing better"


def test_points_far_from_each_other_are_chosen_and_none_twice():
    points = torch.zeros(40, 2)
    points[7], points[21], points[33] = torch.tensor([[9.0, 0], [0, 9], [9, 9]])
    assert farthest_points(points, 1).tolist() == [0], "the most typical one"
    assert set(farthest_points(points, 8).tolist()) == {0, 7, 21, 33}
    assert len(farthest_points(points, 2)) == 2
