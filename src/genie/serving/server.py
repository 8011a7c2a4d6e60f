"""Runs the application: loads worlds, listens, and ends in order when it is asked to."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from genie.core.config import UserError, require
from genie.serving.action_names import writable_folder
from genie.serving.http.app import create_server
from genie.serving.http.auth import AuthConfig, is_loopback, is_wildcard
from genie.serving.http.idle_timeout import HTTPProtocol
from genie.serving.limits import Limits
from genie.serving.service import ServedWorld, Service
from genie.world.prompts import load_prompts
from genie.world.threads import spared_threads

if TYPE_CHECKING:
    from genie.world.genie import Genie

MAX_CONNECTIONS = 800  # beyond the limits on players: a process may often open 1024 files
CLOSE_SECONDS = 1.0  # between telling the players and closing, so that probes see it, too
LIGHT_LOAD = 0.25  # of a tick in which one CPU thread draws a frame of each world: no more needed
SHUTDOWN_SECONDS = 9.0  # after which the process ends even in the middle of a frame


def serve(
    world: Genie | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    prompts: Any = None,
    *,
    open_browser: bool = False,
    fps: float | None = None,
    device: str | None = None,
    dtype: str = "float32",
    compile: bool = False,
) -> None:
    """Serves a world on this machine until Ctrl+C.

    Args:
        world: a `Genie`, the folder of a saved one, or its id on the Hugging Face hub.
        host: a loopback address.
        port: TCP port; 0 takes any free one.
        prompts: what games start from, as `genie.world.prompts.load_prompts` reads it; None takes
            the pictures in the world's folder.
        open_browser: opens the page in the default browser.
        fps: ticks per second; None takes the world's own.
        device: where a world given as a path is put; None chooses.
        dtype: of its weights, as `Genie.from_pretrained` takes it.
        compile: passes the world through `torch.compile` (`Genie.compile`).

    Raises:
        UserError: the address is not loopback, the port is taken, or there is no prompt.
    """
    require(
        is_loopback(host),
        f"host: {host} is not a loopback address, and a world is played on this machine only; "
        "for others there is `genie serve`, which asks for a token, or use a tunnel, for example: "
        "ssh -L 8000:127.0.0.1:8000 THIS-MACHINE",
    )
    with contextlib.closing(_listen(host, port)) as listener:
        served = _load(
            world, prompts, fps=fps, device=device, dtype=dtype, compile=compile, action_names=True
        )
        with _warm_worlds([served]):
            # Each size of batch is compiled before play begins: few players, few sizes.
            app = create_server([served], None, Limits(players=4) if compile else None)
            url = _address(host, listener)
            print(f"Play {served.name} at {url} (Ctrl+C stops)", flush=True)
            if open_browser:
                webbrowser.open(url)  # the listener queues the page's request until it is up
            run(app, listener)


def serve_worlds(
    worlds: Sequence[str | Path],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    token: str | None = None,
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    device: str | None = None,
    dtype: str = "float32",
    compile: bool = False,
    action_names: bool = False,
) -> None:
    """Serves worlds to others until Ctrl+C or SIGTERM.

    Args:
        worlds: folders of saved worlds, ids on the Hugging Face hub, or names of bundled ones. Each
            is called by the last part of that.
        host: address to listen on; one that is not loopback wants a token.
        port: TCP port; 0 takes any free one.
        token: the secret that clients have to know.
        hosts: names and addresses that clients call this server by, beside localhost and, unless it
            stands for all addresses of the machine (0.0.0.0, ::), `host`.
        limits: what it gives to everybody and to each; None takes the defaults.
        device: where the worlds are put; None chooses.
        dtype: of their weights, as `Genie.from_pretrained` takes it.
        compile: passes the worlds through `torch.compile` (`Genie.compile`).
        names: whether players may write what they call the buttons into the worlds' folders.

    Raises:
        UserError: there is no token where one is needed, the port is taken, two worlds have the
            same name, or one has no pictures to start from.
    """
    # An address that stands for all of this machine's is not a name to call it by.
    known = hosts if is_wildcard(host) else (host, *hosts)
    auth = AuthConfig(token, tuple(name.lower() for name in known))
    require(
        token is not None or is_loopback(host),
        f"host: {host} can be reached from elsewhere, so a token is needed; set one in the "
        "environment with: export GENIE_TOKEN=$(openssl rand -hex 32)",
    )
    with contextlib.closing(_listen(host, port)) as listener:
        served_worlds = [
            _load(world, device=device, dtype=dtype, compile=compile, action_names=action_names)
            for world in worlds
        ]
        with _warm_worlds(served_worlds):
            app = create_server(served_worlds, auth, limits)
            listed = ", ".join(served.name for served in served_worlds)
            print(f"Serving {listed} at {_address(host, listener)}", flush=True)
            run(app, listener)


def run(app: FastAPI, listener: socket.socket) -> None:
    """Runs an application of `create_server` until a signal ends it.

    Raises:
        Exception: what made a world fail, if one did.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_relevant)
    server = Server(app)
    try:
        server.run(sockets=[listener])
    finally:
        server.cancel_forced_exit()
    if app.state.service.failure is not None:
        raise app.state.service.failure


