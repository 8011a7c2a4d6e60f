import contextlib
import gc
import io
import time
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from genie.serving.client import Client, ServerError, _error
from genie.serving.http.app import create_server
from genie.serving.http.auth import AuthConfig
from genie.serving.limits import Limits
from genie.serving.service import ServedWorld
from genie.world.handover import Handover

TOKEN = "a-secret-of-some-length"


@pytest.fixture
def app(dot_world, dot_prompts):
    worlds = [
        ServedWorld("dots", dot_world, dot_prompts),
        ServedWorld("b & c", dot_world, dot_prompts[1:]),
    ]
    return create_server(worlds, AuthConfig(TOKEN), Limits(players=1))


@pytest.fixture
def client(app, running):
    with running(app) as address, Client(f"http://{address}", TOKEN) as client:
        while not client.ready():
            pass
        yield client


def dot(frame):
    return tuple(int(i) for i in np.unravel_index(frame[..., 0].argmax(), frame.shape[:2]))


def test_worlds_are_listed(client):
    first, second = client.worlds()
    assert (first.name, first.height, first.num_actions, len(first.prompts)) == ("dots", 24, 4, 2)
    assert second.name == "b & c"


def test_a_clip_starts_from_a_file_its_content_or_an_array(client, dot_prompts, tmp_path):
    Image.fromarray(dot_prompts[1]).save(tmp_path / "prompt.png")
    clips = [
        client.generate([1, 3], image, format="png", scale=1)
        for image in (
            tmp_path / "prompt.png",
            (tmp_path / "prompt.png").read_bytes(),
            dot_prompts[1],
        )
    ]
    clips.append(client.generate([1, 3], prompt=1, format="png", scale=1))
    clips.append(client.generate([1, 3], world="b & c", format="png", scale=1))
    for clip in clips:
        with zipfile.ZipFile(io.BytesIO(clip)) as archive:
            frames = [np.asarray(Image.open(archive.open(name))) for name in archive.namelist()]
        assert [dot(frame) for frame in frames] == [(3, 3), (3, 4), (4, 4)]


def test_a_clip_is_written_to_the_given_file(client, tmp_path):
    clip = client.generate([0, 0], out=tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == clip
    assert clip[4:8] == b"ftyp"


def test_a_game_is_played_step_by_step(client):
    with client.play(world="b & c", seed=11) as game:
        assert (dot(game.frame), game.steps, game.seed) == ((3, 3), 0, 11)
        assert [dot(game.step(action)) for action in (1, 1, 3, 2, 0)] == [
            (3, 4), (3, 5), (4, 5), (3, 5), (3, 4),
        ]  # fmt: skip
        assert game.steps == 5


def test_a_game_whose_first_frame_fails_leaves_no_connection(client, app, dot_world):
    dot_world.start = None
    with pytest.raises(ServerError, match="failed to generate"):
        client.play()
    del dot_world.start
    served = app.state.service.world(None)
    deadline = time.monotonic() + 5
    while served.scheduler.sessions:
        assert time.monotonic() < deadline
    gc.collect()  # a socket that was left open would warn
    with client.play() as game:
        game.step(1)


@pytest.fixture
def replica(running, dot_world, dot_prompts, tmp_path):
    """Runs a server, which is ready, with a key and with the folder that all of them share."""

    @contextlib.contextmanager
    def run(port=0, key="a key of all replicas"):
        served, limits = [ServedWorld("dots", dot_world, dot_prompts)], Limits(players=1)
        handover = Handover(key, tmp_path / "states")
        app = create_server(served, AuthConfig(), limits, handover=handover)
        with running(app, port) as address:
            while httpx.get(f"http://{address}/ready").status_code != 200:
                time.sleep(0.01)
            yield address

    return run


def places(game, actions):
    return [dot(game.step(action)) for action in actions]


def test_a_game_continues_on_another_server_and_after_a_lost_connection(replica, dot_world):
    with replica() as address:
        client = Client(f"http://{address}")
        game = client.play(seed=5)
        assert places(game, [1] * 9 + [3])[-1] == (13, 21)
    port = int(address.rpartition(":")[2])
    with replica(port):
        done = len(dot_world.batches)
        assert places(game, [3, 3]) == [(14, 21), (15, 21)]
        assert len(dot_world.batches) - done == 4, "two steps after the state that was kept"
        game._socket.socket.close()
        assert places(game, [2]) == [(14, 21)]
    with replica(port, "a key that no other has"):
        assert places(game, [0]) == [(14, 20)], "it is played again without the token"
        assert (game.steps, game.seed) == (14, 5)
    game._timeout = 0.1
    with pytest.raises(ServerError, match=r"No server continued the game within 0\.1 seconds"):
        game.step(1)

    def is_full(_):
        raise _error(503, b"", {"Retry-After": "3600"})

    game._connect, game._timeout = is_full, 0.5
    with pytest.raises(ServerError, match=r"No server continued the game within 0\.5 seconds"):
        game.step(1)
    client.close()
    game.close()


def test_a_date_at_which_to_come_back_is_left_out():
    refused = _error(502, b"<html>", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert (str(refused), refused.retry_after) == ("The server answered with 502.", None)


def test_rejections_have_a_reason(client, app):
    with pytest.raises(ServerError, match="has 0 to 3") as refused:
        client.generate([7])
    assert (refused.value.status, refused.value.retry_after) == (422, None)
    with pytest.raises(ServerError, match="GET /worlds") as refused:
        client.play(world="nowhere")
    assert refused.value.status == 404
    with client.play():
        with pytest.raises(ServerError, match="try again") as refused:
            client.play()
        assert (refused.value.status, refused.value.retry_after) == (503, 10)


def test_a_wrong_token_is_reported(app, running):
    with running(app) as address, Client(f"http://{address}", "another-secret-text") as client:
        with pytest.raises(ServerError, match="token is wrong"):
            client.worlds()
        with pytest.raises(ServerError, match="token is wrong"):
            client.play()


def test_a_game_ended_by_the_server_reports_the_reason(client, dot_world):
    with client.play() as game:
        game.step(1)
        dot_world.broken = True
        with pytest.raises(ServerError, match="failed to generate"):
            game.step(1)
    dot_world.broken = False
