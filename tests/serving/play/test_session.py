import asyncio
import json
import struct

import numpy as np
import pytest

from genie.core.config import UserError, from_dict
from genie.data.images import Codec, decode_picture
from genie.serving.play.batch import (
    CopyGame,
    DropGame,
    GameBatch,
    PlayAction,
    PreviewActions,
    Rewind,
    ShowFrame,
    StartGame,
    TurnResult,
)
from genie.serving.play.session import MAX_GAMES, STALLED_AFTER, Session, SessionClosed
from genie.serving.protocol import HEADER, ProtocolError, StartMessage, parse
from genie.world.action_mapper import ActionMapper, MapperConfig
from genie.world.config import GenieConfig
from genie.world.handover import Handover, Origin
from genie.world.maskgit import SamplingConfig
from genie.world.replay import encode_frame
from small import TINY

WORLD = from_dict(GenieConfig, {**TINY, "height": 24, "width": 24, "fps": 60, "sampling": {}})
PICTURE = (Codec.WEBP, b"x")
USUAL = SamplingConfig()


def notify(session, type, **fields):
    message = parse(json.dumps({"type": type, **fields}))
    if isinstance(message, StartMessage):
        session.start_game(message, *session.parse(message))
    else:
        session.receive(message)


def draws(session, now=0, step=None):
    """Shows what the turn that was taken last leads to."""
    turn = session._turn_game
    session.show(TurnResult(PICTURE, 1.0, len(turn.actions) if step is None else step), now)


def act(action):
    return PlayAction(action, USUAL)


@pytest.fixture
def session():
    return Session(0, WORLD, (1, 1))


@pytest.fixture
def playing(session):
    """A session whose prompt was shown and acknowledged."""
    notify(session, "start", seq=1, prompt=1, seed=5)
    assert session.take_turn() == StartGame(1, 5)
    draws(session)
    assert note(session)["type"] == "started"
    assert packet(session)[0] == 1
    notify(session, "ack", frame=1)
    return session


def note(session):
    return json.loads(session.ready())


def packet(session):
    """(frame id, last input, step) of the next frame."""
    return struct.unpack_from("<III", session.ready(), 4)


def turns(session, now=0.0):
    """The next turn, if there is one; what it leads to is shown."""
    if not session.wants_turn(now):
        return None
    turn = session.take_turn()
    if isinstance(turn, PreviewActions):
        seen = (PICTURE,) * len(turn.actions) if turn.last else ()
        session.show(TurnResult(PICTURE, 1.0, session.game.step, seen), now)
    elif isinstance(turn, ShowFrame):
        session.show(TurnResult(PICTURE, 1.0, max(0, session.game.step)), now)
    elif isinstance(turn, Rewind):  # as if the start alone were known
        session.show(TurnResult(PICTURE, 1.0, 0), now)
    else:
        session.show(TurnResult(PICTURE, 1.0, session.game.step + 1), now)
    return turn


def arrives(session):
    """All that can be sent now: notes, and (what it leads to, step) of frames."""
    sent = []
    while (message := session.ready()) is not None:
        if isinstance(message, str):
            sent.append(json.loads(message))
            continue
        _, _, preview_action, frame, _, step, _ = HEADER.unpack_from(message)
        sent.append((preview_action, step))
        if not preview_action:
            notify(session, "ack", frame=frame)
    return sent


def test_nothing_happens_before_a_start(session):
    notify(session, "keys", seq=1, held=[1])
    assert not session.wants_turn(0)


def test_a_start_without_seed_samples_and_reports_one(session):
    notify(session, "start", seq=1, prompt=0)
    turn = session.take_turn()
    assert note(session) == {"type": "started", "prompt": 0, "seed": turn.seed}


def test_maskgit_steps_outside_of_the_shared_batch_are_counted(session):
    assert session.extra_maskgit_steps() == 0
    notify(session, "start", seq=1, prompt=0)
    session.take_turn()
    draws(session)
    notify(session, "idle", action=1)
    assert session.extra_maskgit_steps() == 0
    notify(session, "sampling", steps=USUAL.steps + 3, temperature=1.0)
    assert session.extra_maskgit_steps() == USUAL.steps + 3


