import asyncio
import json
import math
import statistics
import threading
import time
from itertools import pairwise

import pytest
from autoplaying import Always

from genie.core.config import to_dict
from genie.serving.play import start
from genie.serving.play.batch import GameBatch
from genie.serving.play.scheduler import EXPENSIVE_PAUSE, FAILURE_TEXT, BatchScheduler
from genie.serving.play.session import SessionClosed
from genie.serving.protocol import parse

RUNS = ['{"type":"start","seq":1,"prompt":0}', '{"type":"idle","action":1}']


async def joined(scheduler, *messages):
    """A player who has sent these messages."""
    session = scheduler.join()
    for message in messages:
        await scheduler.receive(session, parse(message))
    return session


def steps_of(*sessions):
    return [len(session.game.actions) for session in sessions]


async def until(condition, seconds=20):
    """Waits for what a busy machine may take a while for."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def said(session):
    """Why the session has ended, None while it goes on."""
    try:
        while session.ready() is not None:
            pass
    except SessionClosed as closed:
        return closed.args[1]
    return None


def run_scheduler(games, play, fps=50):
    """Runs a clock while `play(clock)` does."""

    async def running():
        scheduler = BatchScheduler(games, fps)
        ticking = asyncio.create_task(scheduler.run())
        try:
            return await play(scheduler)
        finally:
            assert not ticking.done()
            ticking.cancel()

    return asyncio.run(running())


@pytest.mark.parametrize(("sizes", "expected"), [((1, 2, 4), [1, 2, 4]), ((), [1])])
def test_a_frame_of_each_batch_size_is_generated_first(
    dot_world, dot_prompts, monkeypatch, sizes, expected
):
    games, warmed = GameBatch(dot_world, dot_prompts, batch_sizes=sizes), []
    monkeypatch.setattr(games, "warm_up", warmed.append)
    asyncio.run(BatchScheduler(games, 50).warm_up())
    assert warmed == expected


def test_an_agent_plays_for_those_who_let_it(dot_world, dot_prompts):
    async def play():
        agent = Always(1)
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), 50, agent=agent)
        ticking = asyncio.create_task(scheduler.run())
        let, waits = [await joined(scheduler, RUNS[0]) for _ in range(2)]
        await scheduler.receive(let, parse('{"type":"idle","action":null,"agent":true}'))
        await until(lambda: steps_of(let)[0] > 4)
        ticking.cancel()
        return let.game.actions, waits.game.actions, agent.seen

    played, waited, seen = asyncio.run(play())
    assert set(played) == {1}
    assert waited == []
    assert (seen[0], seen[-1]) == (1, 2)


@pytest.mark.parametrize("fault", ["start", "rewind", "take_turn", "show", "picture"])
def test_a_fault_of_one_player_does_not_affect_others(dot_world, dot_prompts, monkeypatch, fault):
    """The others play on in the same rounds; the one is told."""
    games = GameBatch(dot_world, dot_prompts)

    def fails(*_):
        raise RuntimeError("of one player")

    async def play(scheduler):
        one, other = [await joined(scheduler, *RUNS) for _ in range(2)]
        await until(lambda: min(steps_of(one, other)) > 3)
        before = steps_of(other)[0]
        if fault == "start":
            monkeypatch.setattr(dot_world, "start", fails)
            await scheduler.receive(one, parse(RUNS[0]))
        elif fault == "rewind":
            monkeypatch.setattr(games, "_rewind", fails)
            await scheduler.receive(one, parse('{"type":"undo","seq":2}'))
        elif fault == "picture":
            shown = games._shown
            own = one.key
            monkeypatch.setattr(
                games, "_shown", lambda game, *more: (fails if game == own else shown)(game, *more)
            )
        else:
            monkeypatch.setattr(one, fault, fails)
        await until(lambda: steps_of(other)[0] > before + 10)
        return said(one), said(other)

    assert run_scheduler(games, play) == (FAILURE_TEXT, None)


def test_a_failed_step_ends_only_the_games_in_its_batch(dot_world, dot_prompts):
    """Who draws with other passes is in another step."""
    step = dot_world.predict

    def fails_for_the_many(state, action, sampling=None):
        if sampling == dot_world.config.sampling:
            raise RuntimeError("out of memory")
        return step(state, action, sampling)

    async def play(scheduler):
        alone = await joined(scheduler, '{"type":"sampling","steps":3,"temperature":null}', *RUNS)
        many = [await joined(scheduler, *RUNS) for _ in range(2)]
        await until(lambda: min(steps_of(alone, *many)) > 2)
        before = steps_of(alone)[0]
        dot_world.predict = fails_for_the_many
        await until(lambda: steps_of(alone)[0] > before + 5)
        ends = [said(session) for session in (alone, *many)]
        for session in many:
            scheduler.leave(session)
        again = await joined(scheduler, RUNS[0])
        await until(lambda: again.game.step == 0)
        return ends

    assert run_scheduler(GameBatch(dot_world, dot_prompts), play) == [
        None,
        FAILURE_TEXT,
        FAILURE_TEXT,
    ]


def test_frames_are_sent_before_their_commit(dot_world, dot_prompts):
    goes_on, waiting = threading.Event(), threading.Event()

    def held_up(drawing):
        waiting.set()
        assert goes_on.wait(20), "no picture was shown meanwhile"
        return drawing

    async def play(scheduler):
        session = await joined(scheduler, *RUNS)
        await until(lambda: steps_of(session)[0] > 2)
        dot_world.commit = held_up
        await until(waiting.is_set)
        shown = len(dot_world.batches)
        await until(lambda: session.game.step == shown)
        assert scheduler.idle_seconds() == 0
        goes_on.set()
        await until(lambda: steps_of(session)[0] > shown + 2)

    run_scheduler(GameBatch(dot_world, dot_prompts), play)


def test_a_failed_commit_ends_only_the_games_in_its_batch(dot_world, dot_prompts):
    async def play(scheduler):
        one, other = [await joined(scheduler, *RUNS) for _ in range(2)]
        await until(lambda: min(steps_of(one, other)) > 2)
        commit = dot_world.commit

        def fails_once(drawing):
            dot_world.commit = commit
            raise RuntimeError("out of memory")

        dot_world.commit = fails_once
        late = await joined(scheduler, RUNS[0])
        await until(lambda: said(one) and said(other))
        await until(lambda: late.game.step == 0)
        return said(late)

    assert run_scheduler(GameBatch(dot_world, dot_prompts), play) is None


def test_parsing_a_start_and_writing_a_replay_do_not_delay_ticks(
    dot_world, dot_prompts, monkeypatch
):
    goes_on = threading.Event()

    def held_up(function):
        def wait(*arguments):
            assert goes_on.wait(20), "nobody else played meanwhile"
            return function(*arguments)

        return wait

    async def play(scheduler):
        other = await joined(scheduler, *RUNS)
        await until(lambda: steps_of(other)[0] > 3)
        for name, function, message in (
            ("session.parse_start", start.parse_start, RUNS[0]),
            ("scheduler.to_dict", to_dict, '{"type":"save"}'),
        ):
            one = await joined(scheduler, RUNS[0])
            goes_on.clear()
            monkeypatch.setattr(f"genie.serving.play.{name}", held_up(function))
            before = steps_of(other)[0]
            work = asyncio.create_task(scheduler.receive(one, parse(message)))
            await until(lambda before=before: steps_of(other)[0] > before + 5, 10)
            assert not work.done()
            goes_on.set()
            await work

    run_scheduler(GameBatch(dot_world, dot_prompts), play)


def test_a_video_is_cancelled_when_its_player_leaves(dot_world, dot_prompts, monkeypatch):
    decoding, ended = threading.Event(), threading.Event()
    frames = []

    def slow(frames_to_come, *_):
        try:
            for frame in frames_to_come:
                frames.append(frame)
                decoding.set()
                time.sleep(0.02)
        finally:
            ended.set()
        return b"film"

    monkeypatch.setattr("genie.serving.play.scheduler.encode", slow)

    async def play(scheduler):
        one = await joined(scheduler, *RUNS)
        await until(lambda: steps_of(one)[0] > 30)
        await scheduler.receive(one, parse('{"type":"film","format":"gif"}'))
        await until(decoding.is_set)
        scheduler.leave(one)
        await until(ended.is_set)
        await until(lambda: scheduler._videos == {})
        return len(frames), len(one.video_frames())

    given_up, length = run_scheduler(GameBatch(dot_world, dot_prompts), play)
    assert 0 < given_up < length


def test_players_with_their_own_sampling_share_a_quarter_of_the_time(dot_world, dot_prompts):
    """Four of them, each with a temperature of its own, beside one who plays as the world does."""
    dot_world.seconds = 0.008

    async def play(scheduler):
        usual = await joined(scheduler, *RUNS)
        expensive = []
        for number in range(4):
            own = {"type": "sampling", "steps": None, "temperature": 0.1 * (number + 1)}
            expensive.append(await joined(scheduler, json.dumps(own), *RUNS))
        await until(lambda: min(steps_of(*expensive)) >= 4)
        return steps_of(usual, *expensive)

    usual, *expensive = run_scheduler(GameBatch(dot_world, dot_prompts), play)
    assert usual > 2 * max(expensive)
    assert max(expensive) - min(expensive) <= 2


def test_the_scheduler_keeps_the_frame_rate_and_sleeps_without_players(dot_world, dot_prompts):
    async def ticks():
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(scheduler.run())
        began = time.monotonic()
        session = await joined(scheduler, *RUNS)
        await until(lambda: len(dot_world.batches) >= 20)
        most = 2 + 50 * (time.monotonic() - began)
        played = len(dot_world.batches)
        scheduler.leave(session)
        left = scheduler._games
        await until(lambda: (scheduler.sessions, left._single, left._batches) == ({}, {}, []))
        ended = len(dot_world.batches)
        await asyncio.sleep(0.1)
        running.cancel()
        return played, most, ended, len(dot_world.batches)

    played, most, ended, later = asyncio.run(ticks())
    assert 20 <= played <= most
    assert later == ended


def test_a_player_with_more_maskgit_steps_does_not_delay_others(dot_world, dot_prompts):
    """Steps with more passes take 100 ms here, five ticks: then others have their time first."""
    predict, spans = dot_world.predict, []  # when each of these steps began and ended

    def slow_with_more_passes(state, action, sampling=None):
        began = time.monotonic()
        if sampling.steps > 8:
            time.sleep(0.1)
            spans.append((began, time.monotonic()))
        return predict(state, action, sampling)

    dot_world.predict = slow_with_more_passes

    async def play():
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(scheduler.run())
        usual, expensive = scheduler.join(), scheduler.join()
        await scheduler.receive(
            expensive, parse('{"type":"sampling","steps":20,"temperature":null}')
        )
        for session in (usual, expensive):
            await scheduler.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
            await scheduler.receive(session, parse('{"type":"idle","action":1}'))
        await until(lambda: len(spans) >= 4)
        beside = len(spans)
        steps = steps_of(usual)[0]
        scheduler.leave(usual)
        await until(lambda: len(spans) >= beside + 7)
        running.cancel()
        return steps, beside

    def rests(spans):
        """The time from each to the next, in times of its length."""
        return [(after - end) / (end - began) for (began, end), (after, _) in pairwise(spans)]

    usual, expensive = asyncio.run(play())
    assert min(rests(spans[:expensive])) >= EXPENSIVE_PAUSE
    assert usual > expensive
    assert statistics.median(rests(spans[expensive:])) < EXPENSIVE_PAUSE  # alone it takes none


def test_a_player_can_play_at_a_fraction_of_the_frame_rate(dot_world, dot_prompts):
    async def play():
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(scheduler.run())
        full, quarter = scheduler.join(), scheduler.join()
        await scheduler.receive(quarter, parse('{"type":"pace","every":4}'))
        for session in (full, quarter):
            await scheduler.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
            await scheduler.receive(session, parse('{"type":"idle","action":1}'))
        await until(lambda: steps_of(quarter)[0] >= 10)
        running.cancel()
        return len(full.game.actions), len(quarter.game.actions)

    full, quarter = asyncio.run(play())
    assert full / quarter == pytest.approx(4, rel=0.15)


def test_the_scheduler_reports_how_long_its_thread_is_idle(dot_world, dot_prompts):
    async def seen():
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), fps=5)
        running = asyncio.create_task(scheduler.run())
        idle_times = [scheduler.idle_seconds()]
        session = scheduler.join()
        await scheduler.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
        await scheduler.receive(session, parse('{"type":"idle","action":1}'))
        while not dot_world.batches:
            await asyncio.sleep(0.01)
        while not (idle_seconds := scheduler.idle_seconds()):
            await asyncio.sleep(0.001)
        idle_times.append(idle_seconds)
        dot_world.seconds = 0.1
        while scheduler.idle_seconds() > 0:
            await asyncio.sleep(0.01)
        idle_times.append(scheduler.idle_seconds())
        running.cancel()
        return idle_times

    free, between, drawing = asyncio.run(seen())
    assert free == math.inf
    assert 0 < between <= 0.2
    assert drawing == 0


def test_a_piece_of_work_runs_in_the_thread_that_steps_the_world(dot_world, dot_prompts):
    async def name():
        scheduler = BatchScheduler(GameBatch(dot_world, dot_prompts), fps=5)
        return await scheduler.work(lambda: threading.current_thread().name)

    assert asyncio.run(name()).startswith("genie-games")
