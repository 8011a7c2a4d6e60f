"""The web application: the page, the worlds, clips, and the WebSocket of the players."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, TypeAdapter
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from genie.core.config import UserError, require
from genie.data.images import png
from genie.data.video import choose_scale
from genie.serving import clips
from genie.serving.http.auth import AuthConfig, AuthMiddleware, http_error
from genie.serving.http.uploads import decode_upload
from genie.serving.limits import Limits, RequestRejected, read_upload
from genie.serving.play.connection import Connection
from genie.serving.protocol import MAX_SMALL_MESSAGE, VERSION, World
from genie.serving.service import ServedWorld, Service, WorldService
from genie.world.action_mapper import parse_actions
from genie.world.action_names import ActionNames
from genie.world.handover import Handover
from genie.world.prompts import crop_and_resize, frame_count

STATIC = Path(__file__).parents[1] / "static"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
ABOUT = """Playable worlds. The page for players is at `/`. Programs request clips here, or play
through the WebSocket `/play?world=NAME` (see `genie.serving.protocol`)."""


class ErrorResponse(BaseModel):
    """Why a request was rejected, and what to do."""

    detail: str


def create_server(
    worlds: Sequence[ServedWorld], auth: AuthConfig | None = None, limits: Limits | None = None,
    extend: Callable[[FastAPI], None] | None = None, handover: Handover | None = None,
) -> FastAPI:  # fmt: skip
    """Builds the application that serves worlds.

    Args:
        worlds: to play; the first one is the default.
        auth: which clients are accepted; None accepts all that use a loopback name.
        limits: of the server; None takes the defaults.
        extend: adds further routes to the application.
        handover: for players who continue on another server.

    Returns:
        The ASGI application. Its routes: `/` the page, `/worlds` the list of worlds,
        `/worlds/{name}/prompts/{index}.png`, `/generate` for clips, `/health`, `/ready`,
        `/metrics`, `/docs` to try all of these, and the WebSocket `/play?world=NAME` (see
        `genie.serving.protocol`).

    Raises:
        UserError: there is neither a world nor a further route, or two worlds have the same name.
    """
    require(len(worlds) > 0 or extend is not None, "worlds: give at least one")
    service = Service(worlds, limits, handover)
    # FastAPI's own docs page loads its scripts from another host.
    about: dict[str, Any] = {"title": "Genie", "version": str(VERSION), "description": ABOUT}
    app = FastAPI(**about, docs_url=None, redoc_url=None, lifespan=lambda _: service.running())
    rejected = service.metrics.rejected
    app.add_middleware(AuthMiddleware, config=auth or AuthConfig(), rejected=rejected)
    app.add_middleware(PageHeaders)
    _add_error_handlers(app, service)
    _add_world_routes(app, service)
    _add_operator_routes(app, service)
    _add_generate_route(app, service)
    _add_player_route(app, service)
    if extend is not None:
        extend(app)
    app.get("/docs", include_in_schema=False)(lambda: FileResponse(STATIC / "docs.html"))
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.state.service = service
    return app


class PageHeaders:
    """ASGI middleware that adds security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request and adds the headers to its response."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(PAGE_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    def refused(reason: str, status: int, words: str, retry_after: int | None = None) -> Response:
        service.metrics.rejected(reason)
        response = http_error(status, words, retry_after)
        response.headers["Connection"] = "close"  # the rest of an upload is not read
        return response

    async def answer(_: HTTPConnection, error: Exception) -> Response:
        """Answers a request, or the handshake of a WebSocket, that ended in an error."""
        match error:
            case RequestRejected():
                return refused(error.reason, error.status, str(error), error.retry_after)
            case UserError():
                return refused("parameter", 422, f"{error}.")
            case RequestValidationError():
                return refused("parameter", 422, _first_of(error))
            case ClientDisconnect():
                return http_error(400, "The upload was interrupted.")  # the client is gone
            case _:
                return http_error(500, "The server failed; its log has the error.")

    for kind in (RequestRejected, UserError, RequestValidationError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, answer)


def _first_of(invalid: RequestValidationError) -> str:
    first = invalid.errors()[0]
    words = f"{'.'.join(map(str, first['loc'][1:]))[:40]}: {first['msg']}."
    if first["type"] != "extra_forbidden":
        return words
    return f"{words} The parameters are {', '.join(clips.ClipQuery.model_fields)}."