def test_the_last_held_key_is_played(playing):
    notify(playing, "keys", seq=2, held=[1])
    assert turns(playing) == act(1)
    assert turns(playing) == act(1)
    notify(playing, "keys", seq=3, held=[1, 3])
    assert turns(playing) == act(3)
    notify(playing, "keys", seq=4, held=[1])
    assert turns(playing) == act(1)
    notify(playing, "keys", seq=5, held=[])
    assert turns(playing) is None


def test_a_tap_between_two_ticks_counts_once(playing):
    notify(playing, "keys", seq=2, held=[2])
    notify(playing, "keys", seq=3, held=[])
    assert [turns(playing), turns(playing)] == [act(2), None]


def test_a_press_is_played_once_until_its_key_is_held(playing):
    notify(playing, "keys", seq=2, held=[], pressed=[2])
    assert [turns(playing), turns(playing)] == [act(2), None]
    notify(playing, "keys", seq=3, held=[2], pressed=[])
    assert [turns(playing), turns(playing)] == [act(2), act(2)]
    notify(playing, "keys", seq=4, held=[2], pressed=[1])  # beside the key that is held
    assert [turns(playing), turns(playing)] == [act(1), act(2)]
    notify(playing, "keys", seq=5, held=[], pressed=[])
    assert turns(playing) is None
    notify(playing, "keys", seq=6, held=[3], pressed=[])
    notify(playing, "keys", seq=7, held=[], pressed=[])  # released before a step was due
    assert turns(playing) is None
    with pytest.raises(ProtocolError):
        notify(playing, "keys", seq=8, held=[], pressed=[4])


def test_the_idle_action_is_played_without_keys(playing):
    notify(playing, "idle", action=3)
    assert [turns(playing), turns(playing)] == [act(3), act(3)]
    notify(playing, "keys", seq=2, held=[0])
    assert turns(playing) == act(0)
    notify(playing, "keys", seq=3, held=[])
    assert turns(playing) == act(3)
    notify(playing, "idle", action=None)
    assert turns(playing) is None


def test_an_agent_chooses_what_is_played_without_keys_while_it_is_asked_to(playing):
    assert not playing.wants_turn(0)
    notify(playing, "idle", action=None, agent=True)
    assert playing.take_turn() == ShowFrame()  # so that it sees a frame to begin with
    draws(playing)
    playing.follow(2, [0.25, 0.25, 0.5, 0.0])
    assert json.loads(playing.ready()) == {"type": "agent", "chances": [0.25, 0.25, 0.5, 0.0]}
    for seq, held, played in ((2, [], 2), (3, [1], 1), (4, [], 2)):
        notify(playing, "keys", seq=seq, held=held)
        assert playing.take_turn() == act(played)
        draws(playing)
    notify(playing, "idle", action=None)
    playing.follow(3, [0.0, 0.0, 0.0, 1.0])  # it answers too late
    assert not playing.wants_turn(0)


def test_a_pause_stops_the_clock_and_a_start_ends_it(playing):
    notify(playing, "keys", seq=2, held=[1])
    notify(playing, "pause", paused=True)
    assert turns(playing) is None
    notify(playing, "pause", paused=False)
    assert turns(playing) == act(1)
    notify(playing, "pause", paused=True)
    notify(playing, "start", seq=3, prompt=0, seed=1)
    assert turns(playing) == StartGame(0, 1)


def test_single_steps_are_played_while_the_game_is_paused(playing):
    notify(playing, "pause", paused=True)
    notify(playing, "step", seq=2, action=3)
    notify(playing, "step", seq=3, action=1)
    assert not playing.in_real_time()
    assert [turns(playing) for _ in range(3)] == [act(3), act(1), None]
    for seq in range(20):
        notify(playing, "step", seq=seq + 4, action=0)
    assert sum(turns(playing) is not None for _ in range(30)) == 8


