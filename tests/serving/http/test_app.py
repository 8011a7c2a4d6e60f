import contextlib
import io
import json
import socket
import statistics
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from served import encoded, figures
from websockets.exceptions import ConnectionClosed, InvalidStatus

from genie.core.config import UserError
from genie.data.video import read_video
from genie.serving import ServedWorld, create_server
from genie.serving.limits import Limits


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


def test_the_game_waits_for_a_key_unless_it_has_an_idle_action(player):
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


def test_frames_for_a_slow_client_are_not_queued(dots, playing):
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


def test_a_failed_round_ends_its_players_with_a_message_and_the_server_continues(
    dots, dot_world, playing
):
    with playing(dots) as player:
        player.send("start", prompt=0)
        player.frame()
        dot_world.broken = True
        player.send("keys", held=[1])
        with pytest.raises(ConnectionClosed):
            player.frame()
        assert "failed to generate" in player.notes[-1]["message"]
    dot_world.broken = False
    with playing(dots) as player:
        player.send("start", prompt=0)
        player.frame()
        player.send("keys", held=[1])
        assert dot(player.frame().picture) == (12, 13)


@pytest.mark.parametrize(
    "message", ["{", b"\x00", '{"type":"keys","seq":1,"held":[9]}', "x" * 3000]
)
def test_an_invalid_message_closes_only_its_connection(dots, message, playing):
    with playing(dots) as player, playing(dots) as other:
        player.socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            player.frame()
        assert closed.value.rcvd.code == 1008
        assert player.notes[-1]["type"] == "error"
        other.send("start", prompt=0)
        assert other.frame().step == 0


def test_nothing_is_left_of_disconnected_players(dot_world, dot_prompts, playing, running):
    app = create_server([ServedWorld("world", dot_world, dot_prompts)])
    served = app.state.service.world(None)
    with running(app) as address:
        for _ in range(20):
            with playing(address) as player:
                player.send("start", prompt=0)
                player.frame()
        deadline = time.monotonic() + 20
        while served.scheduler.sessions and time.monotonic() < deadline:
            time.sleep(0.02)
        assert served.scheduler.sessions == {}


# The page and what it asks for


@pytest.fixture
def client(dot_world, dot_prompts):
    app = create_server([ServedWorld("dots & more", dot_world, dot_prompts, 12)])
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client):
    deadline = time.monotonic() + 10
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_page_and_its_parts_are_served(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
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


def test_a_page_of_another_command_needs_no_world():
    with pytest.raises(UserError, match="worlds: give at least one"):
        create_server([])
    app = create_server([], extend=lambda app: app.get("/other")(lambda: "here"))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/other").json() == "here"
        assert client.get("/worlds").json() == []
        assert client.get("/ready").status_code == 200
        assert client.get("/play").status_code == client.post("/generate?actions=1").status_code
        assert client.get("/play").status_code == 404


# Who may connect


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
def test_a_foreign_host_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "127.0.0.2:1"])
def test_loopback_names_are_accepted(client, host):
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


# Several worlds


def test_worlds_are_played_by_name(dot_world, dot_prompts, running, playing):
    other = type(dot_world)()
    worlds = [
        ServedWorld("first", dot_world, dot_prompts),
        ServedWorld("second", other, dot_prompts[1:]),
    ]
    with running(create_server(worlds)) as address:
        names = [world["name"] for world in httpx.get(f"http://{address}/worlds").json()]
        assert names == ["first", "second"]
        for name, at in (("first", (12, 12)), ("second", (3, 3))):
            with playing(address, f"?world={name}") as player:
                player.send("start", prompt=0)
                assert dot(player.frame().picture) == at
        for name in ("third", "../first", "%2e%2e%2ffirst", "/etc", "first%00"):
            with (
                pytest.raises(InvalidStatus) as refused,
                playing(address, f"?world={name}"),
            ):
                pass
            assert refused.value.response.status_code == 404
            assert "GET /worlds" in refused.value.response.body.decode()
            plain = httpx.get(f"http://{address}/play?world={name}")  # what the page asks then
            assert (plain.status_code, plain.content) == (404, refused.value.response.body)
        assert httpx.get(f"http://{address}/play?world=second").status_code == 204
        assert other.batches


