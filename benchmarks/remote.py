"""How many frames a second do random windows come from a store on an S3 server of this machine?

The server is a process of its own that answers from memory, so what is measured is the way from
there: requests, signatures, decompression. Several batches are read at a time, as training does.
Bytes are compared with those of the folder. In the end the server answers after 200 ms, and refuses
one request of a hundred.

genie record procgen:coinrun --out videos --frames 20000
genie prepare videos --out store --fps 15
python benchmarks/remote.py store --json remote.json
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from _machine import tell

from genie.data import remote
from genie.data.sampler import BatchIndex
from genie.data.store import ClipStore
from genie.training.batches import FrameBatches, PrefetchLoader

WINDOW = 16
BUCKET, SPENT, SLOW = "/bucket/", "/spent", "/slow"


class Folder:
    """Serves the files of a folder as S3 does, as far as reading goes; an ASGI application.

    The path `/spent` answers with the processor time of the server and the number of requests. From
    a request of `/slow` on, answers take 200 ms and each hundredth request is refused.
    """

    def __init__(self, folder: Path) -> None:
        names = (path for path in folder.rglob("*") if path.is_file())
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in names}
        self.requests, self.slow = 0, False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        content = self.files.get(scope["path"].removeprefix(BUCKET))
        status, extra = 200, []
        self.requests += 1
        self.slow |= scope["path"] == SLOW
        if scope["path"] in (SPENT, SLOW):
            content = json.dumps([time.process_time(), self.requests]).encode()
        elif self.slow and self.requests % 100 == 0:
            status, content = 503, b""
        elif b"AWS4-HMAC-SHA256" not in headers.get(b"authorization", b""):
            status, content = 403, b""
        elif content is None:
            status, content = 404, b""
        elif asked := headers.get(b"range"):
            first, stop = span_of(asked.decode(), len(content))
            extra = [(b"content-range", b"bytes %d-%d/%d" % (first, stop - 1, len(content)))]
            status, content = 206, content[first:stop]
        if self.slow:
            await asyncio.sleep(0.2)
        length = (b"content-length", b"%d" % len(content))
        answer = {"type": "http.response.start", "status": status}
        await send(answer | {"headers": [length, (b"etag", b'"1"'), *extra]})
        await send({"type": "http.response.body", "body": content})


def span_of(asked: str, size: int) -> tuple[int, int]:
    """First byte of a range, and the byte after its last one."""
    first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", asked).groups()  # type: ignore[union-attr]
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def run_server(folder: Path, port: int) -> None:
    """Serves a folder on a loopback port until it is killed."""
    uvicorn.run(Folder(folder), host="127.0.0.1", port=port, log_level="error", lifespan="off")


def wait_for(port: int, seconds: float = 60) -> None:
    """Waits until a server listens."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"no server on port {port}")


def rate(store: ClipStore, batch: int, threads: int, seconds: float) -> dict[str, float]:
    """Frames per second of random windows, and what they cost."""
    loader = iter(PrefetchLoader(FrameBatches(store, WINDOW, batch), BatchIndex(0), threads))
    next(loader)
    frames, began, spent, server = 0, time.perf_counter(), time.process_time(), spent_there()
    while time.perf_counter() - began < seconds:
        frames += len(next(loader)[0]) * WINDOW
    took, spent = time.perf_counter() - began, time.process_time() - spent
    there = [after - before for before, after in zip(server, spent_there(), strict=True)]
    loader.close()  # type: ignore[attr-defined]
    return {
        "frames_per_second": round(frames / took),
        "requests_per_window": round(there[1] * WINDOW / frames, 2),
        "processor_us_per_frame": round(1e6 * spent / frames, 1),
        "processor_us_per_frame_of_server": round(1e6 * there[0] / frames, 1),
    }


def spent_there(path: str = SPENT) -> tuple[float, int]:
    """Processor seconds and requests of the server; zeros where it is another one."""
    try:
        with urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + path) as answer:
            seconds, requests = json.loads(answer.read())
            return seconds, requests
    except (OSError, ValueError):
        return 0.0, 0


def same(store: ClipStore, local: ClipStore, windows: int) -> bool:
    """Whether random windows have the same bytes."""
    starts = local.window_starts(WINDOW)
    chosen = np.random.default_rng(1).choice(starts, windows)
    return np.array_equal(store.windows(chosen, WINDOW), local.windows(chosen, WINDOW))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="folder of a store")
    parser.add_argument("--address", help="where a server of yours has it, such as s3://bucket/x")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.data is None:
        sys.exit(parser.format_help())
    process = None
    if options.address is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = get_context("spawn").Process(
            target=run_server, args=(options.data.resolve().parent, port), daemon=True
        )
        process.start()
        wait_for(port)
        os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        options.address = f"s3:/{BUCKET}{options.data.resolve().name}"
    local = ClipStore.open(options.data, cache_bytes=0)
    size = len(local) * local.height * local.width * 3
    rows = []

    def measure(cache: int, threads: int, server: str) -> None:
        for _ in range(options.repeats):
            store = ClipStore.open(options.address, cache_bytes=cache)
            row = {"server": server, "cached_share": cache / size, "batches_at_a_time": threads}
            row |= rate(store, options.batch, threads, options.seconds)
            rows.append(row | {"equal_bytes": same(store, local, 200)})

    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENIE_CACHE"] = folder
        remote.INDEX_BYTES = 2**20  # holds the indices of the files, and hardly a frame
        for cache in (0, size // 2, size):
            for threads in options.threads:
                measure(cache, threads, "plain")
        if process is not None:
            spent_there(SLOW)
            measure(0, options.threads[-1], "200 ms, 1 % errors")
            process.terminate()
    about = {"frames": len(local), "size": [local.height, local.width], "window": WINDOW}
    about |= {"batch": options.batch, "priority": os.nice(0), "load": round(os.getloadavg()[0], 1)}
    tell({**about, "rows": rows}, options.json)


if __name__ == "__main__":
    main()
