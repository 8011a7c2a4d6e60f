"""A Python client of `genie serve`: clips over HTTP, games over a WebSocket.

from genie.serving.client import Client

with Client("http://127.0.0.1:8000") as client:
    client.generate([1, 1, 2, 0], "prompt.png", out="clip.mp4")
    with client.play(seed=7) as game:
        for _ in range(30):
            frame = game.step(1)
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from genie.data.images import Codec, decode_picture, png
from genie.serving.protocol import HEADER, SERVICE_RESTART, World
from genie.world.played_game import PlayedGame

SOON, LONGEST = 0.2, 10.0  # seconds at least until the next try of a lost game, which double
NOT_READY = (502, 503, 504)  # of a server or the proxy in front of it


class ServerError(Exception):
    """The server rejected a request or ended a game; the message says why.

    Attributes:
        status: HTTP status code, None if a game ended.
        retry_after: seconds after which to try again, None if the server did not say.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class _Lost(ServerError):
    """The server has gone or is not ready; it, or another one, may answer later."""


class Client(AbstractContextManager["Client"]):
    """A connection to a server, or to several behind one address.

    Args:
        url: of the server, for example `http://127.0.0.1:8000`.
        token: of the server, if it needs one.
        timeout: seconds to wait for an answer. A clip takes about its own duration.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 120) -> None:
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=self._headers, timeout=timeout)
        self._timeout = timeout

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; games continue."""
        self._http.close()

    def ready(self) -> bool:
        """Returns whether the server is ready."""
        return self._http.get("ready").status_code == 200

    def worlds(self) -> list[World]:
        """Returns the worlds that can be played.

        Raises:
            ServerError: the server rejected the request; the other methods raise it too.
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
        """Generates a clip on the server and returns it.

        Args:
            actions: to play.
            image: start image: a file, its content, or `uint8 (H, W, 3)`; None takes a prompt of
                the world.
            world: name of the world; None takes the server's first.
            format: `mp4`, `gif`, or `png` for a ZIP archive of numbered images.
            seed: of all random numbers.
            prompt: index of the world's prompt, without an image.
            scale: factor by which the frames are enlarged; None lets the server choose.
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
        """Starts a game.

        Args:
            world: name of the world; None takes the server's first.
            prompt: index of the world's prompt.
            seed: of all random numbers; None lets the server choose one.
        """
        url = self._http.base_url.join("play")
        url = url.copy_with(scheme="wss" if url.scheme == "https" else "ws")
        if world is not None:
            url = url.copy_add_param("world", world)
        return RemoteGame(lambda into: self._connect(str(url), into), prompt, seed, self._timeout)

    def _connect(self, url: str, into: ExitStack) -> ClientConnection:
        options: dict[str, Any] = {"additional_headers": self._headers, "max_size": None}
        try:
            return into.enter_context(connect(url, **options))
        except InvalidStatus as refusal:
            answer = refusal.response
            raise _error(answer.status_code, bytes(answer.body or b""), answer.headers) from None


class RemoteGame(AbstractContextManager["RemoteGame"]):
    """A game on a server, one step at a time; `Client.play` starts one.

    When its server dies, the game continues on whichever server answers at the same address, with
    equal frames. `step` waits for that, as long as for any other answer.

    Attributes:
        frame: the last frame, `uint8 (H, W, 3)`.
        seed: of all random numbers.
        steps: number of steps so far.
    """

    def __init__(
        self,
        connect: Callable[[ExitStack], ClientConnection],
        prompt: int,
        seed: int | None,
        timeout: float,
    ) -> None:
        self._connect, self._timeout, self._opened = connect, timeout, ExitStack()
        self._numbers = itertools.count(1)
        self._game, self._asked = PlayedGame(prompt, seed), list[int]()
        self.seed = self.steps = -1
        self._begin()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the game."""
        self._opened.close()

    def step(self, action: int) -> np.ndarray:
        """Plays an action and returns the frame after it, `uint8 (H, W, 3)`.

        Raises:
            ServerError: the game ended, or no server continued it; the message says why.
        """
        self._asked.append(action)
        try:
            self._play(action)
        except _Lost:
            self._continue()
        return self.frame

    def _begin(self) -> None:
        self.close()
        try:
            self._socket = self._connect(self._opened)
            goal = len(self._game.actions)
            self._start()
            while self.steps < goal:
                self._next_frame()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.steps = -1
        self._send("start", seq=next(self._numbers), **self._game.start())

    def _play(self, action: int) -> None:
        self._send("step", seq=next(self._numbers), action=action)
        self._next_frame()

    def _continue(self) -> None:
        """Connects again, and takes the steps that the lost server told nothing of."""
        until, wait = time.monotonic() + self._timeout, SOON
        while True:
            left = max(0.0, until - time.monotonic())
            time.sleep(min(left, wait * random.uniform(1, 1.5)))
            try:
                self._begin()
                for action in self._asked[len(self._game.actions) :]:
                    self._play(action)
                return
            except (_Lost, OSError, WebSocketException, EOFError) as error:
                if time.monotonic() > until:
                    words = f"No server continued the game within {self._timeout:g} seconds."
                    raise ServerError(words) from error
                wait = max(getattr(error, "retry_after", None) or 0, min(2 * wait, LONGEST))

    def _send(self, type: str, **fields: Any) -> None:
        with suppress(ConnectionClosed):  # receiving reports the reason
            self._socket.send(json.dumps({"type": type, **fields}))

    def _next_frame(self) -> None:
        told = "The server ended the game."
        try:
            while isinstance(message := self._socket.recv(self._timeout), str):
                note = json.loads(message)
                told = note.get("message", told)
                self._learn(note)
        except ConnectionClosed as closed:
            gone = closed.rcvd is None or closed.rcvd.code == SERVICE_RESTART
            raise (_Lost if gone else ServerError)(told) from None
        except TimeoutError:
            raise ServerError(f"No frame came within {self._timeout:g} seconds.") from None
        _, codec, _, number, _, self.steps, _ = HEADER.unpack_from(message)
        self._send("ack", frame=number)
        self.frame = decode_picture((Codec(codec), message[HEADER.size :]))

    def _learn(self, note: dict[str, Any]) -> None:
        if note["type"] == "started":
            self.seed = self._game.seed = note["seed"]
        elif note["type"] == "resume":
            self._game.learn(note)
        elif note["type"] == "refused":
            if not self._game.token:
                raise ServerError(note["message"])
            self._game.token = ""  # the whole game is played again
            self._start()


def _content(image: str | Path | bytes | np.ndarray | None) -> bytes:
    if image is None or isinstance(image, bytes):
        return image or b""
    if isinstance(image, np.ndarray):
        return png(image)
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
    again = headers.get("Retry-After", "")  # a proxy may send a date
    kind = _Lost if status in NOT_READY else ServerError
    return kind(words, status, float(again) if again.isdecimal() else None)
