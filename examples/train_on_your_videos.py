"""From a folder of your own videos to a world and a report on it: prepare, train, evaluate.

    python examples/train_on_your_videos.py my-videos/ --out runs/mine --minutes 60
    genie play runs/mine

No labels are needed: the buttons of the world are learned from what moves. Given again after a
kill, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import genie
from genie import presets


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    preset = presets.get(options.preset)
    store = options.out / "clips"
    size = {"height": preset.world.height, "width": preset.world.width}
    genie.prepare(options.videos, store, fps=preset.world.fps, workers=options.workers, **size)
    world = genie.train(store, options.out, preset=options.preset, minutes=options.minutes)
    report = options.out / "report"
    genie.evaluate(world, store, report, quick=True, clips=options.clips)
    print(f"Read {report / 'report.html'}, then: genie play {world}")


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, help="folder of mp4, mkv, webm, avi, mov or gif files")
    parser.add_argument("--out", type=Path, default=Path("runs/mine"))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clips", type=int, default=32, help="held-out clips to evaluate on")
    parser.add_argument("--workers", type=int, help="processes that decode; default: one per core")
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
