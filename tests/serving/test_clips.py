import asyncio
import math
import time

import numpy as np
import pytest

from genie.serving import clips
from genie.world.action_mapper import ActionMapper, MapperConfig


@pytest.fixture
def mapper():
    """A game whose left and right are the actions 2 and 1."""
    found = ActionMapper(MapperConfig("dictionary", ("left", "right"), 4, "dots", 2))
    found.counts[[2, 1], [0, 1]] = 1
    return found


def test_names_are_played_by_their_latent_actions(dot_world, dot_prompts, mapper):
    async def wanted():
        return True

    def clip(actions):
        scheduler = clips.ClipScheduler(SchedulerDouble(math.inf), dot_world, mapper)
        return np.stack(asyncio.run(scheduler.generate(dot_prompts[0], actions, 0, wanted)))

    assert np.array_equal(clip(["right", "left"]), clip([1, 2]))
    assert not np.array_equal(clip(["right", "left"]), clip([2, 1]))


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
