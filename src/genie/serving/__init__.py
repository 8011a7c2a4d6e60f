"""Play a world in the browser and serve worlds to others.

`serve` runs a server and `create_server` returns its ASGI application, of the worlds in each
`ServedWorld`. All are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from genie.core.config import UserError

_HOMES = {
    "ServedWorld": "genie.serving.service",
    "create_server": "genie.serving.http.app",
    "serve": "genie.serving.server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genie.serving' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs {error.name}: pip install 'genie-worlds[serve]'") from None


def __dir__() -> list[str]:
    return sorted(_HOMES)
