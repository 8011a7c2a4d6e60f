r"""How fast is a world in a browser's tab, and is it the same game as in Python?

Exports a site, serves it with a plain file server, and opens it in Chromium: time to the first
frame, bytes as gzip packs them, replays as fast as the tab can play, key to picture, memory. The
frame after each replay must be Python's but for rounding.

python benchmarks/tab.py                                   # coinrun-tiny
python benchmarks/tab.py site/ --world coinrun-9m --steps 100 --games 1 --json tab.json
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _machine import spread, tell

import genie
from genie.core.config import from_record
from genie.export.site import ON_DEMAND, export_site
from genie.world.replay import Replay

PIXELS = """() => {
    const canvas = document.querySelector("canvas");
    const { width, height } = canvas;
    return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
}"""
LATENCIES = """() => {
    window.latencies = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.latencies.push(entry.duration);
    }).observe({ entryTypes: ["measure"] });
}"""


class Files(http.server.SimpleHTTPRequestHandler):
    """A plain file server that knows the types of modules."""

    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serves a folder on a free port of the loopback interface."""
    handler = functools.partial(Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def packed_megabytes(site: Path, world: str) -> float:
    """What a first visit to one world loads, packed by gzip."""
    others = [folder for folder in (site / "worlds").iterdir() if folder.name != world]
    others += [site / name for name in ON_DEMAND]
    files = [file for file in site.rglob("*") if file.is_file()]
    files = [file for file in files if not any(file.is_relative_to(other) for other in others)]
    return sum(len(gzip.compress(file.read_bytes(), 9)) for file in files) / 1e6


def tab_megabytes(profile: str) -> float:
    """Memory of the tab's process that is no file.

    Files of the browser's program are shared by all its processes, and by other browsers on the
    machine. Their proportional share jumps by 30 MB when one of these starts or ends. The tab is
    the largest of the processes that render; the others are empty pages.
    """
    found = [0]
    for status in Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            if profile.encode() in command and b"--type=renderer" in command:
                lines = status.read_text().splitlines()
                found.append(
                    next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
                )
        except OSError:
            continue  # it ended, or is not ours
    return max(found) / 1e3


def wait_for_step(page: Any, step: int) -> None:
    """Waits until the page shows a step."""
    page.wait_for_function(
        "step => Number(document.getElementById('step').textContent) >= step",
        arg=step,
        timeout=300_000,
    )


def replay_game(
    page: Any, world: genie.Genie, replay: dict[str, Any], file: Path
) -> dict[str, Any]:
    """Plays a replay in the tab and in Python."""
    file.write_text(json.dumps(replay))
    steps = len(replay["actions"])
    page.set_input_files("#replay", file)
    wait_for_step(page, 1)
    began = time.perf_counter()
    wait_for_step(page, steps)
    seconds = time.perf_counter() - began
    page.wait_for_timeout(200)
    shown = np.array(page.evaluate(PIXELS)).reshape(world.config.height, -1, 4)[..., :3]
    *_, last = from_record(Replay, replay).frames(world)
    off = int(np.abs(shown - last.astype(int)).max())
    return {"frames_per_second": round((steps - 1) / seconds, 1), "grey_levels_off": off}


def play_long(page: Any, profile: str, seconds: float) -> dict[str, Any]:
    """Plays at random and says how the tab's memory changes after the first minute.

    In the first minute the memory for the last minute's video fills up. Before each sample the
    garbage of page and worker is collected.
    """
    random, samples = np.random.default_rng(1), []
    began, first = time.perf_counter(), int(page.inner_text("#step"))
    while (now := time.perf_counter() - began) < seconds:
        key = f"Digit{random.integers(1, 8)}"
        page.keyboard.down(key)
        page.wait_for_timeout(float(random.uniform(500, 2500)))
        page.keyboard.up(key)
        if now >= 15 * len(samples):
            page.evaluate("gc()")
            page.workers[0].evaluate("gc()")
            samples.append((now, tab_megabytes(profile)))
    settled = [memory for at, memory in samples if at >= 60] or [samples[-1][1]]
    quarter = max(1, len(settled) // 8)
    grown = np.mean(settled[-quarter:]) - np.mean(settled[:quarter])
    return {
        "seconds": seconds,
        "steps": int(page.inner_text("#step")) - first,
        "tab_megabytes": [round(memory) for _, memory in samples],
        "grown": round(float(grown), 1),
    }


def measure(options: argparse.Namespace, site: Path, profile: str) -> dict[str, Any]:
    """All figures of one world."""
    from playwright.sync_api import sync_playwright

    world = genie.Genie.from_pretrained(options.world, device="cpu")
    random = np.random.default_rng(0)
    with served(site) as address, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=options.browser,
            args=["--no-sandbox", "--js-flags=--expose-gc"],
            accept_downloads=True,
        )
        page = context.new_page()
        began = time.perf_counter()
        page.goto(f"{address}?world={options.world}")
        page.wait_for_selector("#canvas[data-frame]", timeout=120_000)
        first = time.perf_counter() - began
        page.evaluate("document.getElementById('previews').click()")
        games = []
        for number in range(options.games):
            page.click(f"#gallery button:nth-child({number + 1})")
            with page.expect_download() as download:
                page.click("#save")
            replay = json.loads(download.value.path().read_text())
            replay["actions"] = random.integers(0, world.config.num_actions, options.steps).tolist()
            with tempfile.TemporaryDirectory() as folder:
                games.append(replay_game(page, world, replay, Path(folder) / "game.json"))
        page.click("#gallery button:nth-child(1)")
        page.evaluate(LATENCIES)
        for _ in range(options.presses):
            page.keyboard.press("Digit2")
            page.wait_for_timeout(float(random.uniform(250, 350)))
        waits = page.evaluate("window.latencies")
        memory = play_long(page, profile, options.hold)
        context.close()
    return {
        "world": options.world,
        "first_frame_seconds": round(first, 2),
        "packed_megabytes": round(packed_megabytes(site, options.world), 2),
        "replayed_steps": options.steps,
        "games": games,
        "key_to_picture": {"presses": len(waits), **spread([wait / 1000 for wait in waits])},
        "memory": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, nargs="?", help="what `genie export --web` wrote")
    parser.add_argument("--world", default="coinrun-tiny", help="one of its worlds, bundled here")
    parser.add_argument("--steps", type=int, default=300, help="of each replay")
    parser.add_argument("--games", type=int, default=4, help="replays, each from its own prompt")
    parser.add_argument("--presses", type=int, default=50, help="of a key")
    parser.add_argument(
        "--hold", type=float, default=60, help="seconds of play for memory; the bar is 600"
    )
    parser.add_argument("--browser", default=shutil.which("chromium"), help="Chromium's program")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genie-tab-") as folder:
        site = options.site or export_site([options.world], Path(folder) / "site")
        tell(measure(options, site, f"{folder}/profile"), options.json)


if __name__ == "__main__":
    main()
