"""Games that go on with another server after theirs has ended."""

import numpy as np
import pytest
from browsing import CHROMIUM, tap, wait_for_dot

from genie.serving import ServedWorld, create_server
from genie.world.handover import Handover

KEY = "a key of all replicas"
ACTIONS = [1, 1, 3, 1, 3, 3, 1, 2, 1, 1, 3]


@pytest.fixture
def replica(running, dot_prompts, dot_world, tmp_path):
    """Runs a server of the dot world with a key, and with the folder that all of them share."""

    def run(key=KEY, port=0, folder=tmp_path / "states"):
        served = [ServedWorld("dots", dot_world, dot_prompts)]
        return running(create_server(served, handover=Handover(key, folder)), port)

    return run


def play(player):
    """Plays a game step by step; returns its last picture and what another server needs."""
    player.send("start", prompt=0, seed=5, resume="")
    player.send("pause", paused=True)
    frame = player.frame()
    for action in ACTIONS:
        player.send("step", action=action)
        frame = player.frame()
    player.note("started")
    game = {"prompt": 0, "seed": 5, "actions": [], "sampling": []}
    while any(note["type"] == "resume" for note in player.notes):
        note = player.note("resume")
        game["actions"] += note["actions"]
        game["sampling"] += note.get("sampling", [])
        game["resume"] = note.get("token", game.get("resume"))
    return frame, game


def test_a_game_goes_on_with_another_server_from_a_state_that_the_first_one_kept(
    replica, playing, dot_world
):
    with replica() as address, playing(address) as player:
        last, game = play(player)
    assert game["actions"] == ACTIONS
    with replica() as address, playing(address) as player:
        done = len(dot_world.batches)
        player.send("start", **game)
        frames = [player.frame()]
        while frames[-1].step < len(ACTIONS):
            frames.append(player.frame())
        assert frames[0].step >= 8
        assert len(dot_world.batches) - done == len(ACTIONS) - 8, "only the last steps are played"
        np.testing.assert_array_equal(frames[-1].picture, last.picture)
        player.send("undo", steps=9)
        while (back := player.frame()).step != 2:
            pass
        assert tuple(np.argwhere(back.picture[..., 0])[0]) == (12, 14)


def test_a_player_who_connects_again_need_not_wait_for_the_whole_game(replica, playing, dot_world):
    with replica(key=None, folder=None) as address:
        with playing(address) as player:
            last, game = play(player)
        done = len(dot_world.batches)
        with playing(address) as player:
            player.send("start", **game)
            while (frame := player.frame()).step < len(ACTIONS):
                pass
    assert len(dot_world.batches) - done == len(ACTIONS) - 8, "only the last steps are played"
    np.testing.assert_array_equal(frame.picture, last.picture)


def test_another_key_refuses_the_token_and_plays_the_actions_again_without_it(replica, playing):
    with replica() as address, playing(address) as player:
        last, game = play(player)
    with replica(key=None, folder=None) as address, playing(address) as player:
        player.send("start", **game)
        assert "signed with another key" in player.note("refused")["message"]
        player.send("start", **{**game, "resume": ""})
        while (frame := player.frame()).step < len(ACTIONS):
            pass
        np.testing.assert_array_equal(frame.picture, last.picture)


@pytest.mark.browser
@pytest.mark.flaky(reruns=2)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium was found")
def test_the_page_goes_on_by_itself(browser, replica, dot_world):
    """From a state that the last server kept, and by playing again with one of another key."""
    page = browser.new_page()
    with replica() as address:
        page.goto(f"http://{address}/")
        page.wait_for_selector("#canvas[data-frame]")
        for step in range(9):
            tap(page, "Digit2")
            wait_for_dot(page, lambda at, step=step: at == (12, 13 + step))
    for row, (key, folder) in enumerate([(KEY, {}), (None, {"folder": None})]):
        page.wait_for_selector("#overlay:has-text('Trying again in')")
        done = len(dot_world.batches)
        with replica(key, int(address.split(":")[1]), **folder):
            page.wait_for_selector("#announcer:has-text('The game goes on')", state="attached")
            page.wait_for_selector("#overlay", state="hidden")  # a frame is there
            tap(page, "Digit4")
            wait_for_dot(page, lambda at, row=row: at == (13 + row, 21))
        assert (len(dot_world.batches) - done < 9) == (key is not None)
    page.close()
