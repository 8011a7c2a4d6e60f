"""A browser that visits an exported site."""

import contextlib

import numpy as np
from browsing import ARGUMENTS, CHROMIUM

PIXELS = """() => {
    const canvas = document.querySelector("canvas"), { width, height } = canvas;
    return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
}"""


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
