import statistics
import time
from contextlib import suppress

import httpx
import pytest
from served import figures
from websockets.exceptions import ConnectionClosed, InvalidStatus

from genie.serving.http.app import create_server
from genie.serving.limits import Limits
from genie.serving.protocol import TIME_OVER
from genie.serving.service import ServedWorld


@pytest.fixture
def serving(dot_world, dot_prompts, running):
    """Runs a server of the dot world with limits."""

    def run(**limits):
        return running(
            create_server([ServedWorld("dots", dot_world, dot_prompts)], None, Limits(**limits))
        )

    return run


def closed(player):
    """Waits for the server to close; returns the code and what the player was told."""
    with pytest.raises(ConnectionClosed) as closing:
        player.frames(10_000)
    return closing.value.rcvd.code, player.notes[-1]["message"]


def nobody_left(address):
    """Waits until the server has noticed that all players are gone."""
    deadline = time.monotonic() + 20
    while figures(httpx.get(f"http://{address}/metrics").text)["genie_sessions", "dots"]:
        assert time.monotonic() < deadline


def test_an_idle_player_is_disconnected(serving, playing):
    with serving(idle_minutes=1.2 / 60, players=1) as address:
        with playing(address) as player:
            player.send("start", prompt=0)
            player.send("idle", action=1)
            code, told = closed(player)  # acknowledging frames is not pressing anything
            assert code == TIME_OVER
            assert told.startswith("There was no input for 0.02 minutes")
        nobody_left(address)
        with playing(address) as player:
            player.send("start", prompt=0)
            assert player.frame().step == 0


def test_an_active_player_stays_until_the_session_limit(serving, playing):
    with serving(idle_minutes=2 / 60, session_minutes=3 / 60) as address:
        began = time.monotonic()
        with playing(address) as player:
            player.send("start", prompt=0)
            while time.monotonic() - began < 2.2:
                player.send("keys", held=[1])
                player.frame()
            code, told = closed(player)
    assert code == TIME_OVER
    assert told.startswith("The limit of")
    assert 2.9 < time.monotonic() - began < 20


def test_a_client_over_the_message_rate_is_disconnected(serving, playing):
    with serving(messages_per_second=20) as address, playing(address) as player:
        with suppress(ConnectionClosed):  # it may be sent away before it is done
            for _ in range(60):
                player.send("pause", paused=True)
        assert closed(player) == (1008, "a player may send 20 messages per second")
        counted = figures(httpx.get(f"http://{address}/metrics").text)
        assert counted["genie_rejections_total", "message"] == 1


def test_a_long_message_ends_the_connection(serving, playing):
    with serving(message_bytes=200) as address:
        with playing(address) as player:
            player.socket.send('{"type":"pause","paused":true' + " " * 200 + "}")
            assert closed(player)[0] == 1008
        with playing(address) as player:
            player.socket.send("x" * 10_000)
            with pytest.raises(ConnectionClosed) as closing:
                player.frame()
            assert closing.value.rcvd.code == 1009


def test_a_tap_is_one_step_however_late_the_release_arrives(serving, playing):
    """The key was down for 5 ms. The messages arrive 100 ms apart, six ticks of this world."""
    with serving() as address, playing(address) as player:
        player.send("start", prompt=0)
        player.frame()
        player.send("keys", held=[], pressed=[1])
        assert player.frame().step == 1
        time.sleep(0.1)
        player.send("keys", held=[], pressed=[])
        assert player.nothing_comes()


def test_a_full_server_answers_at_once_when_to_try_again(serving, playing):
    with serving(players=2, retry_after_seconds=7) as address:
        with playing(address), playing(address):
            spent = []
            for _ in range(5):
                began = time.monotonic()
                with pytest.raises(InvalidStatus) as refused, playing(address):
                    pass
                spent.append(time.monotonic() - began)
                answer = refused.value.response
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
                assert b"All 2 places are taken" in answer.body
            assert statistics.median(spent) < 1
        nobody_left(address)
        with playing(address) as player:
            player.send("start", prompt=0)
            assert player.frame().step == 0


def test_delivery_to_the_player_is_timed(serving, playing):
    with serving() as address, playing(address) as player:
        player.send("start", prompt=0)
        player.send("keys", held=[1])
        player.frames(5)
        player.send("keys", held=[])
        deadline = time.monotonic() + 20
        counted = figures(httpx.get(f"http://{address}/metrics").text)
        while (
            counted["genie_delivery_seconds_count", "dots"] != counted["genie_frames_total", "dots"]
        ):
            assert time.monotonic() < deadline, "a frame's way is not counted"
            player.nothing_comes(0.1)
            counted = figures(httpx.get(f"http://{address}/metrics").text)
        assert counted["genie_delivery_seconds_count", "dots"] >= 5
        assert counted["genie_sessions", "dots"] == 1


def test_starts_cost_their_images_and_only_a_flooding_client_waits(serving, playing):
    """Sixty starts at once are read at the rate of the limit; another player notices nothing."""
    with (
        serving(model_steps_per_second=20) as address,
        playing(address) as flood,
        playing(address) as other,
    ):
        other.send("start", prompt=0)
        other.send("idle", action=1)
        other.frames(5)
        began = time.monotonic()
        for _ in range(60):
            flood.send("start", prompt=0)
        flood.send("save")
        gaps = []
        while not [note for note in flood.notes if note["type"] == "replay"]:
            seen = time.monotonic()
            other.frame()
            gaps.append(time.monotonic() - seen)
            with suppress(TimeoutError):
                flood.frame(timeout=0)
        assert time.monotonic() - began > 0.8  # 61 of them, less the first 40, at 20 a second
        assert statistics.median(gaps) < 0.5
