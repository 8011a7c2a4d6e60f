from dataclasses import replace

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.world.genie import Genie
from genie.world.handover import GameLog, Handover, Origin
from genie.world.maskgit import SamplingConfig
from small import TINY

KEY = "a key of all replicas"
USUAL, OTHER = SamplingConfig(steps=2), SamplingConfig(steps=3)
GAME = Origin("hash", np.zeros((16, 16, 3), np.uint8), 7)
ACTIONS = [0, 1, 2, 3] * 5
SAMPLING = [USUAL] * 12 + [OTHER] * 8


def played(handover, origin=GAME):
    """The log of a game and all notes to the client."""
    log, _ = handover.resume("", origin, [], [])
    return log, [note for n in range(21) if (note := log.news(n, ACTIONS, SAMPLING))]


def last_token(notes):
    return [note["token"] for note in notes if "token" in note][-1]


def test_notes_hold_each_action_once_and_a_token_every_few_steps():
    _, notes = played(Handover(KEY))
    assert [action for note in notes for action in note["actions"]] == ACTIONS
    assert [note["from"] for note in notes] == [0, *range(20)]
    assert [i for i, note in enumerate(notes) if "token" in note] == [0, 8, 16]
    changes = [change for note in notes for change in note.get("sampling", [])]
    assert [(c["step"], c["sampling"]["steps"]) for c in changes] == [(0, 2), (12, 3)]


def test_another_replica_continues_a_game_by_its_token():
    token = last_token(played(Handover(KEY))[1])
    log, kept = Handover(KEY).resume(token, GAME, ACTIONS, SAMPLING)
    assert kept is None
    assert log.news(20, ACTIONS, SAMPLING) is None, "the client knows these steps"
    note = log.news(24, [*ACTIONS, 1, 1, 1, 1], [*SAMPLING, *[OTHER] * 4])
    assert note is not None
    assert (note["from"], note["actions"], "sampling" in note) == (20, [1] * 4, False)
    Handover(KEY).resume(note["token"], GAME, [*ACTIONS, 1, 1, 1, 1], [*SAMPLING, *[OTHER] * 4])


@pytest.mark.parametrize(
    ("origin", "actions", "sampling", "words"),
    [
        (replace(GAME, world="other"), ACTIONS, SAMPLING, "another world, training or dtype"),
        (replace(GAME, prompt=GAME.prompt + 1), ACTIONS, SAMPLING, "another prompt"),
        (replace(GAME, seed=8), ACTIONS, SAMPLING, "another seed"),
        (GAME, [1, *ACTIONS[1:]], SAMPLING, "another list of actions"),
        (GAME, ACTIONS[:15], SAMPLING[:15], "another list of actions"),
        (GAME, ACTIONS, [OTHER] * 20, "another list of actions"),
    ],
)
def test_a_token_of_another_game_is_refused(origin, actions, sampling, words):
    token = last_token(played(Handover(KEY))[1])
    with pytest.raises(UserError, match=words):
        Handover(KEY).resume(token, origin, actions, sampling)


def test_a_changed_foreign_or_expired_token_is_refused():
    token = last_token(played(Handover(KEY, minutes=1, clock=lambda: 1000))[1])
    text, mac = token.split(".")
    Handover(KEY, clock=lambda: 1059).read(token)
    for wrong in ("x" + token, f"{text[:-4]}AAAA.{mac}", f"{text}.{mac[:-1]}", text, "é.é", "."):
        with pytest.raises(UserError, match="was changed or signed with another key"):
            Handover(KEY, clock=lambda: 1059).read(wrong)
    for other in (Handover("the key of another service"), Handover()):
        with pytest.raises(UserError, match="was changed or signed with another key"):
            other.read(token)
    with pytest.raises(UserError, match="has expired"):
        Handover(KEY, clock=lambda: 1060).read(token)


def test_after_an_undo_the_client_is_told_what_is_left():
    log, _ = played(Handover(KEY))
    log.rewind(10)
    note = log.news(8, ACTIONS[:10], SAMPLING[:10])  # the state went back to a snapshot
    assert note is not None
    assert (note["from"], note["actions"]) == (10, [])
    others = [*ACTIONS[:10], 3, 3, 3, 3, 3, 3]
    note = log.news(16, others, [USUAL] * 16)
    assert note is not None
    assert others[: note["from"]] + note["actions"] == others
    Handover(KEY).resume(note["token"], GAME, others, [USUAL] * 16)


def test_an_undo_of_steps_that_were_not_told_changes_nothing():
    log, _ = played(Handover(KEY))
    log.rewind(24)
    assert log.news(20, ACTIONS, SAMPLING) is None


