import asyncio
import json
import math
import threading
import time

import pytest

from genie.serving import starts
from genie.serving.clock import FAILED, TickLoop
from genie.serving.games import Games
from genie.serving.protocol import parse
from genie.serving.session import SessionClosed

RUNS = ['{"type":"start","seq":1,"prompt":0}', '{"type":"idle","action":1}']


async def joined(clock, *messages):
    """A player who has sent these messages."""
    session = clock.join()
    for message in messages:
        await clock.receive(session, parse(message))
    return session


def steps_of(*sessions):
    return [len(session.game.actions) for session in sessions]


def said(session):
    """Why the session has ended, None while it goes on."""
    try:
        while session.ready() is not None:
            pass
    except SessionClosed as reason:
        return str(reason)
    return None


def run_clock(games, play, fps=50):
    """Runs a clock while `play(clock)` does."""

    async def running():
        clock = TickLoop(games, fps)
        ticking = asyncio.create_task(clock.run())
        try:
            return await play(clock)
        finally:
            assert not ticking.done()
            ticking.cancel()

    return asyncio.run(running())


@pytest.mark.parametrize("fault", ["start", "rewind", "take_turn", "show", "picture"])
def test_a_fault_of_one_player_is_nobody_elses(dot_world, dot_prompts, monkeypatch, fault):
    """The others play on in the same rounds; the one is told."""
    games = Games(dot_world, dot_prompts)

    def fails(*_):
        raise RuntimeError("of one player")

    async def play(clock):
        one, other = [await joined(clock, *RUNS) for _ in range(2)]
        await asyncio.sleep(0.2)
        before = steps_of(other)[0]
        if fault == "start":
            monkeypatch.setattr(dot_world, "start", fails)
            await clock.receive(one, parse(RUNS[0]))
        elif fault == "rewind":
            monkeypatch.setattr(games, "_rewind", fails)
            await clock.receive(one, parse('{"type":"undo","seq":2}'))
        elif fault == "picture":
            shown = games._count
            own = one.key
            monkeypatch.setattr(
                games, "_count", lambda game, batch: (fails if game == own else shown)(game, batch)
            )
        else:
            monkeypatch.setattr(one, fault, fails)
        await asyncio.sleep(0.4)
        return said(one), said(other), steps_of(other)[0] - before

    ended, went_on, steps = run_clock(games, play)
    assert (ended, went_on) == (FAILED, None)
    assert steps > 5


def test_a_failed_step_ends_those_who_were_in_it_only(dot_world, dot_prompts):
    """Who draws with other passes is in another step."""
    step = dot_world.step

    def fails_for_the_many(state, action, sampling=None):
        if sampling == dot_world.config.sampling:
            raise RuntimeError("out of memory")
        return step(state, action, sampling)

    async def play(clock):
        alone = await joined(clock, '{"type":"sampling","steps":3,"temperature":null}', *RUNS)
        many = [await joined(clock, *RUNS) for _ in range(2)]
        await asyncio.sleep(0.2)
        before = steps_of(alone)[0]
        dot_world.step = fails_for_the_many
        await asyncio.sleep(0.4)
        ends = [said(session) for session in (alone, *many)]
        for session in many:
            clock.leave(session)
        again = await joined(clock, RUNS[0])
        await asyncio.sleep(0.1)
        return ends, steps_of(alone)[0] - before, again.game.step

    ends, steps, begun = run_clock(Games(dot_world, dot_prompts), play)
    assert ends == [None, FAILED, FAILED]
    assert steps > 3
    assert begun == 0


def test_reading_a_start_and_writing_a_replay_stop_nobodys_clock(
    dot_world, dot_prompts, monkeypatch
):
    def slow(*arguments):
        time.sleep(0.5)
        return read(*arguments)

    read = starts.read_start
    games = Games(dot_world, dot_prompts)

    async def play(clock):
        other = await joined(clock, *RUNS)
        await asyncio.sleep(0.1)
        seen = []
        for name, message in (("read_start", RUNS[0]), ("text_of", '{"type":"save"}')):
            module = "session" if name == "read_start" else "clock"
            whole = f"genie.serving.{module}.{name}"
            slowly = slow if name == "read_start" else lambda frame: time.sleep(0.5) or ""
            one = await joined(clock, RUNS[0])
            monkeypatch.setattr(whole, slowly)
            before = steps_of(other)[0]
            await clock.receive(one, parse(message))
            seen.append(steps_of(other)[0] - before)
        return seen

    assert min(run_clock(games, play)) > 10


