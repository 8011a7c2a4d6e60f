"""Does a filter that was learned from labels keep the gameplay of a mixed folder of videos?

Videos are made from a store of recorded games: clips as they are (good), and stills, menus, game
under an overlay, noise and fades (bad). Some are labelled by their true kind, through the requests
of the page of `genie label`. The filter never sees the test videos, which come from other episodes.
Copies of good clips, encoded anew, stand for duplicates. Everything goes through `genie prepare`.

STORE has half of the videos held out, of 22,000 frames recorded in CoinRun:

genie record procgen:coinrun --out videos/ --frames 20000    # then all videos in one folder
genie prepare videos/ --out STORE --fps 15 --val_fraction 0.5
python benchmarks/curation.py STORE --videos 250 --json benchmarks/results/curation.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _machine import tell
from fastapi.testclient import TestClient

from genie.data.labelling import Labelling
from genie.data.prepare import prepare
from genie.data.quality import save_quality
from genie.data.quality_labels import Label, learn_quality, read_labels
from genie.data.store import ClipStore
from genie.data.video import write_video
from genie.serving import create_server

FRAMES, FPS = 32, 10.0
Clip = np.ndarray
Random = np.random.Generator


def still(clip: Clip, random: Random) -> Clip:
    """A frame that stands still but for noise of a camera or codec."""
    noise = random.normal(0, random.uniform(1, 5), clip.shape)
    return (clip[:1] + noise).clip(0, 255).astype(np.uint8)


def menu(clip: Clip, random: Random) -> Clip:
    """Boxes over a plain or blurred ground, of which one is marked, in turn."""
    shown = np.empty_like(clip)
    shown[:] = clip[0].mean(axis=(0, 1)) if random.random() < 0.5 else clip[0] // 3
    count = int(random.integers(3, 6))
    colours = random.integers(0, 256, (2, 3))
    left, right = random.integers(4, 16), random.integers(44, 60)
    marked = np.cumsum(random.random(len(clip)) < 0.15) % count
    for time, choice in enumerate(marked):
        for row in range(count):
            top = 6 + row * (52 // count)
            shown[time, top : top + 52 // count - 4, left:right] = colours[int(row == choice)]
    return shown


def overlay(clip: Clip, random: Random) -> Clip:
    """A game behind a picture that stands still and covers 40 to 70 % of it."""
    shown = clip.copy()
    covered = round(clip.shape[1] * random.uniform(0.4, 0.7))
    picture = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    if random.random() < 0.5:
        shown[:, :covered] = picture[:covered]
    else:
        shown[:, :, :covered] = picture[:, :covered]
    return shown


def noise(clip: Clip, random: Random) -> Clip:
    """Frames under much noise, or in a random order."""
    if random.random() < 0.5:
        return clip[random.permutation(len(clip))] // 2 + 64
    strength = random.uniform(40, 120)
    return (clip + random.normal(0, strength, clip.shape)).clip(0, 255).astype(np.uint8)


def fade(clip: Clip, random: Random) -> Clip:
    """A game that is nearly black, or nearly white."""
    share = np.linspace(random.uniform(0, 0.3), 0, len(clip))[:, None, None, None]
    return (clip * share + random.choice([0, 235]) * (1 - share)).astype(np.uint8)


BAD: dict[str, Callable[[Clip, Random], Clip]] = {
    function.__name__: function for function in (still, menu, overlay, noise, fade)
}


def write_videos(folder: Path, clips: Sequence[Clip], good: int, seed: int) -> None:
    """Writes videos named by kind: the first clips as they are, the others made bad in turn."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    for number, clip in enumerate(clips):
        kind = "good" if number < good else list(BAD)[number % len(BAD)]
        frames = clip if kind == "good" else BAD[kind](clip, random)
        write_video(folder / f"{kind}-{number:04d}.mp4", frames, FPS)


def write_copies(folder: Path, clips: Sequence[Clip]) -> None:
    """Writes good clips once more, in twice the size or darker, at a lower quality."""
    for number, clip in enumerate(clips):
        larger = clip.repeat(2, 1).repeat(2, 2)
        copy = larger if number % 2 else (clip * 0.9).astype(np.uint8)
        write_video(folder / f"z-copy-{number:04d}.mp4", copy, FPS, crf=28)


