import asyncio
import json
import math
import struct
import threading

import pytest

from genie.serving.games import Act, Begin, Drawn, Games
from genie.serving.protocol import Codec, ProtocolError, parse
from genie.serving.session import STALLED_AFTER, Session, SessionClosed, TickLoop

PICTURE = Drawn((Codec.WEBP, b"x"), 1.0)


def tell(session, type, **fields):
    session.receive(parse(json.dumps({"type": type, **fields})))


@pytest.fixture
def session():
    return Session(number=0, num_prompts=2, num_actions=4)


@pytest.fixture
def playing(session):
    """A session whose prompt was shown and acknowledged."""
    tell(session, "start", seq=1, prompt=1, seed=5)
    assert session.take_turn() == Begin(1, 5)
    session.show(PICTURE, now=0)
    assert note(session)["type"] == "started"
    assert packet(session)[0] == 1
    tell(session, "ack", frame=1)
    return session


def note(session):
    return json.loads(session.ready())


def packet(session):
    """(frame id, last input, step) of the next frame."""
    return struct.unpack_from("<III", session.ready(), 4)


def turns(session, now=0.0):
    return session.take_turn() if session.wants_turn(now) else None


def test_nothing_happens_before_a_start(session):
    tell(session, "keys", seq=1, held=[1])
    assert not session.wants_turn(0)


def test_a_start_without_seed_draws_one_and_says_it(session):
    tell(session, "start", seq=1, prompt=0)
    turn = session.take_turn()
    assert note(session) == {"type": "started", "prompt": 0, "seed": turn.seed}


def test_the_last_key_held_counts(playing):
    tell(playing, "keys", seq=2, held=[1])
    assert turns(playing) == Act(1)
    assert turns(playing) == Act(1)
    tell(playing, "keys", seq=3, held=[1, 3])
    assert turns(playing) == Act(3)
    tell(playing, "keys", seq=4, held=[1])
    assert turns(playing) == Act(1)
    tell(playing, "keys", seq=5, held=[])
    assert turns(playing) is None


def test_a_tap_between_two_ticks_counts_once(playing):
    tell(playing, "keys", seq=2, held=[2])
    tell(playing, "keys", seq=3, held=[])
    assert [turns(playing), turns(playing)] == [Act(2), None]


def test_the_idle_action_runs_on(playing):
    tell(playing, "idle", action=3)
    assert [turns(playing), turns(playing)] == [Act(3), Act(3)]
    tell(playing, "keys", seq=2, held=[0])
    assert turns(playing) == Act(0)
    tell(playing, "keys", seq=3, held=[])
    assert turns(playing) == Act(3)
    tell(playing, "idle", action=None)
    assert turns(playing) is None


def test_a_pause_stops_the_clock_and_a_start_ends_it(playing):
    tell(playing, "keys", seq=2, held=[1])
    tell(playing, "pause", paused=True)
    assert turns(playing) is None
    tell(playing, "pause", paused=False)
    assert turns(playing) == Act(1)
    tell(playing, "pause", paused=True)
    tell(playing, "start", seq=3, prompt=0, seed=1)
    assert turns(playing) == Begin(0, 1)


def test_frames_carry_the_input_that_they_have_seen_and_their_step(playing):
    tell(playing, "keys", seq=2, held=[1])
    playing.take_turn()
    tell(playing, "keys", seq=3, held=[])
    playing.show(PICTURE, now=0)
    assert packet(playing) == (2, 2, 1)
    tell(playing, "start", seq=4, prompt=0)
    playing.take_turn()
    playing.show(PICTURE, now=0)
    note(playing)
    assert packet(playing) == (3, 4, 0)


def test_two_frames_may_be_under_way_and_the_latest_wins(playing):
    under_way = []
    for _ in range(6):
        playing.show(PICTURE, now=0)
        under_way.append(playing.ready())
    assert [frame is None for frame in under_way] == [False, False, True, True, True, True]
    tell(playing, "ack", frame=2)
    assert packet(playing)[0] == 7
    assert playing.ready() is None


def test_a_player_who_stops_reading_stalls_only_the_own_game(playing):
    tell(playing, "idle", action=0)
    for now in range(4):
        playing.show(PICTURE, now)
        playing.ready()
    assert playing.wants_turn(3 + STALLED_AFTER)
    assert not playing.wants_turn(3.1 + STALLED_AFTER)
    tell(playing, "ack", frame=3)
    assert playing.wants_turn(100)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "start", "seq": 2, "prompt": 2},
        {"type": "start", "seq": 2, "prompt": -1},
        {"type": "keys", "seq": 2, "held": [4]},
        {"type": "idle", "action": -1},
    ],
)
def test_what_there_is_not_is_refused(playing, message):
    with pytest.raises(ProtocolError):
        tell(playing, **message)


def test_an_ended_session_says_why(playing):
    playing.end("over")
    assert not playing.wants_turn(0)
    with pytest.raises(SessionClosed, match="over"):
        playing.ready()


def test_waiting_for_a_message_ends_when_there_is_one(session):
    async def wait():
        waiting = asyncio.create_task(session.next_message())
        await asyncio.sleep(0)
        tell(session, "start", seq=1, prompt=0, seed=2)
        return await asyncio.wait_for(waiting, 1)

    assert json.loads(asyncio.run(wait()))["seed"] == 2


def test_the_clock_keeps_its_pace_and_sleeps_without_players(dot_world, dot_prompts):
    async def ticks():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=50)
        running = asyncio.create_task(clock.run())
        session = clock.join()
        clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
        clock.receive(session, parse('{"type":"idle","action":1}'))
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
    assert (clock.sessions, clock._games._alone, clock._games._members) == ({}, {}, ())


def test_the_clock_says_how_long_its_thread_is_free(dot_world, dot_prompts):
    async def seen():
        clock = TickLoop(Games(dot_world, dot_prompts), fps=5)
        running = asyncio.create_task(clock.run())
        slacks = [clock.slack()]
        session = clock.join()
        clock.receive(session, parse('{"type":"start","seq":1,"prompt":0}'))
        clock.receive(session, parse('{"type":"idle","action":1}'))
        while not dot_world.batches:
            await asyncio.sleep(0.01)
        slacks.append(clock.slack())
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
