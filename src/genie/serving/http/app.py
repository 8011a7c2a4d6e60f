"""The web application: the page, the worlds, clips on request, and the players' socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from genie.serving import clips, video_export
from genie.serving.action_names import ActionNames
from genie.serving.http.auth import AuthConfig, AuthMiddleware, http_error, reject_websocket
from genie.serving.http.uploads import decode_upload
from genie.serving.limits import Limits, RequestRejected, read_upload
from genie.serving.play.connection import Connection
from genie.serving.play.metrics import CONTENT_TYPE
from genie.serving.protocol import MAX_SMALL_MESSAGE, VERSION, World, png
from genie.serving.service import ServedWorld, Service, WorldService
from genie.world.prompts import crop_resized

if TYPE_CHECKING:
    import numpy as np

    from genie.world.config import GenieConfig
    from genie.world.genie import Genie

STATIC = Path(__file__).parents[1] / "static"
PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]
ABOUT = """Worlds that can be played. A person plays at `/`. A program asks for clips here, or
plays through the WebSocket `/play?world=NAME`, see `genie.serving.protocol`."""


class HealthResponse(BaseModel):
    """How the server is."""

    status: str


class ErrorResponse(BaseModel):
    """Why a request was not served, and what to do."""

    detail: str


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
            `(T, H, W, 3)`, of the world's size (`genie.world.prompts.load_prompts` fits them).
        name: what the page calls the world.
        fps: ticks per second; None takes the world's own.

    Returns:
        The ASGI application, as `create_server` describes it.

    Raises:
        UserError: there is no prompt, or `fps` is not positive.
    """
    return create_server([ServedWorld(name, world, prompts, fps)])


