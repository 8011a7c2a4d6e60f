"""Play a world in the browser and serve worlds to others.

`serve` runs a server and `create_server` returns its ASGI application, of the worlds in each
`ServedWorld`. All are imported on first use.
"""

from genie.core.lazy import lazy_names

_HOMES = {
    "ServedWorld": "genie.serving.service",
    "create_server": "genie.serving.http.app",
    "serve": "genie.serving.server",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES, extra="serve")
