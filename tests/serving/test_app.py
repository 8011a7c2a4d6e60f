import io
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from genie.config import UserError
from genie.serving import app as app_module
from genie.serving import create_app, serve
from genie.world import Genie


def dot(picture):
    return tuple(int(i) for i in np.unravel_index(picture[..., 0].argmax(), picture.shape[:2]))


# Playing


def test_a_start_shows_the_prompt_and_keys_move_the_dot(player):
    player.send("start", prompt=0)
    first = player.frame()
    assert (dot(first.picture), first.step, first.last_input) == ((12, 12), 0, 1)
    seq = player.send("keys", held=[1])
    frames = player.frames(3)
    assert [dot(frame.picture) for frame in frames] == [(12, 13), (12, 14), (12, 15)]
    assert [frame.step for frame in frames] == [1, 2, 3]
    assert frames[0].last_input == seq
    assert frames[0].generation_ms > 0


def test_the_world_waits_for_a_key_unless_told_to_run_on(player):
    player.send("start", prompt=0)
    player.frame()
    assert player.nothing_comes()
    player.send("keys", held=[3])
    player.send("keys", held=[])
    assert dot(player.frame().picture) == (13, 12)
    assert player.nothing_comes()
    player.send("idle", action=0)
    assert [dot(frame.picture) for frame in player.frames(2)] == [(13, 11), (13, 10)]


def test_reset_restores_and_pause_holds(player):
    player.send("start", prompt=1, seed=7)
    player.frame()
    assert player.notes == [{"type": "started", "prompt": 1, "seed": 7}]
    player.send("keys", held=[1])
    player.frames(3)
    player.send("start", prompt=1, seed=7)
    while (frame := player.frame()).step != 0:
        pass
    assert dot(frame.picture) == (3, 3)
    player.send("idle", action=1)
    player.frame()
    player.send("pause", paused=True)
    while not player.nothing_comes():
        pass
    player.send("pause", paused=False)
    assert player.frame().step > 1


def test_players_share_batches_and_do_not_disturb_each_other(dots, dot_world, playing):
    with playing(dots) as one, playing(dots) as two:
        for player, prompt in ((one, 0), (two, 1)):
            player.send("start", prompt=prompt)
            player.frame()
            player.send("idle", action=1)
        for start, player in (((12, 12), one), ((3, 3), two)):
            for frame in player.frames(20):
                assert dot(frame.picture) == (start[0], (start[1] + frame.step) % 24)
    assert 2 in dot_world.batches


def test_a_slow_reader_never_makes_a_queue(dots, playing):
    """Unread frames are replaced by later ones; an acknowledgement brings the latest."""
    with playing(dots) as slow, playing(dots) as quick:
        for player in (slow, quick):
            player.send("start", prompt=0)
            player.send("idle", action=1)
        shown = [slow.frame(ack=False) for _ in range(2)]
        assert len(quick.frames(30)) == 30
        assert slow.nothing_comes(0.05)
        slow.send("ack", frame=shown[-1].id)
        later = slow.frame(ack=False)
        assert later.id > shown[-1].id + 15


def test_a_failed_round_ends_its_players_with_a_message_and_the_server_goes_on(
    dots, dot_world, playing
):
    with playing(dots) as player:
        player.send("start", prompt=0)
        player.frame()
        dot_world.broken = True
        player.send("keys", held=[1])
        with pytest.raises(ConnectionClosed):
            player.frame()
        assert "failed to draw" in player.notes[-1]["message"]
    dot_world.broken = False
    with playing(dots) as player:
        player.send("start", prompt=0)
        player.frame()
        player.send("keys", held=[1])
        assert dot(player.frame().picture) == (12, 13)


@pytest.mark.parametrize(
    "message", ["{", b"\x00", '{"type":"keys","seq":1,"held":[9]}', "x" * 3000]
)
def test_a_message_out_of_protocol_closes_the_connection_only(dots, message, playing):
    with playing(dots) as player, playing(dots) as other:
        player.socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            player.frame()
        assert closed.value.rcvd.code == 1008
        assert player.notes[-1]["type"] == "error"
        other.send("start", prompt=0)
        assert other.frame().step == 0


def test_nothing_is_left_of_players_who_left(dot_world, dot_prompts, playing, running):
    app = create_app(dot_world, dot_prompts)
    with running(app) as address:
        for _ in range(20):
            with playing(address) as player:
                player.send("start", prompt=0)
                player.frame()
        deadline = time.monotonic() + 5
        while app.state.clock.sessions and time.monotonic() < deadline:
            time.sleep(0.02)
        assert app.state.clock.sessions == {}


