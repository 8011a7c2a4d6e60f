"""Authentication: checks the host name, the origin and the token of each request."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from genie.core.config import require

COOKIE = "genie_token"
WITHOUT_TOKEN = ("/health", "/ready")  # for the operator's health checks
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class AuthConfig:
    """Which clients a server accepts.

    Attributes:
        token: secret that clients must send; None for no token.
        hosts: host names that clients may use, besides those of the loopback interface.
    """

    token: str | None = None
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks that the token is long enough."""
        if self.token is not None:
            plain = self.token.isascii() and self.token.isprintable() and " " not in self.token
            require(
                len(self.token) >= SHORTEST_TOKEN and plain,
                f"token: must be at least {SHORTEST_TOKEN} ASCII characters without spaces; "
                "make one with: openssl rand -hex 32",
            )


class AuthMiddleware:
    """ASGI middleware that rejects requests without authorization.

    Another web page in the same browser could reach the server by DNS rebinding or by a WebSocket.
    The Host and Origin headers show it. The token is sent as `Authorization: Bearer TOKEN`. In a
    browser, `?token=TOKEN` of any page sets a cookie and redirects to the address without it.

    Args:
        app: application to protect.
        config: which clients are accepted.
        rejected: called with the reason of each rejection.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: AuthConfig,
        rejected: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.app, self.config, self.rejected = app, config, rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on or rejects it."""
        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the connection request
            await reject_websocket(refusal, scope, receive, send)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        if not self._is_known(_hostname(headers.get(b"host", ""))):
            self.rejected("host")
            words = "This host name is not accepted (Host header); list it in `--hosts`."
            return http_error(403, words)
        if not _is_own_page(headers):
            self.rejected("origin")
            return http_error(403, "Requests from other sites are not accepted (Origin header).")
        if self.config.token is None or scope["path"] in WITHOUT_TOKEN:
            return None
        return self._without_token(scope, headers)

    def _is_known(self, host: str) -> bool:
        return is_loopback(host) or host in self.config.hosts

    def _without_token(self, scope: Scope, headers: dict[bytes, str]) -> Response | None:
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["type"] == "http" and scope["method"] == "GET":
            offered = [value for key, value in asked if key == "token"]
            if offered and self._is_token(offered[-1]):
                others = [pair for pair in asked if pair[0] != "token"]
                return _set_cookie(offered[-1], scope, others)
        if any(self._is_token(token) for token in _offered(headers)):
            return None
        self.rejected("token")
        wrong = "The token is wrong" if any(_offered(headers)) else "A token is needed"
        refusal = http_error(401, f"{wrong}: send the header 'Authorization: Bearer TOKEN'.")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _is_token(self, offered: str) -> bool:
        assert self.config.token is not None
        return secrets.compare_digest(offered.encode(), self.config.token.encode())


def http_error(status: int, message: str, retry_after: int | None = None) -> Response:
    """Returns an error as JSON in the form of FastAPI's own; `retry_after` is in seconds."""
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"detail": message}, status, headers)


async def reject_websocket(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the handshake of a WebSocket with an HTTP response."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await refusal(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address belongs to the loopback interface."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Returns whether an address stands for all addresses of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_own_page(headers: dict[bytes, str]) -> bool:
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _offered(headers: dict[bytes, str]) -> Sequence[str]:
    scheme, _, bearer = headers.get(b"authorization", "").partition(" ")
    tokens = [bearer.strip()] if scheme.lower() == "bearer" else []
    try:
        cookies = SimpleCookie(headers.get(b"cookie", ""))
    except CookieError:
        return tokens
    return [*tokens, cookies[COOKIE].value] if COOKIE in cookies else tokens


def _set_cookie(token: str, scope: Scope, others: list[tuple[str, str]]) -> Response:
    # A path that begins with two slashes would redirect to another server.
    path = "/" + scope["path"].lstrip("/\\")
    response = RedirectResponse(f"{path}?{urlencode(others)}" if others else path, 303)
    secure = scope["scheme"] == "https"
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure)
    return response
