"""The web application: the page, what there is to play, and the WebSocket of the players."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import webbrowser
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from genie.config import UserError, require
from genie.prompts import load_prompts

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Response, WebSocket, WebSocketDisconnect
    from fastapi.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise UserError(
        f"playing in the browser needs {error.name}: pip install 'genie-worlds[serve]'"
    ) from None

from genie.serving.games import Games
from genie.serving.protocol import MAX_MESSAGE_BYTES, VERSION, ProtocolError, parse, png
from genie.serving.session import Session, SessionClosed, TickLoop

if TYPE_CHECKING:
    import numpy as np

    from genie.world import Genie

STATIC = Path(__file__).parent / "static"
POLICY_VIOLATION, INTERNAL_ERROR = 1008, 1011  # WebSocket close codes, RFC 6455 section 7.4.1
PAGE_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob:; media-src blob:"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


def create_app(
    world: Genie,
    prompts: Sequence[np.ndarray],
    *,
    name: str = "world",
    fps: float | None = None,
) -> FastAPI:
    """Builds the application that serves one world to players on this machine.

    Args:
        world: the world to play; the application steps it from one worker thread.
        prompts: the pictures that games start from, each `uint8 (H, W, 3)` or a clip
            `(T, H, W, 3)`, of the world's size (`genie.prompts.load_prompts` fits them).
        name: what the page calls the world.
        fps: ticks per second; None takes the world's own.

    Returns:
        The ASGI application. Its routes: `/` the page, `/worlds` what there is to play,
        `/worlds/{name}/prompts/{index}.png`, and the WebSocket `/play`
        (see `genie.serving.protocol`).

    Raises:
        UserError: there is no prompt, or `fps` is not positive.
    """
    require(len(prompts) > 0, "prompts: give at least one picture to start from")
    pace = world.config.fps if fps is None else fps
    require(pace > 0, f"fps: {pace} frames per second cannot be played")
    clock = TickLoop(Games(world, prompts), pace, name)
    # No docs page: FastAPI's loads its scripts from another host.
    app = FastAPI(title="Genie", docs_url=None, redoc_url=None, lifespan=_ticking(clock))
    app.add_middleware(LoopbackOnly)
    _add_world_routes(app, _describe(world, name, pace, len(prompts)), prompts)
    _add_player_route(app, clock)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.state.clock = clock
    return app


def serve(
    world: Genie | str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    prompts: Any = None,
    *,
    open_browser: bool = False,
    fps: float | None = None,
    device: str | None = None,
    compile: bool = False,
) -> None:
    """Serves a world on this machine until Ctrl+C.

    Args:
        world: a `Genie`, the folder of a saved one, or its id on the Hugging Face hub.
        host: a loopback address.
        port: TCP port; 0 takes any free one.
        prompts: what games start from, as `genie.prompts.load_prompts` reads it; None takes the
            pictures in the world's folder.
        open_browser: opens the page in the default browser.
        fps: ticks per second; None takes the world's own.
        device: where a world given as a path is put; None chooses.
        compile: passes the world through `torch.compile` (`Genie.compile`).

    Raises:
        UserError: the address is not loopback, the port is taken, or there is no prompt.
    """
    listener = _listen(host, port)
    with contextlib.closing(listener):
        folder, name = world, "world"
        if isinstance(world, str | Path):
            from genie.world import Genie, locate

            folder = locate(world)
            name = Path(world).resolve().name
            world = Genie.from_pretrained(folder, device=device)
        if compile:
            world.compile()
            print("Compiling: this takes half a minute, less the next time.", flush=True)
        pictures = load_prompts(prompts, world.config.height, world.config.width, folder)
        app = create_app(world, pictures, name=name, fps=fps)
        url = f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        print(f"Play {name} at {url} (Ctrl+C stops)", flush=True)
        if open_browser:
            webbrowser.open(url)  # the listener queues the page's request until the server is up
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(server_config(app)).run(sockets=[listener])


def server_config(app: FastAPI) -> uvicorn.Config:
    """Returns how the application is run: small messages, no compression of what is compressed."""
    return uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=4 * MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
    )


class LoopbackOnly:
    """ASGI middleware: serves requests for this machine's loopback names, from its own page only.

    Another web page open in the same browser can reach a loopback port: by DNS rebinding, which the
    Host header shows, or by a WebSocket, whose Origin header shows it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "lifespan" or _is_local(scope):
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            refusal = Response("Only this machine's own page is served.", status_code=403)
            await refusal(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    if not _is_loopback(_hostname(host)):
        return False
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *PAGE_HEADERS]}
        await send(message)

    return sending


def _ticking(clock: TickLoop) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await clock.warm_up()
        ticking = asyncio.create_task(clock.run())
        try:
            yield
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    return lifespan


def _describe(world: Genie, name: str, fps: float, num_prompts: int) -> dict[str, Any]:
    config = world.config
    return {
        "name": name,
        "protocol": VERSION,
        "height": config.height,
        "width": config.width,
        "fps": fps,
        "num_actions": config.num_actions,
        "prompts": [f"worlds/{quote(name, safe='')}/prompts/{i}.png" for i in range(num_prompts)],
    }


def _add_world_routes(
    app: FastAPI, description: dict[str, Any], prompts: Sequence[np.ndarray]
) -> None:
    # The last frame of a clip is where its game goes on.
    pictures = [png(prompt if prompt.ndim == 3 else prompt[-1]) for prompt in prompts]

    @app.get("/worlds")
    def worlds() -> list[dict[str, Any]]:
        """Lists the worlds that can be played."""
        return [description]

    @app.get("/worlds/{name}/prompts/{index}.png", response_class=Response)
    def prompt(name: str, index: int) -> Response:
        """Returns a picture that games start from."""
        if name != description["name"] or index not in range(len(pictures)):
            raise HTTPException(404, "There is no such picture.")
        return Response(pictures[index], media_type="image/png")


def _add_player_route(app: FastAPI, clock: TickLoop) -> None:
    @app.websocket("/play")
    async def play(websocket: WebSocket) -> None:
        await websocket.accept()
        session = clock.join()
        sending = asyncio.create_task(_send(websocket, session))
        receiving = asyncio.create_task(_receive(websocket, clock, session))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            clock.leave(session)
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)


async def _send(websocket: WebSocket, session: Session) -> None:
    try:
        while True:
            message = await session.next_message()
            if isinstance(message, bytes):
                await websocket.send_bytes(message)
            else:
                await websocket.send_text(message)
    except SessionClosed as reason:
        await _close(websocket, INTERNAL_ERROR, str(reason))
    except (WebSocketDisconnect, RuntimeError):
        pass  # the player left while a message was under way


async def _receive(websocket: WebSocket, clock: TickLoop, session: Session) -> None:
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is None:
                raise ProtocolError("messages are JSON texts, not binary")
            clock.receive(session, parse(message["text"]))
    except ProtocolError as error:
        await _close(websocket, POLICY_VIOLATION, str(error))


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError):
        await websocket.send_json({"type": "error", "message": reason})
        await websocket.close(code)


def _listen(host: str, port: int) -> socket.socket:
    require(
        _is_loopback(host),
        f"host: {host} is not a loopback address, and a world is served to this machine only; "
        "from elsewhere use a tunnel, for example: ssh -L 8000:127.0.0.1:8000 THIS-MACHINE",
    )
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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
