"""How many frames a second does prepare store, and how fast are random windows read back?

python benchmarks/prepare.py [videos/] --json prepare.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from _machine import tell

from genie.data.prepare import prepare
from genie.data.sampler import sample_clips
from genie.data.store import ClipStore


def measure_prepare(source: Path, out: Path, workers: int | None) -> dict:
    began = time.perf_counter()
    report = prepare(source, out, workers=workers, progress=False)
    seconds = time.perf_counter() - began
    frames = sum(report.frames.values())
    size = sum(path.stat().st_size for path in (out / "frames").rglob("*") if path.is_file())
    store = ClipStore.open(out)
    return {
        "videos": report.videos,
        "frames": frames,
        "seconds": round(seconds, 1),
        "frames_per_second": round(frames / seconds, 1),
        "compression": round(frames * store.height * store.width * 3 / size, 2),
    }


def measure_reads(path: Path, cache_bytes: int, batch: int = 64, steps: int = 40) -> dict:
    store = ClipStore.open(path, cache_bytes=cache_bytes)
    starts = store.window_starts(16)
    store.windows(starts[:1], 16)
    began = time.perf_counter()
    for step in range(steps):
        store.windows(sample_clips(starts, seed=0, step=step, batch=batch), 16)
    rate = steps * batch * 16 / (time.perf_counter() - began)
    return {"from": "memory" if store.in_memory else "disk", "frames_per_second": round(rate)}


def measure_sampler(clips: int = 10**8, batch: int = 64) -> dict:
    starts = np.arange(clips)
    began = time.perf_counter()
    for step in range(1000):
        sample_clips(starts, seed=0, step=step, batch=batch)
    return {
        "clips": clips,
        "batch": batch,
        "us_per_batch": round(1e3 * (time.perf_counter() - began)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="?", default=Path("samples"))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "store"
        results = {
            "prepare": measure_prepare(options.videos, out, options.workers),
            "reads": [measure_reads(out, 0), measure_reads(out, 2**31)],
            "sampler": measure_sampler(),
        }
    tell(results, options.json)


if __name__ == "__main__":
    main()
