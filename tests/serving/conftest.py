"""A world without a network, whose every pixel tests know; a server of it; a scripted player."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import uvicorn
from browsing import ARGUMENTS, CHROMIUM
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.serving import ServedWorld, create_server
from genie.serving.protocol import HEADER
from genie.serving.server import server_config
from genie.world.maskgit import SamplingConfig
from small import TINY, save_world

SIZE = 24
MOVES = torch.tensor([[0, -1], [0, 1], [-1, 0], [1, 0]])  # left, right, up, down


@dataclass(frozen=True)
class DotState:
    """Where the dot is, `(2,)` or `(B, 2)`, and how many steps were made."""

    dot: torch.Tensor
    time: int = 0

    @property
    def frame(self) -> torch.Tensor:
        dots = self.dot.reshape(-1, 2)
        frames = torch.zeros(len(dots), SIZE, SIZE, 3, dtype=torch.uint8)
        frames[torch.arange(len(dots)), dots[:, 0], dots[:, 1]] = 255
        return frames if self.dot.ndim == 2 else frames[0]

    @staticmethod
    def stack(states: list[DotState]) -> DotState:
        return DotState(torch.stack([state.dot for state in states]))

    def player(self, index: int) -> DotState:
        return DotState(self.dot[index])

    def split(self) -> list[DotState]:
        return [DotState(dot) for dot in self.dot]


@dataclass(frozen=True)
class DotConfig:
    height: int = SIZE
    width: int = SIZE
    fps: float = 60.0
    num_actions: int = 4
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    tokenizer: VideoTokenizerConfig = field(default_factory=VideoTokenizerConfig)
    actions: LatentActionConfig = field(default_factory=LatentActionConfig)


class DotWorld:
    """`start` puts the dot where the prompt is brightest; actions 0 to 3 move it by one pixel."""

    folder = None

    def __init__(self) -> None:
        self.config, self.dtype = DotConfig(), torch.float32
        self.device = torch.device("cpu")
        self.batches: list[int] = []
        self.samplings: list[object] = []
        self.broken = False
        self.seconds = 0.0  # that a step takes

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def start(self, prompt: np.ndarray, seed: int = 0) -> DotState:
        place = int(np.asarray(prompt)[..., 0].reshape(-1).argmax())
        return DotState(torch.tensor([place // SIZE, place % SIZE]))

    def reconstruct(self, prompt: np.ndarray) -> torch.Tensor:
        return self.start(prompt).frame

    def step(self, state: DotState, action: object, sampling: object = None) -> tuple:
        after = self.commit(self.predict(state, action, sampling))
        return after.frame, after

    def predict(self, state: DotState, action: object, sampling: object = None) -> DotState:
        if self.broken:
            raise RuntimeError("the world is broken")
        self.batches.append(state.dot.shape[0] if state.dot.ndim == 2 else 1)
        self.samplings.append(sampling)
        time.sleep(self.seconds)
        return DotState((state.dot + MOVES[torch.as_tensor(action)]) % SIZE)

    def commit(self, drawing: DotState) -> DotState:
        return drawing


@pytest.fixture
def dot_world() -> DotWorld:
    return DotWorld()


@pytest.fixture
def dot_prompts() -> list[np.ndarray]:
    """Two prompts: the dot at (12, 12) and at (3, 3)."""
    prompts = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    prompts[0, 12, 12] = prompts[1, 3, 3] = 255
    return list(prompts)


@contextlib.contextmanager
def run_server(app, port=0):
    """Runs an application on a loopback port, 0 is a free one; yields its host:port."""
    server = uvicorn.Server(server_config(app))
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server failed to start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def running():
    """A context manager that runs an application, see `run_server`."""
    return run_server


@pytest.fixture
def dots(dot_world, dot_prompts):
    """A running server of the dot world: yields its host:port."""
    with run_server(create_server([ServedWorld("dots", dot_world, dot_prompts)])) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    """A real Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page_of(browser):
    """A context manager that opens the page of a served world, where a game begins."""

    @contextlib.contextmanager
    def opened(served):
        page, errors = browser.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        with run_server(create_server([served])) as address:
            page.goto(f"http://{address}/")
            page.wait_for_selector("#canvas[data-frame]")
            yield page
            page.close()
        assert errors == []

    return opened