def _is_relevant(record: logging.LogRecord) -> bool:
    # uvicorn takes each refused WebSocket for an error of the application.
    return "without completing handshake" not in record.getMessage()


def server_config(app: FastAPI) -> uvicorn.Config:
    """Returns how the application is run: small messages, no compression of what is compressed."""
    service: Service = app.state.service
    return uvicorn.Config(
        app,
        http=HTTPProtocol,
        log_level="warning",
        server_header=False,
        ws_max_size=2 * service.limits.message_bytes,
        ws_per_message_deflate=False,
        limit_concurrency=service.limits.players + MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )


class Server(uvicorn.Server):
    """Ends in order: not ready at once, the players are told, then the connections are closed.

    The process then ends with exit code 0, and after `SHUTDOWN_SECONDS` in any case.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(server_config(app))
        self._service: Service = app.state.service
        self._end_at: float | None = None
        self._forced_exit: threading.Timer | None = None

    def cancel_forced_exit(self) -> None:
        """The server has ended: what runs in this process afterwards is to live on."""
        if self._forced_exit is not None:
            self._forced_exit.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to end; a second signal hurries."""
        if self._service.stopping:
            self._end_at = time.monotonic()
            return
        self._service.stopping = True
        farewell = 0 if sig == signal.SIGINT else CLOSE_SECONDS
        self._end_at = time.monotonic() + farewell
        self._forced_exit = threading.Timer(SHUTDOWN_SECONDS, os._exit, [0])
        self._forced_exit.daemon = True
        self._forced_exit.start()

    async def on_tick(self, counter: int) -> bool:
        """Looks, ten times a second, whether it is time to end."""
        if self._end_at is not None:
            self._service.stop()
            self.should_exit = self.should_exit or time.monotonic() >= self._end_at
        return await super().on_tick(counter) or self._service.failure is not None


def _load(
    world: Genie | str | Path,
    prompts: Any = None,
    *,
    fps: float | None = None,
    device: str | None = None,
    dtype: str = "float32",
    compile: bool = False,
    action_names: bool = False,
) -> ServedWorld:
    folder, name, own = None, "world", None
    if isinstance(world, str | Path):
        from genie.world.genie import Genie
        from genie.world.hub import locate

        folder, own = locate(world), writable_folder(world)
        name = Path(world).resolve().name
        world = Genie.from_pretrained(folder, device, dtype)
    size = (world.config.height, world.config.width)
    return ServedWorld(
        name,
        world,
        load_prompts(prompts, *size, folder or world),
        fps,
        folder=folder,
        can_name=action_names and own is not None,
        compiled=compile,
    )


@contextlib.contextmanager
def _warm_worlds(served_worlds: Sequence[ServedWorld]) -> Iterator[None]:
    """Takes one CPU thread where that is enough; then worlds that want it are compiled for it."""

    def draw() -> None:
        for served, state in zip(served_worlds, states, strict=True):
            served.world.step(state, 0)

    states = [served.world.start(served.prompts[0]) for served in served_worlds]
    with spared_threads(draw, LIGHT_LOAD / max(served.pace for served in served_worlds)):
        for served in served_worlds:
            if served.compiled:
                served.world.compile()
                print(
                    "Compiling, for each size of batch: /ready tells when it is done.", flush=True
                )
        yield


def _listen(host: str, port: int) -> socket.socket:
    require(0 <= port < 65536, f"port: {port} is not between 0 and 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {port} of {host} can't be had ({error.strerror}): "
            f"stop the program that uses it or choose another with --port"
        ) from None
    return listener


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