def create_server(
    worlds: Sequence[ServedWorld], auth: AuthConfig | None = None, limits: Limits | None = None
) -> FastAPI:
    """Builds the application that serves worlds.

    Args:
        worlds: what can be played; the first one is played where none is named.
        access: who may come; None is everyone who calls it by a loopback name.
        limits: what it gives to everybody and to each; None takes the defaults.

    Returns:
        The ASGI application. Its routes: `/` the page, `/worlds` what there is to play,
        `/worlds/{name}/prompts/{index}.png`, `/generate` a clip, `/health`, `/ready`, `/metrics`,
        `/docs` all of these to try, and the WebSocket `/play?world=NAME` (see
        `genie.serving.protocol`).

    Raises:
        UserError: there is no world, or two have one name.
    """
    service = Service(worlds, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # No docs page of FastAPI's: it loads its scripts from another host.
    app = FastAPI(
        title="Genie",
        version=str(VERSION),
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        AuthMiddleware, config=auth or AuthConfig(), rejected=service.metrics.rejected
    )
    app.add_middleware(PageHeaders)
    _add_error_handlers(app, service)
    _add_world_routes(app, service)
    _add_operator_routes(app, service)
    _add_reconstruction_route(app, service)
    _add_generate_route(app, service)
    _add_player_route(app, service)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return FileResponse(STATIC / "docs.html")

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.state.service = service
    return app


class PageHeaders:
    """ASGI middleware: what a browser is told with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and its answer back with the headers."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *PAGE_HEADERS]}
            await send(message)

        await self.app(scope, receive, sending)


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    @app.exception_handler(RequestRejected)
    async def refused(_: Request, error: RequestRejected) -> Response:
        service.metrics.rejected(error.reason)
        refusal = http_error(error.status, str(error), error.retry_after)
        refusal.headers["Connection"] = "close"  # the rest of an upload is not read
        return refusal

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return http_error(400, "The upload was broken off.")  # nobody is there to read it

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return http_error(500, "The server failed at this; its log says why.")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        service.metrics.rejected("parameter")
        first = error.errors()[0]
        return http_error(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}.")


def _error_responses(**statuses: str) -> dict[int | str, dict[str, Any]]:
    return {
        int(status[1:]): {"model": ErrorResponse, "description": about}
        for status, about in statuses.items()
    }


def _add_world_routes(app: FastAPI, service: Service) -> None:
    first = next(iter(service.worlds))

    @app.get("/worlds", tags=["worlds"])
    def worlds() -> list[World]:
        """Lists the worlds that can be played."""
        return [served.describe() for served in service.worlds.values()]

    @app.get(
        "/worlds/{name}/prompts/{index}.png",
        tags=["worlds"],
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "The picture."},
            **_error_responses(_404="There is no such world or picture.", _422="Not a number."),
        },
    )
    def prompt(
        name: str = PathParameter(description="Of a world.", examples=[first]),
        index: int = PathParameter(description="0 is the first.", examples=[0]),
    ) -> Response:
        """Returns a picture that games start from."""
        prompt_images = service.world(name).prompt_images
        if index not in range(len(prompt_images)):
            raise HTTPException(404, "There is no such picture.")
        return Response(prompt_images[index], media_type="image/png")

    @app.put(
        "/worlds/{name}/names",
        tags=["worlds"],
        responses=_error_responses(
            _403="Names are not kept with this world.",
            _404="There is no such world.",
            _408="The request took too long.",
            _413="The request is too large.",
            _422="The names do not fit the world.",
        ),
        openapi_extra=_NAMES,
    )
    async def keep_names(
        request: Request, name: str = PathParameter(description="Of a world.", examples=[first])
    ) -> ActionNames:
        """Keeps what the buttons are called in the world's folder, for everyone who plays it."""
        served = service.world(name)
        served.require_names()
        text = await read_upload(request.stream(), service.limits, MAX_SMALL_MESSAGE * 8)
        loop = asyncio.get_running_loop()
        return ActionNames(
            names=await loop.run_in_executor(service.reader, served.keep_names, text)
        )


def _add_operator_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operation"], responses=_error_responses(_503="A world failed."))
    async def health() -> HealthResponse:
        """Says whether the server works; if not, start it again."""
        if service.failure is not None:
            raise HTTPException(503, "A world can no longer be played; start the server again.")
        return HealthResponse(status="ok")

    @app.get("/ready", tags=["operation"], responses=_error_responses(_503="Not ready."))
    async def ready() -> HealthResponse:
        """Says whether requests are welcome: all worlds are warm and the server is not ending."""
        service.require_ready()
        return HealthResponse(status="ready")

    @app.get(
        "/metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' format."}},
    )
    async def metrics() -> Response:
        """Returns the figures for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


_NAMES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["names"],
                    "additionalProperties": False,
                    "properties": {"names": {"type": "array", "items": {"type": "string"}}},
                },
                "example": {"names": ["left", "right", "", "jump"]},
            }
        },
    }
}
_UPLOAD = {
    "requestBody": {
        "description": "The picture to start from, in PNG, JPEG, WebP or GIF format. It is cropped "
        "and resized to the world's frames. Without one the world's own picture is taken.",
        "required": False,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_UPLOAD_ERRORS = _error_responses(
    _404="There is no such world.",
    _408="The upload took too long.",
    _413="The picture has too many bytes or pixels.",
    _415="It is in no format that is read.",
    _422="It is damaged, or a parameter is wrong.",
    _503="There is no room now; the header Retry-After says when to try again.",
)
_CLIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The clip: the picture, then one frame for each action.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in video_export.MEDIA_TYPES.values()
        },
    },
    **_UPLOAD_ERRORS,
}


def _add_reconstruction_route(app: FastAPI, service: Service) -> None:
    @app.post(
        "/worlds/{name}/reconstruction",
        tags=["worlds"],
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "The picture, of the world's size."},
            **_UPLOAD_ERRORS,
        },
        openapi_extra=_UPLOAD,
    )
    async def reconstruct(
        request: Request,
        name: str = PathParameter(description="Of a world.", examples=[next(iter(service.worlds))]),
    ) -> Response:
        """Returns a picture as the world sees it: fitted, and made of the world's tokens."""
        service.require_ready()
        served = service.world(name)
        service.generations.require_free()  # before an upload is read for nothing
        picture = await _start_picture(request, service, served, 0)
        with service.generations:
            seen = await served.clip_scheduler(
                lambda: served.world.reconstruct(picture).cpu().numpy()
            )
            return Response(png(seen), media_type="image/png")


