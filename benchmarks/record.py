"""How many frames a second does the recorder write, from the game to the finished file?

python benchmarks/record.py --frames 60000 --json record.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from _machine import tell

from genie.data.recording.record import record


def measure(env: str, frames: int, **options) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        used = time.process_time()
        report = record(env, Path(folder) / "out", frames=frames, progress=False, **options)
        used = time.process_time() - used
        written = sum(path.stat().st_size for path in Path(folder).rglob("*.mp4"))
        total = sum(report.frames.values())
        return {
            "env": env,
            **options,
            "frames": total,
            "frames_per_second": round(report.frames_per_second, 1),
            "cpu_us_per_frame": round(used / total * 1e6, 1),
            "bytes_per_frame": round(written / total, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=30_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = [
        measure("procgen:coinrun", options.frames),
        measure("procgen:coinrun", options.frames, preset="veryfast", crf=10),
        measure("procgen:maze", options.frames),
        measure("procgen:coinrun", options.frames // 10, size=512),
    ]
    tell({"results": results}, options.json)


if __name__ == "__main__":
    main()
