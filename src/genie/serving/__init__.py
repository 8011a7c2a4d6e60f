"""Play a world in the browser and serve worlds to others.

`serve` is for one player on this machine, `serve_worlds` for others; `create_app` and
`create_server` give the ASGI applications.
"""

from genie.config import UserError

try:
    from genie.serving.app import create_app, create_server
    from genie.serving.server import serve, serve_worlds
except ModuleNotFoundError as error:
    raise UserError(f"serving needs {error.name}: pip install 'genie-worlds[serve]'") from None

__all__ = ["create_app", "create_server", "serve", "serve_worlds"]