_STATUSES = {
    403: "Names are not saved for this world.",
    404: "There is no such world or prompt.",
    408: "The upload took too long.",
    413: "The upload has too many bytes or pixels.",
    415: "The image has an unknown format.",
    422: "The upload is damaged or does not fit, or a parameter is wrong.",
    503: "The server is full, not ready or failed; the header Retry-After may have the seconds.",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {s: {"model": ErrorResponse, "description": _STATUSES[s]} for s in statuses}


def _content(about: str, *kinds: str) -> dict[int | str, dict[str, Any]]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": about, "content": dict.fromkeys(kinds, binary)}}


_NAMES = asdict(ActionNames(("left", "right", "", "jump")))
_NAMES_SCHEMA = {"schema": TypeAdapter(ActionNames).json_schema(), "example": _NAMES}
_NAMES_BODY = {"requestBody": {"required": True, "content": {"application/json": _NAMES_SCHEMA}}}
_UPLOAD_BODY = {
    "requestBody": {
        "description": "The start image in PNG, JPEG, WebP or GIF format. It is cropped and "
        "resized to the world's frames. Without it, a prompt of the world is used.",
        "required": False,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_UPLOAD_ERRORS = _errors(404, 408, 413, 415, 422, 503)


def _add_world_routes(app: FastAPI, service: Service) -> None:
    example = PathParameter(description="Name of a world.", examples=[*service.worlds][:1])

    @app.get("/worlds", tags=["worlds"])
    def worlds() -> list[World]:
        """Lists the worlds."""
        return [served.describe() for served in service.worlds.values()]

    @app.get(
        "/worlds/{name}/prompts/{index}.png",
        tags=["worlds"],
        response_class=Response,
        responses=_content("The image.", "image/png") | _errors(404, 422),
    )
    def prompt(
        name: str = example,
        index: int = PathParameter(description="Index of the prompt.", examples=[0]),
    ) -> Response:
        """Returns an image that games start from."""
        images = service.world(name).prompt_images
        if index not in range(len(images)):
            raise HTTPException(404, "There is no such prompt.")
        return Response(images[index], media_type="image/png")

    @app.put(
        "/worlds/{name}/names",
        tags=["worlds"],
        responses=_errors(403, 404, 408, 413, 422),
        openapi_extra=_NAMES_BODY,
    )
    async def save_names(request: Request, name: str = example) -> ActionNames:
        """Saves the names of the actions in the world's folder, for all players."""
        served = service.world(name)
        served.require_names()
        text = await read_upload(request.stream(), service.limits, MAX_SMALL_MESSAGE * 8)
        names = await served.scheduler.run_in_reader(lambda: served.save_names(text))
        return ActionNames(tuple(names))

    @app.post(
        "/worlds/{name}/reconstruction",
        tags=["worlds"],
        response_class=Response,
        responses=_content("The image in the world's size.", "image/png") | _UPLOAD_ERRORS,
        openapi_extra=_UPLOAD_BODY,
    )
    async def reconstruct(request: Request, name: str = example) -> Response:
        """Returns an image as the world sees it: resized, encoded to tokens and decoded."""
        service.require_ready()
        served = service.world(name)
        service.clip_slots.require_free()  # before an upload is read for nothing
        image = await _start_image(request, service, served)
        with service.clip_slots:
            seen = await served.clip_scheduler(
                lambda: served.world.reconstruct(image).cpu().numpy()
            )
            return Response(png(seen), media_type="image/png")


def _add_operator_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operation"], responses=_errors(503))
    async def health() -> dict[str, str]:
        """Returns whether the server works; if not, restart it."""
        if service.failure is not None:
            raise HTTPException(503, "A world failed; restart the server.")
        return {"status": "ok"}

    @app.get("/ready", tags=["operation"], responses=_errors(503))
    async def ready() -> dict[str, str]:
        """Returns whether the server accepts requests: all worlds are warm and it is running."""
        service.require_ready()
        return {"status": "ready"}

    @app.get(
        "/metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' format."}},
    )
    async def metrics() -> Response:
        """Returns the metrics for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_generate_route(app: FastAPI, service: Service) -> None:
    @app.post(
        "/generate",
        tags=["clips"],
        response_class=Response,
        responses=_content(
            "The clip: the prompt, then one frame for each action.",
            *clips.MEDIA_TYPES.values(),
        )
        | _UPLOAD_ERRORS,
        openapi_extra=_UPLOAD_BODY,
    )
    async def generate(request: Request, query: Annotated[clips.ClipQuery, Query()]) -> Response:
        """Plays a list of actions from an image and returns the clip."""
        began = time.perf_counter()
        service.require_ready()
        served = service.world(query.world)
        config, limits = served.world.config, service.limits
        actions = parse_actions(
            query.actions, config.num_actions, limits.actions_per_clip, served.mapper
        )
        service.clip_slots.require_free()  # before an upload is read for nothing
        start = await _start_image(request, service, served, query.prompt)
        with service.clip_slots:
            count = len(actions) + frame_count(start)
            scale = choose_scale(query.scale, count, config.height, config.width)

            async def wanted() -> bool:
                service.require_ready()
                return not await request.is_disconnected()

            frames = await served.clip_scheduler.generate(start, actions, query.seed, wanted)
            content = await served.scheduler.encode(frames, query.format, scale)
        service.metrics.generate_seconds.labels(served.name).observe(time.perf_counter() - began)
        ending = "zip" if query.format == "png" else query.format
        disposition = {"Content-Disposition": f'inline; filename="clip.{ending}"'}
        media_type = clips.MEDIA_TYPES[query.format]
        return Response(content, media_type=media_type, headers=disposition)


async def _start_image(
    request: Request, service: Service, served: WorldService, prompt: int = 0
) -> np.ndarray:
    config, limits = served.world.config, service.limits
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        with service.upload_slots:  # until it is decoded, as a waiting upload holds its bytes
            if upload := await read_upload(request.stream(), limits):
                size = config.height, config.width
                return await served.scheduler.run_in_reader(
                    lambda: crop_and_resize(decode_upload(upload, limits), *size)
                )
    last = len(served.prompts) - 1
    require(prompt <= last, f"prompt: {prompt} does not exist, this world has 0 to {last}")
    return served.prompts[prompt]


def _add_player_route(app: FastAPI, service: Service) -> None:
    @contextlib.contextmanager
    def admitted(world: str | None) -> Iterator[WorldService]:
        served = service.world(world)
        if service.stopping:
            service.require_ready()
        with service.player_slots:
            yield served

    @app.websocket("/play")
    async def play(websocket: WebSocket, world: str | None = None) -> None:
        with admitted(world) as served:
            await websocket.accept()
            limits, metrics = service.limits, service.metrics
            await Connection(websocket, served.scheduler, limits, metrics, served.name).serve()

    @app.get("/play", include_in_schema=False)
    async def why_rejected(world: str | None = None) -> Response:
        """Answers like the WebSocket, whose status code a browser hides from a page."""
        try:
            with admitted(world):
                return Response(status_code=204)
        except RequestRejected as error:  # not counted again
            return http_error(error.status, str(error), error.retry_after)
