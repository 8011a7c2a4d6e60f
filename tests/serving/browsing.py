"""How tests find a browser, and what they do and see on the page of the dot world."""

import shutil
import time

import pytest


def _first(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


# The headless shell is Chromium without windows; a test takes half of the processor time in it.
CHROMIUM = _first("chromium-headless-shell", "chromium", "google-chrome", "chrome")
FIREFOX = _first("firefox-esr", "firefox")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A browser on a busy machine can hold a key for a tick too long: only a repeated failure counts.
needs_chromium = [
    pytest.mark.browser,
    pytest.mark.flaky(reruns=2),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium was found"),
]
needs_firefox = [
    pytest.mark.browser,
    pytest.mark.flaky(reruns=2),
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox was found"),
]
# Row and column of the brightest pixel of the canvas, which is the dot.
DOT = """() => {
    const canvas = document.querySelector("canvas"), { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let brightest = 0;
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i] > pixels[brightest]) brightest = i;
    return [Math.floor(brightest / 4 / width), (brightest / 4) % width];
}"""


def dot(page):
    return tuple(page.evaluate(DOT))


def wait_for_dot(page, where):
    """Waits until the dot satisfies a condition; returns its place."""
    deadline = time.monotonic() + 5
    while not where(dot(page)):
        assert time.monotonic() < deadline, f"the dot stays at {dot(page)}"
        page.wait_for_timeout(20)
    return dot(page)


def tap(page, code):
    """Presses and releases a key where the focus is, at once, however busy this machine is."""
    page.evaluate(
        """code => {
            for (const type of ["keydown", "keyup"])
                document.activeElement.dispatchEvent(
                    new KeyboardEvent(type, { code, bubbles: true, cancelable: true }));
        }""",
        code,
    )


def wait_until(page, condition, arg=None):
    """Waits until a script says true; by polling, as the page forbids eval."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition, arg):
        assert time.monotonic() < deadline, f"never so: {condition}"
        page.wait_for_timeout(20)


def press(page, name):
    page.get_by_role("button", name=name).click()


def step(page):
    return int(page.inner_text("#step"))