@pytest.fixture
def page(browser, dots):
    """The page with a game begun; fails on script errors and on requests to anyone else."""
    context = browser.new_context(has_touch=True)
    context.set_default_timeout(10_000)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on(
        "request", lambda r: f"//{dots}/" in r.url or r.url[:5] == "blob:" or errors.append(r.url)
    )
    page.goto(f"http://{dots}/")
    page.wait_for_selector("#canvas[data-frame]")
    yield page
    context.close()
    assert errors == []


@dataclass(frozen=True)
class Frame:
    """A frame message, unpacked."""

    id: int
    last_input: int
    step: int
    generation_ms: float
    picture: np.ndarray


class Player:
    """A scripted client of `/play`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.notes: list[dict] = []
        self.seq = 0

    def send(self, type: str, **fields: object) -> int:
        if type in ("start", "keys", "step", "undo"):
            self.seq += 1
            fields["seq"] = self.seq
        self.socket.send(json.dumps({"type": type, **fields}))
        return self.seq

    def frame(self, ack: bool = True, timeout: float = 10) -> Frame:
        """Waits for the next frame and acknowledges it; notes on the way are kept."""
        while isinstance(message := self.socket.recv(timeout), str):
            self.notes.append(json.loads(message))
        _, _, preview_action, *fields = HEADER.unpack_from(message)
        assert preview_action == 0
        picture = np.asarray(Image.open(io.BytesIO(message[HEADER.size :])).convert("RGB"))
        if ack:
            self._acknowledge(fields[0])
        return Frame(*fields, picture)

    def note(self, type: str, timeout: float = 10) -> dict:
        """Waits for the next note of a type; frames on the way are acknowledged."""
        while not (found := [note for note in self.notes if note["type"] == type]):
            message = self.socket.recv(timeout)
            if isinstance(message, str):
                self.notes.append(json.loads(message))
            else:
                self._acknowledge(HEADER.unpack_from(message)[3])
        self.notes.remove(found[0])
        return found[0]

    def _acknowledge(self, frame: int) -> None:
        with contextlib.suppress(ConnectionClosed):  # what was sent before it can still be read
            self.send("ack", frame=frame)

    def frames(self, count: int) -> list[Frame]:
        return [self.frame() for _ in range(count)]

    def nothing_comes(self, seconds: float = 0.2) -> bool:
        try:
            self.frame(timeout=seconds)
        except TimeoutError:
            return True
        return False


@contextlib.contextmanager
def connected_player(address, query="", **headers):
    with connect(f"ws://{address}/play{query}", additional_headers=headers) as socket:
        yield Player(socket)


@pytest.fixture
def playing():
    """A context manager that connects a `Player` to a host:port."""
    return connected_player


@pytest.fixture
def player(dots):
    with connected_player(dots) as player:
        yield player


@pytest.fixture
def tiny_config():
    """The configuration of a world of real models that is as small as can be."""
    return TINY


def save_two_worlds(folder):
    """Writes two small worlds; returns their folders."""
    for seed, name in enumerate(("one", "two")):
        picture = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
        save_world(folder / name, picture, seed=seed)
    return folder / "one", folder / "two"


@pytest.fixture
def two_worlds(tmp_path):
    """Folders of two small worlds."""
    return save_two_worlds(tmp_path)


@pytest.fixture(scope="module")
def two_worlds_of_module(tmp_path_factory):
    """The same, made once for a file of tests."""
    return save_two_worlds(tmp_path_factory.mktemp("worlds"))


@contextlib.contextmanager
def run_command(*arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "genie", "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        line = process.stdout.readline()
        assert "http://" in line, process.stderr.read()
        yield process, line.split("http://")[1].split()[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def serve_process():
    """A context manager that runs `genie serve`; yields the process and its host:port."""
    return run_command
