"""Authentication: checks the host name, the origin and the token of each request."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from starlette.requests import HTTPConnection
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

    def __init__(self, app: ASGIApp, config: AuthConfig, rejected: Callable[[str], None]) -> None:
        self.app, self.config, self.rejected = app, config, rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on or rejects it."""
        refusal = None if scope["type"] == "lifespan" else self._refusal(HTTPConnection(scope))
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        host = _hostname(request.headers.get("host", ""))
        if not is_loopback(host) and host not in self.config.hosts:
            self.rejected("host")
            words = "This host name is not accepted (Host header); list it in `--hosts`."
            return http_error(403, words)
        if not _is_own_page(request):
            self.rejected("origin")
            return http_error(403, "Requests from other sites are not accepted (Origin header).")
        if self.config.token is None or request.scope["path"] in WITHOUT_TOKEN:
            return None
        return self._without_token(request)

    def _without_token(self, request: HTTPConnection) -> Response | None:
        in_address = request.query_params.get("token", "")
        # A WebSocket has no method.
        if request.scope.get("method") == "GET" and self._is_token(in_address):
            return _set_cookie(in_address, request)
        if any(self._is_token(token) for token in _offered(request)):
            return None
        self.rejected("token")
        wrong = "The token is wrong" if any(_offered(request)) else "A token is needed"
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


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address belongs to the loopback interface."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_wildcard(host: str) -> bool:
    """Returns whether an address stands for all addresses of this machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def _is_own_page(request: HTTPConnection) -> bool:
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _offered(request: HTTPConnection) -> Sequence[str]:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    tokens = [bearer.strip()] if scheme.lower() == "bearer" else []
    return [*tokens, request.cookies[COOKIE]] if COOKIE in request.cookies else tokens


def _set_cookie(token: str, request: HTTPConnection) -> Response:
    others = [pair for pair in request.query_params.multi_items() if pair[0] != "token"]
    # A path that begins with two slashes would redirect to another server.
    path = "/" + request.scope["path"].lstrip("/\\")
    response = RedirectResponse(f"{path}?{urlencode(others)}" if others else path, 303)
    secure = request.scope["scheme"] == "https"
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure)
    return response