# The page and what it asks for


@pytest.fixture
def client(dot_world, dot_prompts):
    app = create_app(dot_world, dot_prompts, name="dots & more", fps=12)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def test_the_page_and_its_parts_are_served(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for part in ("play.js", "connection.js", "controls.js", "style.css", "icon.svg"):
        answer = client.get(f"/{part}")
        assert answer.status_code == 200
        assert "https:" not in answer.text
    assert client.get("/../app.py").status_code == 404


def test_the_world_is_described_with_its_prompt_pictures(client, dot_prompts):
    (world,) = client.get("/worlds").json()
    assert world.items() >= {"name": "dots & more", "fps": 12, "num_actions": 4}.items()
    assert len(world["prompts"]) == 2
    for url, prompt in zip(world["prompts"], dot_prompts, strict=True):
        picture = Image.open(io.BytesIO(client.get(f"/{url}").content))
        np.testing.assert_array_equal(np.asarray(picture), prompt)
    assert client.get("/worlds/dots & more/prompts/2.png").status_code == 404
    assert client.get("/worlds/other/prompts/0.png").status_code == 404


# Who may connect


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
def test_a_foreign_host_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "127.0.0.2:1"])
def test_loopback_names_are_served(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_foreign_origin_cannot_play(dots, origin, playing):
    with pytest.raises(InvalidStatus), playing(dots, Origin=origin):
        pass
    assert httpx.get(f"http://{dots}/worlds", headers={"Origin": origin}).status_code == 403


def test_the_own_origin_can_play(dots, playing):
    with playing(dots, Origin=f"http://{dots}") as player:
        player.send("start", prompt=0)
        assert player.frame().step == 0


# Starting the server


def test_a_port_in_use_is_said(dot_world, dot_prompts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*--port"):
            serve(dot_world, port=port, prompts=dot_prompts)


def test_off_loopback_is_refused(dot_world, dot_prompts):
    for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(UserError, match="this machine only"):
            serve(dot_world, host=host, prompts=dot_prompts)


def test_a_world_without_pictures_says_how_to_give_one(dot_world, dot_prompts):
    with pytest.raises(UserError, match="--prompt"):
        serve(dot_world, port=0)
    with pytest.raises(UserError, match="prompts"):
        create_app(dot_world, [])
    with pytest.raises(UserError, match="fps"):
        create_app(dot_world, dot_prompts, fps=0)


def test_a_missing_extra_names_the_command():
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from genie.config import UserError\n"
        "try: import genie.serving\n"
        "except UserError as error: print(error)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "pip install 'genie-worlds[serve]'" in printed.stdout


STACK = {"layers": 1, "width": 16, "heads": 2, "window": 4}
TINY = {
    "height": 16,
    "width": 16,
    "num_actions": 4,
    "tokenizer": {
        "patch": 8,
        "encoder": STACK,
        "decoder": STACK,
        "quantizer": {"codes": 16, "dim": 8},
    },
    "actions": {"patch": 8, "encoder": {**STACK, "window": 2}, "decoder": STACK},
    "dynamics": STACK,
    "sampling": {"steps": 2},
}


def test_a_saved_world_is_served_until_it_is_stopped(tmp_path, monkeypatch, capsys, playing):
    """The whole way with real models: folder, prompts, server, frames equal to `Genie.step`."""
    torch.manual_seed(0)
    world = Genie(TINY).eval()
    world.save_pretrained(tmp_path)
    prompt = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (tmp_path / "prompts").mkdir()
    Image.fromarray(prompt).save(tmp_path / "prompts" / "a.png")

    servers = []
    make = app_module.uvicorn.Server
    monkeypatch.setattr(
        app_module.uvicorn, "Server", lambda config: servers.append(make(config)) or servers[-1]
    )
    thread = threading.Thread(
        target=serve, args=(tmp_path,), kwargs={"port": 0, "device": "cpu"}, daemon=True
    )
    thread.start()
    while not (servers and servers[0].started):
        assert thread.is_alive()
        time.sleep(0.02)
    address = capsys.readouterr().out.split("http://")[1].split()[0]

    with playing(address) as player:
        player.send("start", prompt=0, seed=3)
        np.testing.assert_array_equal(player.frame().picture, prompt)
        player.send("idle", action=2)
        state = world.start(prompt, seed=3)
        for frame in player.frames(5):
            expected, state = world.step(state, 2)
            np.testing.assert_array_equal(frame.picture, expected.numpy())
    servers[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()