def test_an_undone_game_is_replayed_up_to_there_without_frames(playing):
    notify(playing, "pause", paused=True)
    for seq, action in enumerate([3, 1, 2]):
        notify(playing, "step", seq=seq + 2, action=action)
        turns(playing)
    arrives(playing)
    notify(playing, "undo", seq=5)
    assert [turns(playing) for _ in range(4)] == [Rewind(2), act(3), act(1), None]
    assert arrives(playing) == [(0, 2)]
    assert len(playing.video_frames()) == 3
    notify(playing, "undo", seq=6, steps=10)
    assert [turns(playing) for _ in range(2)] == [Rewind(0), None]
    notify(playing, "undo", seq=7)
    assert turns(playing) is None
    notify(playing, "step", seq=8, action=0)
    assert [turns(playing), playing.game.actions] == [act(0), [0]]


def test_a_message_during_an_undo_tells_no_step_that_was_undone(playing):
    origin = Origin("world", np.zeros((24, 24, 3), np.uint8), 5)
    playing.game.log, _ = Handover().resume("", origin, [], [])
    for action in (1, 2, 3):
        notify(playing, "step", seq=2, action=action)
        turns(playing)
        told = [sent["actions"] for sent in arrives(playing) if isinstance(sent, dict)]
        assert told == [[action]]
    notify(playing, "undo", seq=3, steps=2)
    assert playing.take_turn() == Rewind(1)  # the world steps in another thread meanwhile
    for action in (0, 0, 0):
        notify(playing, "step", seq=4, action=action)
    assert [(sent["from"], sent["actions"]) for sent in arrives(playing)] == [(1, [])]
    draws(playing, step=0)
    while turns(playing):
        pass
    told = [sent for sent in arrives(playing) if isinstance(sent, dict)]
    assert [(sent["from"], sent["actions"]) for sent in told] == [(1, [0, 0, 0])]


def test_an_undo_during_a_step_undoes_that_step(playing):
    notify(playing, "keys", seq=2, held=[1])
    turn = playing.take_turn()
    notify(playing, "keys", seq=3, held=[])
    notify(playing, "undo", seq=4)
    arrives(playing)
    draws(playing, step=1)
    assert (turn, arrives(playing)) == (act(1), [])
    assert turns(playing) == Rewind(0)
    assert (arrives(playing), playing.game.actions) == ([(0, 0)], [])


def test_a_branch_is_a_second_game_and_the_first_is_kept(playing):
    notify(playing, "step", seq=2, action=3)
    turns(playing)
    first = playing.key
    notify(playing, "branch")
    assert playing.key != first
    assert playing.take_maintenance() == [CopyGame(first, playing.key)]
    assert turns(playing) == ShowFrame()
    notify(playing, "step", seq=3, action=1)
    assert turns(playing) == act(1)
    assert playing.game.actions == [3, 1]
    notify(playing, "switch", game=first[1])
    assert [turns(playing), playing.game.actions] == [ShowFrame(), [3]]
    notify(playing, "close", game=1)
    assert arrives(playing)[0]["games"] == [{"game": 0, "step": 1}]
    assert playing.take_maintenance() == [DropGame((0, 1))]
    assert playing.keys == [(0, 0)]


def test_a_branch_left_before_its_first_turn_keeps_its_start(playing, dot_world, dot_prompts):
    games = GameBatch(dot_world, dot_prompts)
    games.advance({playing.key: StartGame(0, 5)})

    def draw():
        while playing.wants_turn(0):
            games.run_maintenance(playing.take_maintenance())
            playing.show(games.advance({playing.key: playing.take_turn()})[playing.key], 0)

    def step(action, times=1):
        for _ in range(times):
            notify(playing, "step", seq=1, action=action)

    step(3, 2)
    draw()
    notify(playing, "branch")  # from step 2, into game 1
    notify(playing, "switch", game=0)
    step(1, 3)
    draw()
    notify(playing, "undo", seq=1, steps=4)
    draw()
    notify(playing, "switch", game=1)
    draw()
    assert (playing.game.step, playing.game.actions) == (2, [3, 3])
    shown = decode_picture(games.advance({playing.key: ShowFrame()})[playing.key].picture)
    assert tuple(np.argwhere(shown[..., 0])[0]) == (14, 12)


def test_a_branch_of_a_game_without_frames_generates_its_own(session):
    notify(session, "start", seq=1, prompt=0, seed=3)
    notify(session, "branch")
    assert turns(session) == StartGame(0, 3)
    for _ in range(MAX_GAMES + 2):
        notify(session, "branch")
    assert len(session.keys) == MAX_GAMES
    notify(session, "close", game=session.key[1])
    assert len(session.keys) == MAX_GAMES


