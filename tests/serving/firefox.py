"""A real Firefox, spoken to in WebDriver BiDi: Playwright drives only builds of its own."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

# No first-run pages, and nothing asked of anybody; 0 is dark, 1 is light.
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
}
COLOUR_SCHEME = "layout.css.prefers-color-scheme.content-override"
LISTENING = re.compile(r"BiDi listening on (ws://\S+)\s")


class Firefox:
    """One tab of a browser: what its pages wrote as errors, and which addresses they asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count()
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self._tab = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result; events on the way are noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self._socket.recv(60))).get("id") != number:
            self._note(message)
        assert message["type"] == "success", message
        return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "log.entryAdded" and params["level"] == "error":
            self.problems.append(params["text"])
        if message.get("method") == "network.beforeRequestSent":
            self.asked.append(params["request"]["url"])

    def here(self, method: str, **params: Any) -> dict[str, Any]:
        """A command for the tab."""
        return self.call(method, context=self._tab, **params)

    def size(self, width: int, height: int) -> None:
        self.here("browsingContext.setViewport", viewport={"width": width, "height": height})

    def goto(self, address: str) -> None:
        self.here("browsingContext.navigate", url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """Returns what an expression is, by way of JSON."""
        text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value))"
        target = {"context": self._tab}
        answer = self.call("script.evaluate", expression=text, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return json.loads(answer["result"].get("value", "null"))

    def wait_until(self, expression: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never so: {expression}"
            time.sleep(0.03)

    def press(self, key: str, milliseconds: int = 0) -> None:
        """Holds a key for a while."""
        pause = {"type": "pause", "duration": milliseconds}
        actions = [{"type": "keyDown", "value": key}, pause, {"type": "keyUp", "value": key}]
        self.here("input.performActions", actions=[{"type": "key", "id": "k", "actions": actions}])

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Clicks with the mouse into an element, by default in its middle."""
        box = self.evaluate(
            f"(() => {{ const part = document.querySelector({json.dumps(selector)});"
            " part.scrollIntoView({ block: 'nearest' }); return part.getBoundingClientRect(); })()"
        )
        x = round(box["x"] + across * box["width"])
        y = round(box["y"] + down * box["height"])
        actions = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "m", "actions": actions}
        self.here("input.performActions", actions=[mouse])

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file field its file."""
        found = self.here("browsingContext.locateNodes", locator={"type": "css", "value": selector})
        element = {"sharedId": found["nodes"][0]["sharedId"]}
        self.here("input.setFiles", element=element, files=[str(path)])

    def keep_screenshot(self, name: str) -> None:
        """Writes what the page looks like into the folder `GENIE_SCREENSHOTS`, if that is set."""
        if folder := os.environ.get("GENIE_SCREENSHOTS"):
            shot = self.here("browsingContext.captureScreenshot", origin="document")
            (Path(folder) / f"firefox-{name}.png").write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def firefox(executable: str, profile: Path, dark: bool = False) -> Iterator[Firefox]:
    """Runs a headless Firefox with an empty profile."""
    profile.mkdir()
    preferences = {**PREFERENCES, COLOUR_SCHEME: 0 if dark else 1}
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    words = profile / "stderr.txt"  # a pipe would fill up
    command = [executable, "--headless", "--no-remote", "--profile", profile]
    with words.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--remote-debugging-port=0"], stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        address = _wait_for_address(process, words)
        with connect(f"{address}/session", max_size=None) as socket:
            yield Firefox(socket)
    finally:
        process.terminate()
        process.wait(20)


def _wait_for_address(process: subprocess.Popen[bytes], words: Path) -> str:
    deadline = time.monotonic() + 60
    while not (found := LISTENING.search(words.read_text(errors="replace"))):
        assert process.poll() is None, f"Firefox has ended: {words.read_text(errors='replace')}"
        assert time.monotonic() < deadline, "Firefox did not say where it listens"
        time.sleep(0.05)
    return found[1]