def windows(store: ClipStore, split: str, count: int) -> list[Clip]:
    """Reads clips, one or a few of each episode of a split, none overlapping."""
    places = [
        e.start + first
        for turn in range(8)
        for e in store.episodes_in_split(split)
        if (first := turn * FRAMES) + FRAMES <= e.length
    ]
    return [store.read(start, FRAMES) for start in places[:count]]


def kinds(store: ClipStore) -> Counter[str]:
    """Number of clips by kind."""
    return Counter(e.source.rpartition("/")[2].partition("-")[0] for e in store.episodes)


def judged(kept: Counter[str], all_: Counter[str]) -> dict[str, Any]:
    """Precision and recall of what was kept, and what keeping as many at random would give."""
    count, total = sum(kept.values()), sum(all_.values())
    return {
        "kept": count,
        "precision": round(kept["good"] / count, 4),
        "recall": round(kept["good"] / all_["good"], 4),
        "random_precision": round(all_["good"] / total, 4),
        "random_recall": round(count / total, 4),
        "kept_by_kind": {kind: kept[kind] for kind in all_},
    }


def labelled_on_the_page(store: ClipStore, file: Path, count: int) -> dict[str, Label]:
    """Labels clips in the order in which the page shows them, by their true kind."""
    labelling = Labelling(store, file)
    app = create_server([], extend=labelling.add_to)
    with TestClient(app, base_url="http://localhost") as page:
        after = -1
        for _ in range(min(count, len(store.episodes))):
            clip = page.get("/label/clip", params={"after": after}).json()["clip"]
            label = "good" if clip["name"].startswith("good") else "bad"
            answer = page.post("/label/clip", json={"clip": clip["name"], "label": label})
            answer.raise_for_status()
            after = clip["place"]
    return read_labels(file)


def compared(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    games = ClipStore.open(options.store)
    count, good = options.videos, round(options.videos * options.good)
    write_videos(folder / "sample", windows(games, "train", count), good, 0)
    tests = windows(games, "val", count)
    write_videos(folder / "test", tests, round(len(tests) * options.good), 1)
    size = {"height": games.height, "width": games.width}
    # Stills stay: this is about the filter, and none of them is perfectly still.
    same = {**size, "fps": FPS, "max_static_fraction": 1.0, "progress": False}
    same |= {"scene_threshold": 1.0, "workers": 1}
    prepare(folder / "sample", folder / "sample-store", **same)
    prepare(folder / "test", folder / "test-store", **same)
    sample = ClipStore.open(folder / "sample-store")
    results: dict[str, Any] = {"frames": FRAMES, "fps": FPS, "videos": count, "filters": []}
    everything = kinds(ClipStore.open(folder / "test-store"))
    results["test"] = dict(everything)
    for labels in options.labels:
        told = labelled_on_the_page(sample, folder / f"labels-{labels}.json", labels)
        learned = learn_quality(sample, told, progress=False)
        save_quality(learned.model, folder / "quality.json")
        for share in options.keep_best:
            out = folder / f"kept-{labels}-{share}"
            chosen = {"quality": folder / "quality.json", "keep_best": share}
            prepare(folder / "test", out, **same, **chosen)
            found = judged(kinds(ClipStore.open(out)), everything)
            row = {"labels": len(told), "keep_best": share, "held_out_ranking": learned.ranking}
            results["filters"].append({**row, **found})
    return {**results, "duplicates": duplicates(folder, tests, options, same)}


def duplicates(
    folder: Path, tests: Sequence[Clip], options: argparse.Namespace, same: dict[str, Any]
) -> dict[str, int]:
    """How many copies are found, and how many good clips are taken for copies."""
    good = tests[: round(len(tests) * options.good)]
    write_videos(folder / "copies", good, len(good), 1)
    write_copies(folder / "copies", good)
    report = prepare(folder / "copies", folder / "unique", **same, drop_duplicates=True)
    kept = kinds(ClipStore.open(report.store))
    found = {"copies": len(good), "copies_dropped": len(good) - kept["z"]}
    return {**found, "originals": len(good), "originals_dropped": len(good) - kept["good"]}


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", help="clip store of recorded games, 64x64")
    parser.add_argument("--videos", type=int, default=300, help="in the sample, and in the test")
    parser.add_argument("--good", type=float, default=0.2, help="share of good ones")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--keep_best", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tell(compared(Path(folder), options), options.json)


if __name__ == "__main__":
    main()
