"""Does a Ray cluster prepare videos as fast as as many local processes, also when workers die?

Ray runs on this machine with two workers. Both ways take the same videos in turn; the fastest run
of each counts. In further runs a worker is killed by SIGKILL while it decodes.

python benchmarks/cluster.py --json cluster.json
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _machine import tell

from genie.data.engines import prepare_on_ray
from genie.data.prepare import prepare
from genie.data.video import write_video

OPTIONS = {"fps": 15.0, "progress": False}


def write_videos(folder: Path, count: int, frames: int) -> None:
    """Videos of noise that moves, 128x128."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        ground = noise.repeat(16, 0).repeat(16, 1)
        clip = [np.roll(ground, 3 * time, 1)[:128, :128] for time in range(frames)]
        write_video(folder / f"{number:03d}.mp4", clip, 15)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a store."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def seconds_of(run: object, *args: object, **options: object) -> float:
    began = time.perf_counter()
    run(*args, **options, **OPTIONS)  # type: ignore[operator]
    return time.perf_counter() - began


def kill_one(parts: Path, done: threading.Event, killed: list[int]) -> None:
    """Kills a process of Ray that prepares a part, once one has begun."""
    while not done.wait(0.05):
        found = subprocess.run(["pgrep", "-f", "ray::prepare"], capture_output=True, text=True)
        begun = list(parts.glob("*/.prepare/*.raw"))
        if found.stdout.split() and begun:
            killed.append(int(found.stdout.split()[0]))
            os.kill(killed[-1], signal.SIGKILL)
            return


def with_a_death(source: Path, out: Path, shards: int) -> tuple[bool, float]:
    """Returns whether a worker was killed in time, and the seconds of the run."""
    done, killed = threading.Event(), list[int]()
    parts = out.with_name(f".{out.name}.parts-{shards}")
    killer = threading.Thread(target=kill_one, args=(parts, done, killed))
    killer.start()
    seconds = seconds_of(prepare_on_ray, source, out, shards=shards)
    done.set()
    killer.join()
    return bool(killed), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import ray

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, shards = folder / "videos", 4
        write_videos(source, options.videos, options.frames)
        here = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(num_cpus=2, log_to_driver=False, **here)
        local, cluster = list[float](), list[float]()
        for run in range(options.runs):
            local.append(seconds_of(prepare, source, folder / f"local-{run}", workers=2))
            out = folder / f"ray-{run}"
            cluster.append(seconds_of(prepare_on_ray, source, out, shards=shards))
        expected = content(folder / "local-0")
        deaths = [
            with_a_death(source, folder / f"death-{run}", shards) for run in range(options.kills)
        ]
        stores = [*folder.glob("ray-*"), *folder.glob("death-*")]
        results = {
            "videos": options.videos,
            "frames": options.videos * options.frames,
            "shards": shards,
            "local_seconds": [round(each, 1) for each in local],
            "ray_seconds": [round(each, 1) for each in cluster],
            "ratio": round(min(cluster) / min(local), 2),
            "killed": sum(killed for killed, _ in deaths),
            "seconds_with_a_death": [round(seconds, 1) for _, seconds in deaths],
            "equal_stores": f"{sum(content(each) == expected for each in stores)} of {len(stores)}",
            "load": [round(each, 1) for each in os.getloadavg()],
        }
        ray.shutdown()
    tell(results, options.json)


if __name__ == "__main__":
    main()
