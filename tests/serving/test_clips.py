import asyncio
import math
import time

import numpy as np
import pytest

from genie.core.config import UserError
from genie.serving import clips
from genie.world.action_mapper import ActionMapper, MapperConfig


def test_actions_are_parsed():
    assert clips.parse_actions("1, 0,3", 4, most=4) == [1, 0, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "give numbers"),
        ("1,,2", "give numbers"),
        ("1;2", "give numbers"),
        ("-1", "has 0 to 3"),
        ("²", "give numbers"),
        ("9" * 30, "give numbers"),
        ("4", "has 0 to 3"),
        ("0,0,0,0,0", "at most 4"),
    ],
)
def test_other_actions_are_refused_with_advice(text, words):
    with pytest.raises(UserError, match=words):
        clips.parse_actions(text, 4, most=4)


@pytest.fixture
def mapper():
    """A game whose left and right are the actions 2 and 1."""
    found = ActionMapper(MapperConfig("dictionary", ("left", "right"), 4, "dots", 2))
    found.counts[[2, 1], [0, 1]] = 1
    return found


def test_names_are_parsed_where_there_is_a_mapper(mapper):
    assert clips.parse_actions("left, right,left", 4, 3, mapper) == ["left", "right", "left"]
    assert clips.parse_actions("1,3", 4, 3, mapper) == [1, 3]
    for text, words in (
        ("left,fly", "'fly'; this mapper knows left, right"),
        ("2,left", "not '2,left'"),
    ):
        with pytest.raises(UserError, match=words):
            clips.parse_actions(text, 4, 3, mapper)
    with pytest.raises(UserError, match="4 are too many"):
        clips.parse_actions("left,left,left,left", 4, 3, mapper)
    with pytest.raises(UserError, match="give numbers"):
        clips.parse_actions("left", 4, most=3)


def test_names_are_played_by_their_latent_actions(dot_world, dot_prompts, mapper):
    async def wanted():
        return True

    def clip(actions):
        scheduler = clips.ClipScheduler(SchedulerDouble(math.inf), dot_world, mapper)
        return np.stack(asyncio.run(scheduler.generate(dot_prompts[0], actions, 0, wanted)))

    assert np.array_equal(clip(["right", "left"]), clip([1, 2]))
    assert not np.array_equal(clip(["right", "left"]), clip([2, 1]))


def test_the_scale_is_chosen_and_bounded():
    assert clips.choose_scale(None, 10, 64, 64) == 4
    assert clips.choose_scale(None, 10, 360, 640) == 1
    assert clips.choose_scale(8, 100, 64, 64) == 8
    with pytest.raises(UserError, match="at most 8"):
        clips.choose_scale(9, 300, 64, 64)


def generate_clip(world, prompt, actions, wanted=lambda: True):
    async def still_wanted():
        return wanted()

    double = SchedulerDouble(math.inf)
    scheduler = clips.ClipScheduler(double, world)
    return asyncio.run(scheduler.generate(prompt, actions, 0, still_wanted)), double.starts


def test_a_clip_is_the_prompt_and_a_frame_for_each_action(dot_world, dot_prompts):
    frames, pieces = generate_clip(dot_world, dot_prompts[0], [1, 1, 3])
    places = [np.unravel_index(frame[..., 0].argmax(), (24, 24)) for frame in frames]
    assert places == [(12, 12), (12, 13), (12, 14), (13, 14)]
    assert len(pieces) == 4
    assert len(generate_clip(dot_world, np.stack(dot_prompts), [1])[0]) == 3


def test_no_frame_is_generated_that_nobody_waits_for(dot_world, dot_prompts):
    answers = iter([True, True, False])
    frames, pieces = generate_clip(dot_world, dot_prompts[0], [1] * 50, lambda: next(answers))
    assert (len(frames), len(pieces)) == (3, 3)


class SchedulerDouble:
    """Always busy, or always free, as far as `ClipScheduler` can see."""

    def __init__(self, idle_seconds):
        self.idle_seconds, self.order, self.starts = lambda: idle_seconds, [], []

    async def work(self, piece):
        self.starts.append(time.monotonic())
        await asyncio.sleep(0.002)
        self.order.append(piece())
        return self.order[-1]


def take_turns(scheduler, names, pieces):
    async def clip(turns, name):
        for _ in range(pieces):
            await turns(lambda: name)

    async def all_clips():
        turns = clips.ClipScheduler(scheduler, None)
        await asyncio.gather(*(clip(turns, name) for name in names))

    asyncio.run(all_clips())


def test_pieces_of_several_clips_take_turns():
    scheduler = SchedulerDouble(math.inf)
    take_turns(scheduler, "ab", 3)
    assert scheduler.order == ["a", "b"] * 3
    assert scheduler.starts[-1] - scheduler.starts[0] < 1 / clips.MIN_PIECES * 5


def test_a_few_pieces_run_even_if_players_leave_no_time():
    scheduler = SchedulerDouble(0.0)
    take_turns(scheduler, "a", 4)
    gaps = np.diff(scheduler.starts)
    assert len(gaps) == 3
    assert gaps.min() >= 1 / clips.MIN_PIECES