def test_sampling_is_the_players_own_and_remembered_per_step(playing):
    notify(playing, "step", seq=2, action=0)
    turns(playing)
    notify(playing, "sampling", steps=20, temperature=0.5)
    notify(playing, "step", seq=3, action=0)
    other = SamplingConfig(steps=20, temperature=0.5)
    assert turns(playing) == PlayAction(0, other)
    notify(playing, "sampling", steps=None, temperature=None)
    assert playing.game.sampling == [USUAL, other]
    notify(playing, "undo", seq=4)
    assert playing.game.sampling == [USUAL]


def test_guidance_is_refused_where_the_world_has_none(playing):
    with pytest.raises(ProtocolError, match="unconditional_fraction"):
        notify(playing, "sampling", steps=None, temperature=None, guidance=2.0)
    notify(playing, "sampling", steps=None, temperature=None, guidance=0.0)
    notify(playing, "step", seq=3, action=0)
    assert turns(playing) == act(0)


def test_a_preview_is_generated_at_rest_and_belongs_to_its_frame(playing):
    notify(playing, "peek", steps=2)
    notify(playing, "step", seq=2, action=0)
    assert turns(playing) == act(0)
    assert turns(playing) is None
    notify(playing, "peek", steps=2)
    assert [turns(playing) for _ in range(5)] == [
        PreviewActions((0, 1), True, False, USUAL),
        PreviewActions((0, 1), False, True, USUAL),
        PreviewActions((2, 3), True, False, USUAL),
        PreviewActions((2, 3), False, True, USUAL),
        None,
    ]
    assert arrives(playing) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]


def test_a_whole_game_can_be_opened_and_is_shown_while_it_is_replayed(session):
    picture = encode_frame(np.zeros((24, 24, 3), np.uint8))
    sampling = [{"step": 0, "sampling": {"steps": 3}}, {"step": 1, "sampling": {"steps": 5}}]
    fields = {"prompt": [picture], "seed": 7, "actions": [1, 2], "sampling": sampling}
    notify(session, "start", seq=1, **fields)
    begin = turns(session)
    assert begin.prompt.shape == (24, 24, 3)
    drawn = [PlayAction(1, SamplingConfig(steps=3)), PlayAction(2, SamplingConfig(steps=5))]
    assert [turns(session), turns(session), turns(session)] == [*drawn, None]
    note, *frames = arrives(session)
    assert (note, frames) == ({"type": "started", "prompt": None, "seed": 7}, [(0, 2)])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": [encode_frame(np.zeros((8, 8, 3), np.uint8))]}, "8x8, the world's are 24x24"),
        ({"prompt": ["%%%"]}, "not a PNG"),
        ({"prompt": [encode_frame(np.zeros((24, 24, 3), np.uint8))[:72]]}, "damaged"),
        ({"prompt": 0, "sampling": [{"step": 1, "sampling": {}}]}, "expected changes in order"),
        ({"prompt": 0, "sampling": [{"step": 0, "sampling": {"guidance": 2.0}}]}, "unconditional"),
        ({"prompt": 0, "sampling": [{"step": 0, "sampling": {"steps": 33}}]}, "33 steps"),
        ({"prompt": 0, "sampling": [{"step": 0, "sampling": {"size": 65}}]}, "unknown key"),
    ],
)
def test_a_start_that_does_not_fit_the_world_is_refused_and_the_game_continues(
    playing, fields, reason
):
    with pytest.raises(UserError, match=reason):
        notify(playing, "start", seq=2, **fields)
    notify(playing, "step", seq=3, action=2)
    assert turns(playing) == act(2)


def test_frames_carry_the_input_that_they_reflect_and_their_step(playing):
    notify(playing, "keys", seq=2, held=[1])
    playing.take_turn()
    notify(playing, "keys", seq=3, held=[])
    draws(playing)
    assert packet(playing) == (2, 2, 1)
    notify(playing, "start", seq=4, prompt=0)
    playing.take_turn()
    draws(playing)
    note(playing)
    assert packet(playing) == (3, 4, 0)


