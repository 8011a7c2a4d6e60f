"""A client of `genie serve` for programs: clips over HTTP, games over a WebSocket.

from genie.serving.client import Client

with Client("http://127.0.0.1:8000") as client:
    client.generate([1, 1, 2, 0], "prompt.png", out="clip.mp4")
    with client.play(seed=7) as game:
        for _ in range(30):
            frame = game.step(1)
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from genie.serving.protocol import HEADER, World


class ServerError(Exception):
    """The server did not do what it was asked; the message says why.

    Attributes:
        status: of the HTTP answer, None where a game ended.
        retry_after: seconds after which it is worth trying again, where the server says so.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Client:
    """A connection to a server.

    Args:
        url: of the server, `http://127.0.0.1:8000` for example.
        token: the server's, where it asks for one.
        timeout: seconds to wait for an answer; a clip takes about as long as it lasts.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 120) -> None:
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=self._headers, timeout=timeout)
        self._timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; games that were begun go on."""
        self._http.close()

    def ready(self) -> bool:
        """Says whether all worlds are warm."""
        return self._http.get("ready").status_code == 200

    def worlds(self) -> list[World]:
        """Returns what there is to play.

        Raises:
            ServerError: the server refused; so do the other methods.
        """
        return [World(**world) for world in _checked(self._http.get("worlds")).json()]

    def generate(
        self,
        actions: Sequence[int],
        image: str | Path | bytes | np.ndarray | None = None,
        *,
        world: str | None = None,
        format: Literal["mp4", "gif", "png"] = "mp4",
        seed: int = 0,
        prompt: int = 0,
        scale: int | None = None,
        out: str | Path | None = None,
    ) -> bytes:
        """Plays a list of actions on the server and returns the clip.

        Args:
            actions: what to play.
            image: the picture to start from: a file, its content, or `uint8 (H, W, 3)`; None takes
                the world's own.
            world: name of the world; None takes the server's first.
            format: `mp4`, `gif`, or `png` for a ZIP archive of numbered pictures.
            seed: decides all that is random.
            prompt: which of the world's own pictures to start from, without an image.
            scale: how many times larger than the world's the frames are; None lets the server
                choose.
            out: file to write the clip to as well.
        """
        asked: dict[str, Any] = {"actions": ",".join(map(str, actions)), "world": world}
        asked |= {"format": format, "seed": seed, "prompt": prompt, "scale": scale}
        asked = {name: value for name, value in asked.items() if value is not None}
        answer = self._http.post("generate", params=asked, content=_content(image))
        clip = _checked(answer).content
        if out is not None:
            Path(out).write_bytes(clip)
        return clip

    def play(
        self, *, world: str | None = None, prompt: int = 0, seed: int | None = None
    ) -> RemoteGame:
        """Begins a game.

        Args:
            world: name of the world; None takes the server's first.
            prompt: which of the world's pictures to start from.
            seed: decides all that is random; None lets the server draw one.
        """
        url = self._http.base_url.join("play")
        url = url.copy_with(scheme="wss" if url.scheme == "https" else "ws")
        if world is not None:
            url = url.copy_add_param("world", world)
        try:
            opened = connect(str(url), additional_headers=self._headers, max_size=None)
            return RemoteGame(opened, prompt, seed, self._timeout)
        except InvalidStatus as refusal:
            answer = refusal.response
            raise _error(answer.status_code, bytes(answer.body or b""), answer.headers) from None


class RemoteGame:
    """A game on a server, one step at a time; `Client.play` begins one.

    Attributes:
        frame: the last one, `uint8 (H, W, 3)`.
        seed: that decides all that is random.
        steps: made so far.
    """

    def __init__(
        self,
        opened: AbstractContextManager[ClientConnection],
        prompt: int,
        seed: int | None,
        timeout: float,
    ) -> None:
        self._open = ExitStack()
        self._socket, self._timeout = self._open.enter_context(opened), timeout
        self._numbers = itertools.count(1)
        self.seed = -1
        self.steps = -1
        chosen = {} if seed is None else {"seed": seed}
        try:
            self._send("start", seq=next(self._numbers), prompt=prompt, **chosen)
            self.frame = self._next_frame()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RemoteGame:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the game."""
        self._open.close()

    def step(self, action: int) -> np.ndarray:
        """Plays an action and returns the frame after it, `uint8 (H, W, 3)`.

        Raises:
            ServerError: the game ended; the message says why.
        """
        self._send("step", seq=next(self._numbers), action=action)
        self.frame = self._next_frame()
        return self.frame

    def _send(self, type: str, **fields: Any) -> None:
        with suppress(ConnectionClosed):  # reading says why
            self._socket.send(json.dumps({"type": type, **fields}))

    def _next_frame(self) -> np.ndarray:
        told = "The server ended the game."
        try:
            while isinstance(message := self._socket.recv(self._timeout), str):
                note = json.loads(message)
                told = note.get("message", told)
                self.seed = note.get("seed", self.seed)
        except ConnectionClosed:
            raise ServerError(told) from None
        except TimeoutError:
            raise ServerError(f"No frame came within {self._timeout:g} seconds.") from None
        _, _, _, number, _, self.steps, _ = HEADER.unpack_from(message)
        self._send("ack", frame=number)
        with Image.open(io.BytesIO(message[HEADER.size :])) as picture:
            return np.asarray(picture.convert("RGB"))


def _content(image: str | Path | bytes | np.ndarray | None) -> bytes:
    if image is None or isinstance(image, bytes):
        return image or b""
    if isinstance(image, np.ndarray):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()
    return Path(image).read_bytes()


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise _error(answer.status_code, answer.content, answer.headers)


def _error(status: int, body: bytes, headers: Any) -> ServerError:
    try:
        words = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        words = f"The server answered with {status}."
    again = headers.get("Retry-After")
    return ServerError(words, status, None if again is None else float(again))