def test_a_film_is_given_up_when_its_player_leaves(dot_world, dot_prompts, monkeypatch):
    decoding = threading.Event()
    frames = []

    def slow(frames_to_come, *_):
        for frame in frames_to_come:
            frames.append(frame)
            decoding.set()
            time.sleep(0.02)
        return b"film"

    monkeypatch.setattr("genie.serving.clock.encode", slow)

    async def play(clock):
        one = await joined(clock, *RUNS)
        await asyncio.sleep(0.8)
        await clock.receive(one, parse('{"type":"film","format":"gif"}'))
        while not decoding.is_set():
            await asyncio.sleep(0.01)
        clock.leave(one)
        await asyncio.sleep(0.2)
        given_up, length = len(frames), len(one.film())
        await asyncio.sleep(0.2)
        return given_up, len(frames), length, clock._films

    given_up, later, length, films = run_clock(Games(dot_world, dot_prompts), play)
    assert given_up == later < length
    assert films == {}


def test_players_with_ideas_of_their_own_share_a_quarter_of_the_time(dot_world, dot_prompts):
    """Four of them, each with a temperature of its own, beside one who plays as the world does."""
    dot_world.seconds = 0.008

    async def play(clock):
        usual = await joined(clock, *RUNS)
        dear = []
        for number in range(4):
            own = {"type": "sampling", "steps": None, "temperature": 0.1 * (number + 1)}
            dear.append(await joined(clock, json.dumps(own), *RUNS))
        await asyncio.sleep(1.5)
        return steps_of(usual, *dear)

    usual, *dear = run_clock(Games(dot_world, dot_prompts), play)
    assert usual > 35  # of 75
    assert min(dear) >= 3
    assert max(dear) - min(dear) <= 2


def test_the_clock_keeps_its_pace_and_sleeps_without_players(dot_world, dot_prompts):
    async def ticks():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(clock.run())
        session = clock.join()
        await clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
        await clock.receive(session, parse('{"type":"idle","action":1}'))
        await asyncio.sleep(0.5)
        clock.leave(session)
        await asyncio.sleep(0.1)
        played = len(dot_world.batches)
        await asyncio.sleep(0.1)
        running.cancel()
        return played, len(dot_world.batches), clock

    played, later, clock = asyncio.run(ticks())
    assert 5 <= played <= 27
    assert later == played
    assert (clock.sessions, clock._games._alone, clock._games._batches) == ({}, {}, [])


def test_a_player_with_more_passes_does_not_hold_the_others_up(dot_world, dot_prompts):
    """Steps with more passes take 100 ms here, five ticks: others still get most of theirs."""
    draw = dot_world.step

    def slow_with_more_passes(state, action, sampling=None):
        if sampling.steps > 8:
            time.sleep(0.1)
        return draw(state, action, sampling)

    dot_world.step = slow_with_more_passes

    async def play():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(clock.run())
        usual, dear = clock.join(), clock.join()
        await clock.receive(dear, parse('{"type":"sampling","steps":20,"temperature":null}'))
        for session in (usual, dear):
            await clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
            await clock.receive(session, parse('{"type":"idle","action":1}'))
        await asyncio.sleep(2)
        alone = len(dear.game.actions)
        clock.leave(usual)
        await asyncio.sleep(1)
        running.cancel()
        return len(usual.game.actions), alone, len(dear.game.actions) - alone

    usual, dear, alone = asyncio.run(play())
    assert usual > 50
    assert 2 <= dear <= 6
    assert alone > 6


def test_a_player_can_play_at_a_part_of_the_pace(dot_world, dot_prompts):
    async def play():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(clock.run())
        full, quarter = clock.join(), clock.join()
        await clock.receive(quarter, parse('{"type":"pace","every":4}'))
        for session in (full, quarter):
            await clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
            await clock.receive(session, parse('{"type":"idle","action":1}'))
        await asyncio.sleep(1)
        running.cancel()
        return len(full.game.actions), len(quarter.game.actions)

    full, quarter = asyncio.run(play())
    assert quarter > 4
    assert full / quarter == pytest.approx(4, rel=0.3)


def test_the_clock_says_how_long_its_thread_is_free(dot_world, dot_prompts):
    async def seen():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=5)
        running = asyncio.create_task(clock.run())
        slacks = [clock.slack()]
        session = clock.join()
        await clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
        await clock.receive(session, parse('{"type":"idle","action":1}'))
        while not dot_world.batches:
            await asyncio.sleep(0.01)
        while not (slack := clock.slack()):
            await asyncio.sleep(0.001)
        slacks.append(slack)
        dot_world.seconds = 0.1
        while clock.slack() > 0:
            await asyncio.sleep(0.01)
        slacks.append(clock.slack())
        running.cancel()
        return slacks

    free, between, drawing = asyncio.run(seen())
    assert free == math.inf
    assert 0 < between <= 0.2
    assert drawing == 0


def test_a_piece_of_work_runs_in_the_thread_that_steps_the_world(dot_world, dot_prompts):
    async def name():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=5)
        return await clock.work(lambda: threading.current_thread().name)

    assert asyncio.run(name()).startswith("genie-games")