# Health


def test_the_server_is_healthy_at_once_and_ready_when_warm(dot_world, dot_prompts):
    held = threading.Event()
    step = dot_world.predict
    dot_world.predict = lambda *args: held.wait(10) and step(*args)
    with TestClient(
        create_server([ServedWorld("world", dot_world, dot_prompts)]), base_url="http://localhost"
    ) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for answer in (client.get("/ready"), client.post("/generate", params={"actions": "1"})):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        held.set()
        wait_until_ready(client)
        assert client.get("/health").json() == {"status": "ok"}


def test_a_failed_world_is_not_healthy(dot_world, dot_prompts):
    dot_world.broken = True
    with TestClient(
        create_server([ServedWorld("world", dot_world, dot_prompts)]), base_url="http://localhost"
    ) as client:
        deadline = time.monotonic() + 10
        while client.get("/health").status_code == 200:
            assert time.monotonic() < deadline
        assert client.get("/health").status_code == client.get("/ready").status_code == 503


def test_no_answer_names_a_path_of_the_server(client):
    here = str(Path(__file__).parents[3])
    texts = [client.get(url).text for url in ("/worlds", "/metrics", "/openapi.json", "/nothing")]
    texts += [client.get(f"/worlds/{name}/prompts/0.png").text for name in ("x", "%2e%2e", "..%2f")]
    texts.append(client.post("/generate", params={"actions": "x"}).text)
    assert all(here not in text and "/site-packages" not in text for text in texts)


