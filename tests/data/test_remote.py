import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data import remote
from genie.data.store import ClipStore
from small import save_store


class Server(ThreadingHTTPServer):
    """Serves a folder as S3 does, so far as reading goes; some requests fail at first."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.fail_every, self.requests, self.signed = folder, 0, 0, 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests += 1
        server.signed += "AWS4-HMAC-SHA256" in self.headers.get("Authorization", "")
        if server.fail_every and server.requests % server.fail_every == 0:
            return self._answer(503)
        path = server.folder / self.path.split("?")[0].removeprefix("/bucket").lstrip("/")
        if not path.is_file():
            return self._answer(404)
        content = path.read_bytes()
        if asked := self.headers.get("Range"):
            first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", asked).groups()
            start = int(first) if first else max(0, len(content) - int(last))
            stop = min(len(content), int(last) + 1) if first and last else len(content)
            span = f"bytes {start}-{stop - 1}/{len(content)}"
            return self._answer(206, content[start:stop], ("Content-Range", span))
        return self._answer(200, content)

    def _answer(self, code, content=b"", *headers):
        self.send_response(code)
        for name, value in (("Content-Length", str(len(content))), ("ETag", '"1"'), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (90, 16, 16, 3), np.uint8)
    store = save_store(
        tmp_path_factory.mktemp("remote") / "data", ("train", frames[:60]), ("val", frames[60:])
    )
    np.save(store.path / "labels.npy", np.arange(90))
    return store


@pytest.fixture
def server(local, tmp_path, monkeypatch):
    server = Server(local.path.parent)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("GENIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "RETRIES", {**remote.RETRIES, "initial_delay": "1ms"})
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["s3", "http"])
@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_a_store_at_an_address_is_that_of_the_folder(server, local, scheme, cache_bytes):
    """Every third request fails at first."""
    server.fail_every = 3
    host = "bucket" if scheme == "s3" else f"127.0.0.1:{server.server_port}"
    store = ClipStore.open(f"{scheme}://{host}/data", cache_bytes=cache_bytes)
    assert store.episodes == local.episodes
    starts = local.window_starts(8)[::7]
    assert np.array_equal(store.windows(starts, 8), local.windows(starts, 8))
    assert np.array_equal(store.labels("val"), local.labels("val"))
    assert store.rewards() is None
    assert store.in_memory is bool(cache_bytes)
    assert bool(server.signed) is (scheme == "s3")
    store.cache.write("tokens-a", np.zeros(90, np.int16))
    again = ClipStore.open(f"{scheme}://{host}/data/")
    assert again.cache.has("tokens-a"), "what is derived is kept on this machine"
    before = server.requests
    assert again.labels() is not None
    assert server.requests == before, "and so are labels"


def test_what_was_read_last_is_kept(server, local, monkeypatch):
    monkeypatch.setattr(ClipStore, "in_memory", False)
    store = ClipStore.open("s3://bucket/data", cache_bytes=2**20)
    first = store.read(0, 16)
    before = server.requests
    assert np.array_equal(store.read(0, 16), first)
    assert server.requests <= before + 1


def test_what_is_no_store_is_named(server, monkeypatch):
    with pytest.raises(UserError, match="s3://bucket/nothing: not a clip store"):
        ClipStore.open("s3://bucket/nothing")
    monkeypatch.setattr(remote, "RETRIES", {"max_retries": 0})
    server.fail_every = 1
    with pytest.raises(UserError, match=r"s3://bucket/data: cannot be read .* credentials"):
        ClipStore.open("s3://bucket/data")


def test_addresses_are_told_from_folders():
    found = remote.kvstore("gs://bucket/a/b/", "frames/")
    assert found == {"driver": "gcs", "bucket": "bucket", "path": "a/b/frames/"}
    assert not any(map(remote.is_address, ("data/store", "/s3/data", "C:/data")))