def test_two_frames_may_be_unacknowledged_and_the_latest_wins(playing):
    under_way = []
    for _ in range(6):
        draws(playing)
        under_way.append(playing.ready())
    assert [frame is None for frame in under_way] == [False, False, True, True, True, True]
    notify(playing, "ack", frame=2)
    assert packet(playing)[0] == 7
    assert playing.ready() is None


def test_only_frames_of_the_game_are_acknowledged_and_timed():
    delivered = []
    session = Session(0, WORLD, (1, 1), delivered.append)
    notify(session, "start", seq=1, prompt=0)
    turns(session)
    notify(session, "peek", steps=1)
    turns(session)
    session.send_video((Codec.GIF, b"film"))
    while session.ready() is not None:  # the note, the frame, its previews, the video
        pass
    assert list(session._unacknowledged) == [1]
    notify(session, "ack", frame=1)
    notify(session, "ack", frame=1)
    assert len(delivered) == 1
    assert 0 <= delivered[0] < 5


def test_a_client_that_stops_reading_stalls_only_its_own_game(playing):
    notify(playing, "idle", action=0)
    for now in range(4):
        draws(playing, now, step=now + 1)
        playing.ready()
    assert playing.wants_turn(3 + STALLED_AFTER)
    assert not playing.wants_turn(3.1 + STALLED_AFTER)
    notify(playing, "ack", frame=3)
    assert playing.wants_turn(100)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "start", "seq": 2, "prompt": 2},
        {"type": "start", "seq": 2, "prompt": -1},
        {"type": "keys", "seq": 2, "held": [4]},
        {"type": "idle", "action": -1},
        {"type": "step", "seq": 2, "action": 4},
        {"type": "start", "seq": 2, "prompt": 0, "actions": [0, 4]},
        {"type": "switch", "game": 1},
    ],
)
def test_a_missing_action_or_game_is_refused(playing, message):
    with pytest.raises(ProtocolError):
        notify(playing, **message)


def test_an_ended_session_reports_the_reason(playing):
    playing.end("over")
    assert not playing.wants_turn(0)
    with pytest.raises(SessionClosed, match="over"):
        playing.ready()


def test_waiting_for_a_message_ends_when_there_is_one(session):
    async def wait():
        waiting = asyncio.create_task(session.next_message())
        await asyncio.sleep(0)
        notify(session, "start", seq=1, prompt=0, seed=2)
        return await asyncio.wait_for(waiting, 1)

    assert json.loads(asyncio.run(wait()))["seed"] == 2


MOVES = np.array([[0, -1], [0, 1], [-1, 0], [1, 0]])


@pytest.mark.parametrize("seed", range(20))
def test_the_state_follows_the_actions_whatever_the_player_does(dot_world, dot_prompts, seed):
    """Messages at random, also while a turn is being drawn: every game ends where its list says."""
    rng = np.random.default_rng(seed)
    games, session = GameBatch(dot_world, dot_prompts), Session(0, WORLD, (1, 1))

    def say_something():
        action, number = int(rng.integers(4)), int(rng.integers(5))
        seq = int(rng.integers(1000))
        messages = [
            {"type": "start", "seq": seq, "prompt": action % 2, "actions": [action] * number},
            {"type": "keys", "seq": seq, "held": [action][: number % 2]},
            {"type": "undo", "seq": seq, "steps": 1 + 3 * number},
            {"type": "branch"},
            {"type": "close", "game": number},
            {"type": "peek", "steps": 2},
            {"type": "pause", "paused": bool(number % 2)},
            *({"type": "step", "seq": seq, "action": action} for _ in range(8)),
            *(
                {"type": "switch", "game": key[1]}
                for key in session.keys
                if key[1] in session._games
            ),
        ]
        notify(session, **messages[rng.integers(len(messages))])

    def draw(talking):
        key, turn = session.key, session.take_turn()
        games.run_maintenance(session.take_maintenance())
        while talking and rng.random() < 0.5:
            say_something()
        drawn = games.advance({key: turn})[key]
        session.show(drawn, 0)
        arrives(session)
        return drawn

    for _ in range(400):
        say_something()
        if session.wants_turn(0):
            draw(talking=True)
    for key in [key for key in session.keys if session.game is not None]:
        notify(session, "switch", game=key[1])
        notify(session, "keys", seq=1, held=[])
        drawn = None
        while session.wants_turn(0):
            drawn = draw(talking=False)
        game = session.game
        start = np.array([(12, 12), (3, 3)][game.begin.prompt])
        moves = MOVES[game.actions].sum(0) if game.actions else 0
        picture = decode_picture(drawn.picture)[..., 0]
        assert tuple(np.argwhere(picture)[0]) == tuple((start + moves) % 24)
        assert [step for step, _ in game.video_frames] == list(range(len(game.actions) + 1))
    games.run_maintenance(session.take_maintenance())
    assert sorted(games._games) == sorted((0, number) for number in session._games)


