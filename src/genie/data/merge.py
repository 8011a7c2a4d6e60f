"""Parts of a store, each of one share of the videos, to the store that one process would make."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError, require
from genie.core.progress import Progress
from genie.data.assemble import FramesOfVideo, ShardWriter, open_array, write_store
from genie.data.decode import Deduplicator
from genie.data.parts import StorePart, read_part
from genie.data.plan import WORK_FOLDER, PrepareConfig, parse_shard, start_or_resume_plan
from genie.data.prepare import PrepareReport, nothing_usable, report_of, writing
from genie.data.store import ClipStore


def merge(out: str | Path, parts: Sequence[str | Path], *, progress: bool = True) -> PrepareReport:
    """Joins all parts of a store that `prepare` made with `shard`.

    The store is that of one process without shards, byte for byte. A killed run goes on when the
    same command is given again. The parts stay as they are.

    Args:
        out: folder to make.
        parts: folders of all parts, in any order.
        progress: show a progress bar.

    Raises:
        UserError: a part is missing, given twice or not finished, the parts are of other settings
            or videos, no clip was found, or the disk is full.
    """
    out, folders = Path(out), [Path(part) for part in parts]
    require(not (out / "store.json").exists(), f"{out}: holds a store already; choose another")
    found = {folder: read_part(folder) for folder in folders}
    _check(found)
    first = found[folders[0]]
    by_number = {
        number: (folder, manifest)
        for folder, part in found.items()
        for number, manifest in part.manifests.items()
    }
    files, manifests = first.plan.files, [by_number[n][1] for n in range(len(by_number))]
    clips = sum(part.clips for part in found.values())
    require(clips > 0, nothing_usable(out, files, manifests, first.left_out))
    with writing(out):
        plan = replace(first.plan, shard=None)
        start_or_resume_plan(out, plan)
        videos = {folder: _PartFrames(folder, first.plan.config) for folder in folders}
        shards, new = ShardWriter(out, first.plan.config), Deduplicator(plan.config)
        with Progress("merging", len(files), unit="videos", show=progress) as bar:
            for number in range(len(files)):
                video = videos[by_number[number][0]]
                placed = {**manifests[number], "clips": video.placed(manifests[number]["clips"])}
                manifests[number] = new.without_duplicates(placed)
                shards.append(number, video, manifests[number]["clips"])
                bar.update(number + 1, f"{shards.frames:,} frames")
        shards.finish()
        write_store(out, plan, manifests, shards.clips, first.left_out)
        shutil.rmtree(out / WORK_FOLDER)
    return report_of(ClipStore.open(out), first.kinds)


def _check(found: dict[Path, StorePart]) -> None:
    plans = {folder: part.plan for folder, part in found.items()}
    require(len(plans) > 0, "parts: give the folders of all parts")
    first = next(iter(plans))
    for folder, plan in plans.items():
        if replace(plan, shard=None) != replace(plans[first], shard=None):
            raise UserError(
                f"{folder}: was prepared with other settings or from other videos than {first}; "
                "prepare all shards by one command"
            )
    shards = [parse_shard(plan.shard or "1/1") for plan in plans.values()]
    counts = {count for _, count in shards}
    require(len(counts) == 1, f"parts: are of {_listed(counts)} shards; take those of one number")
    (count,) = counts
    given = Counter(number for number, _ in shards)
    twice = [number for number, times in given.items() if times > 1]
    require(not twice, f"parts: shard {_listed(twice)} of {count} was given twice")
    missing = set(range(1, count + 1)) - set(given)
    require(not missing, f"parts: shard {_listed(missing)} of {count} is missing")


def _listed(numbers: Sequence[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


class _PartFrames(FramesOfVideo):
    """The frames of a part. Its videos are asked for in their order."""

    def __init__(self, folder: Path, config: PrepareConfig) -> None:
        self._array = open_array(folder / "frames", config)
        self._next = 0

    def placed(self, clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the clips of the next video with their places in this part as offsets."""
        placed = []
        for clip in clips:
            placed.append({**clip, "offset": self._next})
            self._next += clip["length"]
        return placed

    def read(self, first: int, count: int) -> np.ndarray:
        """Returns frames u8 (count,H,W,3)."""
        return self._array[first : first + count].read().result()

    def drop(self) -> None:
        """Keeps them: parts stay as they are."""