def _add_generate_route(app: FastAPI, service: Service) -> None:
    @app.post(
        "/generate",
        tags=["clips"],
        response_class=Response,
        responses=_CLIP,
        openapi_extra=_UPLOAD,
    )
    async def generate(
        request: Request,
        actions: Annotated[
            str,
            Query(
                description="What to play, one number for each frame, with commas between.",
                examples=["1,1,2,0"],
                json_schema_extra={"pattern": "^[0-9]{1,9}(,[0-9]{1,9})*$"},
            ),
        ],
        world: Annotated[
            str | None, Query(description="Name of a world; the first one when left out.")
        ] = None,
        format: Annotated[
            video_export.Format, Query(description="png is a ZIP archive of numbered pictures.")
        ] = "mp4",
        seed: Annotated[int, Query(ge=0, lt=2**31, description="Decides all that is random.")] = 0,
        prompt: Annotated[
            int, Query(ge=0, description="Which of the world's own pictures, without an upload.")
        ] = 0,
        scale: Annotated[
            int | None,
            Query(
                ge=1, le=64, description="How many times larger than the world's the frames are."
            ),
        ] = None,
    ) -> Response:
        """Plays a list of actions from a picture and returns the clip."""
        began = time.perf_counter()
        _refuse_unknown_parameters(request)
        service.require_ready()
        served = service.world(world)
        config = served.world.config
        buttons = clips.read_actions(actions, config.num_actions, service.limits)
        service.generations.require_free()  # before an upload is read for nothing
        start = await _start_picture(request, service, served, prompt)
        with service.generations:
            count = len(buttons) + (1 if start.ndim == 3 else len(start))
            times = clips.choose_scale(scale, count, config.height, config.width)

            async def wanted() -> bool:
                service.require_ready()
                return not await request.is_disconnected()

            frames = await clips.generate_clip(
                served.world, start, buttons, seed, served.clip_scheduler, wanted
            )
            content = await asyncio.get_running_loop().run_in_executor(
                service.encoder, video_export.encode, frames, format, served.fps, times
            )
        service.metrics.generate_seconds.labels(served.name).observe(time.perf_counter() - began)
        disposition = {"Content-Disposition": f'inline; filename="clip.{_ENDINGS[format]}"'}
        return Response(content, media_type=video_export.MEDIA_TYPES[format], headers=disposition)


_ENDINGS = {"mp4": "mp4", "gif": "gif", "png": "zip"}


def _refuse_unknown_parameters(request: Request) -> None:
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            words = f"{name[:40]}: there is no such parameter, only {', '.join(known)}."
            raise RequestRejected(422, "parameter", words)


def _fitted(upload: bytes, limits: Limits, config: GenieConfig) -> np.ndarray:
    return crop_resized(decode_upload(upload, limits), config.height, config.width)


async def _start_picture(
    request: Request, service: Service, served: WorldService, prompt: int
) -> np.ndarray:
    upload = b""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        with service.uploads:  # until it is decoded: who waits for that holds its bytes
            upload = await read_upload(request.stream(), service.limits)
            if upload:
                return await asyncio.get_running_loop().run_in_executor(
                    service.reader, _fitted, upload, service.limits, served.world.config
                )
    if prompt >= len(served.prompts):
        last = len(served.prompts) - 1
        raise RequestRejected(
            422, "prompt", f"prompt: {prompt} is none, this world has 0 to {last}."
        )
    return served.prompts[prompt]


def _add_player_route(app: FastAPI, service: Service) -> None:
    @app.websocket("/play")
    async def play(websocket: WebSocket, world: str | None = None) -> None:
        try:
            served = service.world(world)
            if service.stopping:
                service.require_ready()
            with service.players:
                await _play(websocket, service, served)
        except RequestRejected as error:
            service.metrics.rejected(error.reason)
            refusal = http_error(error.status, str(error), error.retry_after)
            await reject_websocket(refusal, websocket.scope, websocket.receive, websocket._send)

    @app.get("/play", include_in_schema=False)
    async def why_not(world: str | None = None) -> Response:
        """Answers as a WebSocket would be: a browser hides from a page why it was not let in."""
        try:
            service.world(world)
            if service.stopping:
                service.require_ready()
            with service.players:
                return Response(status_code=204)
        except RequestRejected as error:  # not counted: the WebSocket was
            return http_error(error.status, str(error), error.retry_after)


async def _play(websocket: WebSocket, service: Service, served: WorldService) -> None:
    await websocket.accept()
    session = served.scheduler.join()
    connection = Connection(
        websocket, served.scheduler, session, service.limits, service.metrics, served.name
    )
    service.connections.add(connection)
    try:
        await connection.serve()
    finally:
        service.connections.discard(connection)
        served.scheduler.leave(session)
