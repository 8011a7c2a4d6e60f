import io
import socket
import subprocess
import sys
import threading
import time
import zipfile

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from genie.cli.main import main
from genie.core.config import UserError
from genie.serving import ServedWorld, create_server, serve
from genie.serving import server as server_module
from genie.world import bundled
from genie.world.genie import Genie


def test_a_port_in_use_is_reported(dot_world, dot_prompts):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*--port"):
            serve(dot_world, port=port, prompts=dot_prompts)


def test_a_world_without_prompts_is_refused_with_advice(dot_world, dot_prompts):
    with pytest.raises(UserError, match="--prompt"):
        serve(dot_world, port=0)
    with pytest.raises(UserError, match="prompts"):
        create_server([ServedWorld("world", dot_world, [])])
    with pytest.raises(UserError, match="fps"):
        create_server([ServedWorld("world", dot_world, dot_prompts, 0)])


def test_a_missing_extra_names_the_command():
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from genie.core.config import UserError\n"
        "try: from genie.serving import serve\n"
        "except UserError as error: print(error)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "pip install 'genie-worlds[serve]'" in printed.stdout


def test_a_saved_world_is_served_until_it_is_stopped(
    tiny_config, tmp_path, monkeypatch, capsys, playing
):
    """The whole way with real models: folder, prompts, server, frames equal to `Genie.step`."""
    torch.manual_seed(0)
    world = Genie(tiny_config).eval()
    world.save_pretrained(tmp_path)
    prompt = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (tmp_path / "prompts").mkdir()
    Image.fromarray(prompt).save(tmp_path / "prompts" / "a.png")

    servers = []
    make = server_module.Server
    monkeypatch.setattr(
        server_module, "Server", lambda app: servers.append(make(app)) or servers[-1]
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


@pytest.mark.parametrize("own_prompt", [False, True])
def test_without_a_name_all_bundled_worlds_are_there_to_choose_from(
    tmp_path, monkeypatch, capsys, own_prompt
):
    given = []
    monkeypatch.setattr(server_module, "run", lambda app, listener: given.append(app))
    file = tmp_path / "prompt.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file)
    serve(port=0, prompts=file if own_prompt else None, device="cpu")
    names = [bundled.DEFAULT] if own_prompt else bundled.names()
    assert names[0] == bundled.DEFAULT
    with TestClient(given[0], base_url="http://localhost") as client:
        assert [world["name"] for world in client.get("/worlds").json()] == names
    assert f"Play {' or '.join(names)} at" in capsys.readouterr().out


# Serving to others


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_off_loopback_a_token_is_needed(host, monkeypatch):
    with pytest.raises(UserError, match="export GENIE_TOKEN="):
        serve("coinrun-tiny", host=host)
    monkeypatch.delenv("GENIE_TOKEN", raising=False)
    assert main(["serve", "coinrun-tiny", "--host", host]) == 2


def test_a_short_token_is_refused(tmp_path, capsys):
    (tmp_path / "token").write_text("secret\n")
    assert main(["serve", "coinrun-tiny", "--token-file", str(tmp_path / "token")]) == 2
    assert "openssl rand -hex 32" in capsys.readouterr().err


def test_limits_come_from_the_command_line(capsys):
    assert main(["serve", "coinrun-tiny", "--limits.players", "0", "--port", "0"]) == 2
    assert "players: must be more than 0" in capsys.readouterr().err


def wait_until_ready(address, **headers):
    deadline = time.monotonic() + 30
    while httpx.get(f"http://{address}/ready", headers=headers).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_shuts_down_cleanly(two_worlds, playing, serve_process):
    token = "a-secret-of-some-length"
    bearer = {"Authorization": f"Bearer {token}"}
    with serve_process(*two_worlds, GENIE_TOKEN=token) as (process, address):
        wait_until_ready(address)
        assert httpx.get(f"http://{address}/worlds").status_code == 401
        worlds = httpx.get(f"http://{address}/worlds", headers=bearer).json()
        assert [world["name"] for world in worlds] == ["one", "two"]
        with pytest.raises(InvalidStatus), playing(address):
            pass
        with playing(address, "?world=two", **bearer) as player:
            player.send("start", prompt=0)
            player.send("idle", action=1)
            player.frames(3)
            process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                player.frames(10_000)
            assert closed.value.rcvd.code == 1012
            assert player.notes[-1] == {
                "type": "error",
                "message": "The server is being shut down.",
            }
            answer = httpx.get(f"http://{address}/ready")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        # SHUTDOWN_SECONDS at most, and what a busy machine takes to let the signal in.
        assert process.wait(server_module.SHUTDOWN_SECONDS + 20) == 0
        assert process.stderr.read() == ""


def test_the_server_generates_the_same_frames_as_the_world_alone(two_worlds, serve_process):
    """The same seed and actions: the clip of `/generate` is that of `Genie.generate`."""
    world = Genie.from_pretrained(two_worlds[1], device="cpu")
    picture = np.random.default_rng(5).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    with serve_process(*two_worlds, "--device", "cpu") as (_, address):
        wait_until_ready(address)
        asked = {"world": "two", "actions": "1,2,0,3", "seed": 9, "format": "png", "scale": 1}
        url = f"http://{address}/generate"
        answer = httpx.post(url, params=asked, content=buffer.getvalue(), timeout=60)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        frames = [np.asarray(Image.open(archive.open(name))) for name in archive.namelist()]
    expected = world.generate(picture, [1, 2, 0, 3], seed=9)
    np.testing.assert_array_equal(np.stack(frames), expected.numpy())


def test_names_are_saved_only_with_worlds_in_own_folders(two_worlds):
    load = server_module._load
    assert load(two_worlds[0], action_names=True).can_name
    assert not load(two_worlds[0]).can_name
    for world in ("coinrun-tiny", bundled.folder_of("coinrun-tiny")):
        assert not load(world, device="cpu", action_names=True).can_name


@pytest.mark.parametrize(
    ("host", "hosts", "known"),
    [
        ("0.0.0.0", [], ()),
        ("::", ["Play.example.org"], ("play.example.org",)),
        ("192.168.1.5", ["play.example.org"], ("192.168.1.5", "play.example.org")),
    ],
)
def test_a_wildcard_address_is_not_a_host_name(monkeypatch, host, hosts, known):
    class Stop(Exception):
        pass

    def made(served_worlds, access, limits, extend, handover):
        assert access.hosts == known
        raise Stop

    monkeypatch.setattr(server_module, "_listen", lambda *_: socket.socket())
    monkeypatch.setattr(server_module, "create_server", made)
    with pytest.raises(Stop):
        serve(bundled.DEFAULT, host=host, hosts=hosts, token="a-secret-of-some-length")