def test_the_interface_is_described_for_programs(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {"/worlds", "/generate", "/health", "/ready", "/metrics"}
    asked = {p["name"]: p for p in paths["/generate"]["post"]["parameters"]}
    assert asked["actions"]["schema"]["examples"] == ["1,1,2,0"]
    assert "413" in paths["/generate"]["post"]["responses"]
    name = paths["/worlds/{name}/prompts/{index}.png"]["get"]["parameters"][0]
    assert name["schema"]["examples"] == ["dots & more"]


# Clips


def picture_of(place, size=24, format="PNG"):
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[place] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def frames_in(answer):
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return [np.asarray(Image.open(archive.open(name))) for name in archive.namelist()]


def test_a_clip_starts_from_the_upload_and_plays_the_actions(client):
    asked = {"actions": "1,1,3", "format": "png", "scale": 1, "world": "dots & more"}
    frames = frames_in(client.post("/generate", params=asked, content=picture_of((5, 5))))
    assert [dot(frame) for frame in frames] == [(5, 5), (5, 6), (5, 7), (6, 7)]
    frames = frames_in(client.post("/generate", params={**asked, "prompt": 1}))
    assert [dot(frame) for frame in frames] == [(3, 3), (3, 4), (3, 5), (4, 5)]


def test_an_upload_of_another_size_is_resized(client):
    asked = {"actions": "1", "format": "png", "scale": 2}
    pixels = np.zeros((96, 192, 3), np.uint8)
    pixels[40:44, 128:132] = 255  # in the middle square, at (10, 20) of 24 x 24
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    frames = frames_in(client.post("/generate", params=asked, content=buffer.getvalue()))
    assert [frame.shape for frame in frames] == [(48, 48, 3)] * 2
    assert dot(frames[0][::2, ::2]) == (10, 20)


@pytest.mark.parametrize(("format", "kind"), [("mp4", "video/mp4"), ("gif", "image/gif")])
def test_clips_are_videos(client, format, kind, tmp_path):
    answer = client.post("/generate", params={"actions": "1,1", "format": format})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    (tmp_path / f"a.{format}").write_bytes(answer.content)
    assert len(list(read_video(tmp_path / f"a.{format}"))) == 3


@pytest.mark.parametrize(
    ("asked", "body", "status", "words"),
    [
        ({}, b"", 422, "actions: Field required."),
        ({"actions": "1;2"}, b"", 422, "such as 1,1,2,0"),
        ({"actions": "4"}, b"", 422, "has 0 to 3"),
        ({"actions": ",".join("1" * 257)}, b"", 422, "at most 256"),
        ({"actions": "1", "seed": "-1"}, b"", 422, "seed"),
        ({"actions": "1", "prompt": "2"}, b"", 422, "has 0 to 1"),
        ({"actions": "1", "format": "avi"}, b"", 422, "format"),
        ({"actions": "1", "sed": "1"}, b"", 422, "actions, world, format, seed, prompt, scale"),
        ({"actions": "1", "world": "../dots"}, b"", 404, "GET /worlds"),
        ({"actions": "1"}, b"<svg/>", 415, "PNG, JPEG, WebP or GIF"),
        ({"actions": "1"}, picture_of((1, 1))[:60], 422, "damaged"),
        ({"actions": "1"}, bytes(10_000_001), 413, "10 MB"),
    ],
)
def test_a_wrong_request_is_answered_with_advice(client, asked, body, status, words):
    answer = client.post("/generate", params=asked, content=body)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_clips_beyond_the_limit_are_refused_at_once(dot_world, dot_prompts, running):
    held, step = threading.Event(), dot_world.predict
    limits = Limits(concurrent_clips=2)
    app = create_server([ServedWorld("dots", dot_world, dot_prompts)], None, limits)
    with running(app) as address, ThreadPoolExecutor(2) as pool, httpx.Client() as client:
        url = f"http://{address}/generate?actions=1,1&format=png"
        while client.get(f"http://{address}/ready").status_code != 200:
            time.sleep(0.01)
        dot_world.predict = lambda *args: held.wait(10) and step(*args)
        waiting = [pool.submit(httpx.post, url, timeout=20) for _ in range(2)]
        while app.state.service.clip_slots.taken < 2:
            time.sleep(0.01)
        spent = []
        for _ in range(5):
            began = time.monotonic()
            refused = client.post(url, content=bytes(1000))
            spent.append(time.monotonic() - began)
        held.set()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert statistics.median(spent) < 1
        assert [answer.result().status_code for answer in waiting] == [200, 200]
    assert app.state.service.clip_slots.taken == 0


def test_a_slow_upload_takes_no_slot_of_clips(dot_world, dot_prompts, running):
    limits = Limits(concurrent_clips=1, concurrent_uploads=2)
    app = create_server([ServedWorld("dots", dot_world, dot_prompts)], None, limits)
    with running(app) as address, contextlib.ExitStack() as open_sockets, httpx.Client() as client:
        url = f"http://{address}/generate?actions=1&format=png"
        while client.get(f"http://{address}/ready").status_code != 200:
            time.sleep(0.01)
        head = f"POST /generate?actions=1 HTTP/1.1\r\nHost: {address}\r\nContent-Length: 99\r\n\r\n"
        host, port = address.split(":")
        for taken in (1, 2):
            slow = open_sockets.enter_context(socket.create_connection((host, int(port))))
            slow.sendall(head.encode() + b"a")
            while app.state.service.upload_slots.taken < taken:
                time.sleep(0.01)
            if taken == 1:
                assert client.post(url).status_code == 200
        refused = client.post(url, content=b"picture")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert client.post(url).status_code == 200  # without an upload


def test_players_continue_while_a_clip_is_generated(dot_world, dot_prompts, running, playing):
    app = create_server([ServedWorld("world", dot_world, dot_prompts, 30)])
    with running(app) as address, playing(address) as player:
        player.send("start", prompt=0)
        player.send("idle", action=1)
        player.frames(3)
        dot_world.seconds = 0.01
        url = f"http://{address}/generate?actions={','.join('1' * 60)}&format=png"
        with ThreadPoolExecutor(1) as pool:
            clip = pool.submit(httpx.post, url, timeout=60)
            frames = player.frames(5)
            assert not clip.done()
            while not clip.done():
                frames.append(player.frame())
            assert clip.result().status_code == 200
        assert len(frames) > 0.5 * (frames[-1].step - frames[0].step)


def test_a_world_that_fails_at_a_clip_is_a_500_without_details(dots, dot_world):
    while httpx.get(f"http://{dots}/ready").status_code != 200:
        time.sleep(0.01)
    dot_world.broken = True
    answer = httpx.post(f"http://{dots}/generate?actions=1")
    assert (answer.status_code, answer.json()["detail"][:10]) == (500, "The server")
    dot_world.broken = False
    assert httpx.post(f"http://{dots}/generate?actions=1").status_code == 200


def test_metrics_have_the_format_of_prometheus(client):
    client.post("/generate", params={"actions": "1"})
    client.get("/", headers={"host": "evil.example"})
    counted = figures(client.get("/metrics").text)
    assert counted["genie_generate_seconds_count", "dots & more"] == 1
    assert counted["genie_rejections_total", "host"] == 1


def test_an_upload_is_reconstructed_by_the_tokenizer(dots):
    with httpx.Client(base_url=f"http://{dots}") as client:
        upload = encoded("PNG", (96, 48))
        answer = client.post("/worlds/dots/reconstruction", content=upload)
        assert answer.headers["content-type"] == "image/png"
        seen = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert seen.shape == (24, 24, 3)
        assert sorted(set(seen.ravel())) == [0, 255]  # the dot world sees the brightest pixel
        assert client.post("/worlds/none/reconstruction", content=upload).status_code == 404
        assert client.post("/worlds/dots/reconstruction", content=b"no picture").status_code == 415


# Names of buttons


def test_names_are_saved_in_the_worlds_folder_and_sent_to_later_pages(
    dot_world, dot_prompts, tmp_path
):
    def client():
        served = ServedWorld("dots & more", dot_world, dot_prompts, folder=tmp_path, can_name=True)
        return TestClient(create_server([served]), base_url="http://localhost")

    url, names = "/worlds/dots%20%26%20more/names", ["left", "", "up", "down"]
    with client() as first:
        (world,) = first.get("/worlds").json()
        assert (world["names"], world["can_name"]) == ([""] * 4, True)
        answer = first.put(url, json={"names": ["left ", "", "up", "down"]})
        assert (answer.status_code, answer.json()) == (200, {"names": names})
        assert first.get("/worlds").json()[0]["names"] == names
        for wrong, status in (
            (b"{", 422),
            (json.dumps({"names": ["a"]}).encode(), 422),
            (bytes(10_000), 413),
        ):
            assert first.put(url, content=wrong).status_code == status
        foreign = {"Origin": "http://evil.example"}
        assert first.put(url, json={"names": names}, headers=foreign).status_code == 403
        assert first.put("/worlds/x/names", json={"names": names}).status_code == 404
    assert json.loads((tmp_path / "names.json").read_text()) == {"names": names}
    with client() as later:
        assert later.get("/worlds").json()[0]["names"] == names


def test_names_are_refused_where_the_folder_is_read_only(dot_world, dot_prompts, tmp_path):
    (tmp_path / "names.json").mkdir()  # nothing can take its place
    served = ServedWorld("dots", dot_world, dot_prompts, folder=tmp_path, can_name=True)
    with TestClient(create_server([served]), base_url="http://localhost") as client:
        answer = client.put("/worlds/dots/names", json={"names": [""] * 4})
        assert (answer.status_code, "this browser" in answer.json()["detail"]) == (403, True)


def test_names_are_refused_where_they_are_not_saved(client):
    answer = client.put("/worlds/dots & more/names", json={"names": [""] * 4})
    assert answer.status_code == 403
    assert "stay in this browser" in answer.json()["detail"]
    assert client.get("/worlds").json()[0]["can_name"] is False
