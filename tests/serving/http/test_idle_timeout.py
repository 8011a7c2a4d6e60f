import socket
import time

import httpx
import pytest

from genie.serving import ServedWorld, create_server
from genie.serving.http import idle_timeout


def closed_within(connection, seconds):
    """Whether the server ends a connection; what it sends before that is passed over."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_request_is_closed(
    dot_world, dot_prompts, running, playing, monkeypatch, sent
):
    monkeypatch.setattr(idle_timeout, "HEADER_TIMEOUT", 0.5)
    app = create_server([ServedWorld("world", dot_world, dot_prompts)])
    with running(app) as address, playing(address) as player, httpx.Client() as client:
        player.send("start", prompt=0)
        player.frame()
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(sent)
            began = time.monotonic()
            assert closed_within(silent, 10)
            assert time.monotonic() - began >= 0.4
        with socket.create_connection((host, int(port))) as later:
            later.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            later.settimeout(10)
            assert later.recv(4096).startswith(b"HTTP/1.1 200")
            later.sendall(b"GET /he")  # a second request that never ends
            assert closed_within(later, 10)
        player.send("step", action=1)  # who plays is not cut
        assert player.frame().step == 1
        assert client.get(f"http://{address}/health").status_code == 200