def test_a_branch_tells_its_whole_game_under_a_name_of_its_own():
    log, notes = played(Handover(KEY))
    branch = log.branch()
    note = branch.news(20, ACTIONS, SAMPLING)
    assert note is not None
    assert (note["from"], note["actions"]) == (0, ACTIONS)
    assert Handover(KEY).read(note["token"]).game != Handover(KEY).read(last_token(notes)).game


def test_a_key_is_long_and_a_folder_wants_one(tmp_path):
    with pytest.raises(UserError, match="at least 16 characters"):
        Handover("short")
    with pytest.raises(UserError, match="need the same resume key"):
        Handover(folder=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        Handover(KEY, tmp_path / "file" / "folder")


@pytest.fixture(scope="module")
def game():
    """A world, the origin of a game, and its states by their step."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    origin = Origin("hash", np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), 3)
    states = [world.start(origin.prompt, origin.seed)]
    for action, sampling in zip(ACTIONS, SAMPLING, strict=True):
        states.append(world.step(states[-1], action, sampling)[1])
    return world, origin, states


def keep(folder, game, *steps):
    """Keeps the states of these steps on one replica; returns the token."""
    _, origin, states = game
    handover = Handover(KEY, folder)
    log, notes = played(handover, origin=origin)
    for step in steps:
        log.keep(ACTIONS[:step], SAMPLING[:step], states[step])
        while handover._states._waiting:
            pass
    handover.close()
    return last_token(notes)


def test_a_kept_state_continues_the_game_with_identical_frames(tmp_path, game):
    world, origin, states = game
    token = keep(tmp_path, game, 8, 16)
    _, kept = Handover(KEY, tmp_path).resume(token, origin, ACTIONS, SAMPLING)
    assert kept.step == 16
    state = kept.state(world.start(origin.prompt, origin.seed))
    for action, sampling, wanted in zip(ACTIONS[16:], SAMPLING[16:], states[17:], strict=True):
        _, state = world.step(state, action, sampling)
        assert torch.equal(state.frames, wanted.frames)
        assert torch.equal(state.dynamics.cache.keys, wanted.dynamics.cache.keys)
    assert state.batched == states[-1].batched


def test_without_a_folder_the_games_that_were_played_last_have_states_in_memory(game):
    _, origin, states = game
    handover = Handover(games=2)
    games = [played(handover, origin=origin) for _ in range(3)]
    for step in (8, 16, 20):
        games[1][0].keep(ACTIONS[:step], SAMPLING[:step], states[step])
    for log, _ in (games[0], games[1], games[2]):
        log.keep(ACTIONS[:12], SAMPLING[:12], states[12])
    found = [handover.resume(last_token(notes), origin, ACTIONS, SAMPLING) for _, notes in games]
    assert [kept and kept.step for _, kept in found] == [None, 12, 12]
    state = found[2][1].state(states[0])
    assert torch.equal(state.dynamics.cache.keys, states[12].dynamics.cache.keys)
    others = [*ACTIONS[:10], *[3] * 10]
    token = handover.token_of(games[1][0], others[:8], SAMPLING[:8])
    assert handover.resume(token, origin, others, SAMPLING)[1] is None, "all states are of others"


def test_a_client_that_missed_the_last_steps_gets_an_older_state(tmp_path, game):
    _, origin, _ = game
    claims = Handover(KEY).read(keep(tmp_path, game, 8, 16))
    log = GameLog(Handover(KEY), origin, claims.game)
    token = Handover(KEY).token_of(log, ACTIONS[:8], SAMPLING[:8])
    _, kept = Handover(KEY, tmp_path).resume(token, origin, ACTIONS[:12], SAMPLING[:12])
    assert kept.step == 8
    others = [*ACTIONS[:8], 3, 3, 3, 3, 3, 3, 3, 3]
    _, kept = Handover(KEY, tmp_path).resume(token, origin, others, [USUAL] * 16)
    assert kept.step == 8, "the state of step 16 is of other actions"


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty", "gone"])
def test_damaged_states_are_left_out(tmp_path, game, damage):
    token = keep(tmp_path, game, 16)
    (path,) = tmp_path.glob("*.state")
    data = path.read_bytes()
    damaged = {
        "cut": data[:-1],
        "changed": data[:500] + bytes([data[500] ^ 1]) + data[501:],
        "foreign": bytes(32) + data[32:],
        "empty": b"",
    }
    path.write_bytes(damaged[damage]) if damage in damaged else path.unlink()
    assert Handover(KEY, tmp_path).resume(token, game[1], ACTIONS, SAMPLING)[1] is None
