"""A browser that visits an exported site."""

import contextlib
import functools
import http.server
import threading

import numpy as np
from browsing import ARGUMENTS, CHROMIUM

PIXELS = """() => {
    const canvas = document.querySelector("canvas"), { width, height } = canvas;
    return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
}"""


class Files(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(site):
    """The address of a plain file server of a folder; it is gone after the block."""
    handler = functools.partial(Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def chromium(driver, *arguments):
    running = driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
    yield running
    running.close()


@contextlib.contextmanager
def opened(context, address):
    """A page of the site in a context, without script errors."""
    made = context.new_page()
    errors = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.goto(address)
    yield made
    made.evaluate("localStorage.clear()")
    made.close()
    assert not errors


def shown(page):
    """The frame on the page, (H, W, 3)."""
    return np.array(page.evaluate(PIXELS)).reshape(16, 16, 4)[..., :3]
