"""Runs the application: loads worlds, listens, and shuts down cleanly on a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from genie.agents.autoplay import Autoplay
from genie.core.config import UserError, require
from genie.serving.http.app import create_server
from genie.serving.http.auth import AuthConfig, is_loopback, is_wildcard
from genie.serving.http.idle_timeout import HTTPProtocol
from genie.serving.limits import Limits
from genie.serving.service import ServedWorld, Service
from genie.world import bundled
from genie.world.action_names import writable_folder
from genie.world.handover import Handover
from genie.world.prompts import load_prompts
from genie.world.threads import use_single_thread_if_fast

if TYPE_CHECKING:
    from genie.world.genie import Genie

MAX_CONNECTIONS = 800  # besides players; a process may usually open 1024 files
CLOSE_SECONDS = 1.0  # from the message to the players until closing, so that probes notice
LIGHT_LOAD = 0.25  # of a tick; if one CPU thread generates a frame in this time, it is enough
SHUTDOWN_SECONDS = 9.0  # after which the process exits, even during a frame


def serve(
    *worlds: Genie | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    prompts: Any = None,
    token: str | None = None,
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    open_browser: bool = False,
    action_names: bool = False,
    fps: float | None = None,
    device: str | None = None,
    dtype: str = "float32",
    compile: bool = False,
    agent: str | Path | None = None,
    extend: Callable[[FastAPI], None] | None = None,
    page: str = "",
    handover: Handover | None = None,
) -> None:
    """Serves worlds until Ctrl+C or SIGTERM.

    Args:
        worlds: each a `Genie`, the folder of a saved one, its id on the Hugging Face hub, or the
            name of a bundled one. The last part is its name for clients. Without any, all bundled
            worlds are served, and the page shows them to choose from; with `prompts` only the
            default one, and with `page` none.
        host: address to listen on; an address that is not loopback requires a token.
        port: TCP port; 0 takes any free one.
        prompts: what games start from, as `genie.world.prompts.load_prompts` reads it; None takes
            the images in the worlds' folders.
        token: secret that clients must send.
        hosts: names and addresses of this server for clients, besides localhost and `host`.
        limits: of the server; None takes the defaults.
        open_browser: opens the page in the default browser.
        action_names: whether players may save names of actions in the worlds' folders.
        fps: frames per second; None takes the worlds' own.
        device: for worlds given as a path; None chooses.
        dtype: of their weights, as `Genie.from_pretrained` takes it.
        compile: compiles the worlds (`Genie.compile`).
        agent: folder of an agent that plays for players who let it.
        extend: as of `create_server`.
        page: path of the page to open.
        handover: for players who continue on another server; None is for this one only.

    Raises:
        UserError: a token is missing, the port is taken, two worlds have the same name, or a world
            has no prompts.
    """
    # An address that stands for all of this machine's is not a host name.
    known = hosts if is_wildcard(host) else (host, *hosts)
    auth = AuthConfig(token, tuple(name.lower() for name in known))
    require(
        token is not None or is_loopback(host),
        f"host: {host} can be reached from other machines, so a token is needed; set one in the "
        "environment with: export GENIE_TOKEN=$(openssl rand -hex 32)",
    )
    bundle = [] if page else bundled.names() if prompts is None else [bundled.DEFAULT]
    with contextlib.closing(_listen(host, port)) as listener:
        served_worlds = [
            _load(world, prompts, device, dtype, action_names, agent, fps=fps, compiled=compile)
            for world in worlds or bundle
        ]
        with _warm_worlds(served_worlds) if served_worlds else contextlib.nullcontext():
            app = create_server(served_worlds, auth, limits, extend, handover)
            name = f"[{host}]" if ":" in host else host
            url = f"http://{name}:{listener.getsockname()[1]}" + (page and f"/{page}")
            listed = " or ".join(served.name for served in served_worlds)
            words = f"Play {listed} at" if listed else "Open"
            print(f"{words} {url} (Ctrl+C stops)", flush=True)
            if open_browser:
                webbrowser.open(url)  # the listener queues the request until the server runs
            run(app, listener)


def run(app: FastAPI, listener: socket.socket) -> None:
    """Runs an application of `create_server` until a signal ends it.

    Raises:
        Exception: the error of a world that failed.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_relevant)
    server = Server(app)
    try:
        server.run(sockets=[listener])
    finally:
        server.forced_exit.cancel()
    if app.state.service.failure is not None:
        raise app.state.service.failure


def _is_relevant(record: logging.LogRecord) -> bool:
    # uvicorn logs each rejected WebSocket as an error of the application.
    return "without completing handshake" not in record.getMessage()


def server_config(app: FastAPI) -> uvicorn.Config:
    """Returns the settings of uvicorn: small messages, no compression of compressed images."""
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
    """A server with a clean shutdown: not ready, a message to the players, then closing.

    The process exits with code 0, after `SHUTDOWN_SECONDS` at the latest.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(server_config(app))
        self._service: Service = app.state.service
        self._end_at: float | None = None
        self.forced_exit = threading.Timer(SHUTDOWN_SECONDS, os._exit, [0])
        self.forced_exit.daemon = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the shutdown; a second signal skips the waiting time."""
        if self._service.stopping:
            self._end_at = time.monotonic()
            return
        self._service.stopping = True
        farewell = 0 if sig == signal.SIGINT else CLOSE_SECONDS
        self._end_at = time.monotonic() + farewell
        self.forced_exit.start()

    async def on_tick(self, counter: int) -> bool:
        """Checks ten times a second whether to shut down."""
        if self._end_at is not None:
            self._service.stop()
            self.should_exit = self.should_exit or time.monotonic() >= self._end_at
        return await super().on_tick(counter) or self._service.failure is not None


def _load(
    world: Genie | str | Path, prompts: Any = None, device: str | None = None,
    dtype: str = "float32", action_names: bool = False, agent: str | Path | None = None,
    **options: Any,
) -> ServedWorld:  # fmt: skip
    name, can_name = "world", False
    if isinstance(world, str | Path):
        from genie.world.genie import Genie

        name, can_name = Path(world).resolve().name, action_names and bool(writable_folder(world))
        world = Genie.from_pretrained(world, device, dtype)
    images = load_prompts(prompts, world.config.height, world.config.width, world.folder or world)
    player = None if agent is None else Autoplay.from_pretrained(agent, world)
    own: dict[str, Any] = {"folder": world.folder, "can_name": can_name, "agent": player}
    return ServedWorld(name, world, images, **own, **options)


@contextlib.contextmanager
def _warm_worlds(served_worlds: Sequence[ServedWorld]) -> Iterator[None]:
    """Uses one CPU thread if that is fast enough for the first world; compiles those that want it.

    A larger world beside it must not take the protection of one thread away from it.
    """
    first = served_worlds[0]
    state = first.world.start(first.prompts[0])
    with use_single_thread_if_fast(lambda: first.world.step(state, 0), LIGHT_LOAD / first.pace):
        for served in served_worlds:
            if served.compiled:
                served.world.compile()
                print("Compiling for each batch size; see GET /ready.", flush=True)
        yield


def _listen(host: str, port: int) -> socket.socket:
    require(0 <= port < 65536, f"port: {port} is not between 0 and 65535")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {port} of {host} is not available ({error.strerror}): "
            f"stop the program that uses it or choose another with --port"
        ) from None
    return listener