@pytest.fixture
def named(dot_world, dot_prompts):
    """A session of a game whose left and right are the latent actions 1 and 3."""
    mapper = ActionMapper(MapperConfig("dictionary", ("down", "left", "right"), 4, "", 2))
    mapper.counts[[1, 3], [1, 2]] = 1
    games = GameBatch(dot_world, dot_prompts, mapper=mapper)
    session = Session(0, WORLD, (1, 1), real_actions=2)
    notify(session, "start", seq=1, prompt=0, seed=5)
    return session, games


def round_of(session, games):
    """Takes one turn; what it leads to is shown by the second function."""
    games.run_maintenance(session.take_maintenance())
    results = games.advance({session.key: session.take_turn()})
    (result,) = results.values()
    return result, lambda: session.show(result, 0)


def all_rounds(session, games):
    while session.wants_turn(0):
        round_of(session, games)[1]()


def place(games, session):
    shown = decode_picture(games.advance({session.key: ShowFrame()})[session.key].picture)
    return tuple(np.argwhere(shown[..., 0])[0])


LEFT, RIGHT = 4, 5  # beside four latent actions


def test_real_actions_are_played_by_latent_ones_which_the_game_keeps(named):
    session, games = named
    for action in (LEFT, 3, RIGHT, RIGHT):
        notify(session, "step", seq=1, action=action)
    assert session.game.actions == [LEFT, 3, RIGHT, RIGHT]
    all_rounds(session, games)
    assert session.game.actions == [1, 3, 3, 3]
    assert place(games, session) == (15, 13)
    notify(session, "undo", seq=2, steps=2)
    notify(session, "step", seq=3, action=LEFT)
    all_rounds(session, games)
    assert (session.game.actions, place(games, session)) == ([1, 3, 1], (13, 14))
    notify(session, "keys", seq=4, held=[0, RIGHT])
    round_of(session, games)[1]()
    assert session.game.actions[-1] == 3
    for message in ({"action": 6}, {"action": -1}):
        with pytest.raises(ProtocolError, match="this world has 0 to 5"):
            notify(session, "step", seq=5, **message)


def test_a_branch_and_an_undo_during_a_round_know_the_latent_actions_too(named):
    session, games = named
    all_rounds(session, games)
    notify(session, "step", seq=1, action=LEFT)
    _, show = round_of(session, games)
    notify(session, "branch")
    notify(session, "step", seq=2, action=RIGHT)
    show()
    all_rounds(session, games)
    assert session.game.actions == [1, 3]
    notify(session, "step", seq=3, action=LEFT)
    _, show = round_of(session, games)
    notify(session, "undo", seq=4, steps=2)
    notify(session, "step", seq=5, action=RIGHT)  # where another action is still on its way
    show()
    all_rounds(session, games)
    assert session.game.actions == [1, 3]
    notify(session, "switch", game=0)
    all_rounds(session, games)
    assert session.game.actions == [1]


def test_previews_are_of_real_actions_where_the_player_has_those(named):
    session, games = named
    all_rounds(session, games)
    arrives(session)
    notify(session, "peek", real=True, steps=2)
    all_rounds(session, games)
    previews = [m for m in iter(session.ready, None) if HEADER.unpack_from(m)[2]]
    assert [HEADER.unpack_from(m)[2] for m in previews] == [LEFT + 1, RIGHT + 1]
    dots = [decode_picture((Codec.WEBP, m[HEADER.size :]))[..., 0].argmax() for m in previews]
    assert [divmod(int(dot), 24) for dot in dots] == [(12, 14), (14, 12)]
