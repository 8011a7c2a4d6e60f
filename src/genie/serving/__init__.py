"""Play a world in the browser: `serve` runs the server, `create_app` gives the ASGI application."""

from genie.serving.app import create_app, serve

__all__ = ["create_app", "serve"]
