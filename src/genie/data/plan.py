"""What a preparation is to do: its settings, the videos as they were found, the frame rate.

The plan lies in the store's folder until the store is whole: a killed run goes on where it stopped
only when the same is asked of the same videos.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from genie.core.config import UserError, from_record, require
from genie.core.io import replacing
from genie.data.folders import Folder
from genie.data.quality import QualityFilter
from genie.data.sources.base import Source
from genie.data.video import Fit

WORK_FOLDER = ".prepare"
_MOST_FPS = 1000
FETCHED_FOR_FPS = 16
"""Most videos at an address whose rate is read before all are prepared."""
# Of the unfinished work in a store's folder; an older one is not gone on with.
_WORK_VERSION = 3


@dataclass(frozen=True)
class PrepareConfig:
    """How videos become clips; two stores of equal settings hold equal frames.

    Attributes:
        height: rows of the stored frames.
        width: columns of the stored frames.
        fit: `crop` covers the size and cuts the overhang, `letterbox` pads with black, `resize`
            stretches.
        fps: frames per second to resample to; None keeps the most common rate of the videos.
        min_frames: shorter clips are dropped.
        static_threshold: a pixel has changed when a channel differs by more than this (0..255).
        max_static_fraction: drop clips of which more than this share of steps changes nothing.
        scene_threshold: cut where the mean difference to the frame before (0..1), and its jump,
            exceed this.
        val_fraction: share of the videos to hold out, chosen by a hash of their paths.
        camera: the one to take where a video has several.
        quality: judges clips; None keeps all.
        drop_duplicates: drop clips that look nearly like one before them.
    """

    height: int = 64
    width: int = 64
    fit: Fit = "crop"
    fps: float | None = None
    min_frames: int = 16
    static_threshold: float = 12.0
    max_static_fraction: float = 0.95
    scene_threshold: float = 0.25
    val_fraction: float = 0.1
    camera: str | None = None
    quality: QualityFilter | None = None
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        require(
            self.height > 0 and self.width > 0, f"height and width: got {self.height}, {self.width}"
        )
        require(self.fit in ("crop", "letterbox", "resize"), f"fit: no such way: {self.fit!r}")
        require(
            self.fps is None or 0 < self.fps <= _MOST_FPS,
            f"fps: must be above 0 and at most {_MOST_FPS}, got {self.fps}",
        )
        require(self.min_frames >= 2, f"min_frames: must be 2 or more, got {self.min_frames}")
        require(
            0 <= self.val_fraction < 1,
            f"val_fraction: must be within 0..1, got {self.val_fraction}",
        )
        require(
            self.scene_threshold > 0,
            f"scene_threshold: must be above 0, got {self.scene_threshold}",
        )
        require(
            0 <= self.max_static_fraction <= 1,
            f"max_static_fraction: must be within 0..1, got {self.max_static_fraction}",
        )


@dataclass(frozen=True)
class PreparePlan:
    """All that the bytes of a store depend on.

    Attributes:
        config: the settings.
        fps: frames per second to resample to.
        files: names of the videos, sorted.
        file_stats: (size in bytes, time of the last change in nanoseconds) of each video.
        shard: which share of the videos is prepared, as `parse_shard` reads it; None for all.
        groups: of each video; those of one group are in one shard. None where each has its own.
    """

    config: PrepareConfig
    fps: float
    files: list[str]
    file_stats: list[tuple[int, int]]
    shard: str | None = None
    groups: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, config: PrepareConfig, fps: float, videos: Mapping[str, Source], shard: str | None
    ) -> PreparePlan:
        """Returns the plan for videos as they are found now."""
        groups = [source.group(name) for name, source in videos.items()]
        grouped = groups if groups != list(videos) else []
        return cls(config, fps, list(videos), all_file_stats(videos), shard, grouped)

    @property
    def own_files(self) -> list[int]:
        """Numbers of the files that are prepared: every n-th group of them in a shard of n."""
        number, count = parse_shard(self.shard) if self.shard is not None else (1, 1)
        groups = self.groups or self.files
        places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        mine = (places[group] % count == number - 1 for group in groups)
        return [file for file, own in enumerate(mine) if own]


def parse_shard(text: str) -> tuple[int, int]:
    """Reads a share of the videos, such as "2/8": the second of eight.

    Raises:
        UserError: it is none.
    """
    number, _, count = text.partition("/")
    known = number.isascii() and number.isdigit() and count.isascii() and count.isdigit()
    require(
        known and 1 <= int(number) <= int(count),
        f"shard: expected a share such as 2/8, the second of eight; got {text!r}",
    )
    return int(number), int(count)


def start_or_resume(
    out: Path, config: PrepareConfig, videos: Mapping[str, Source], shard: str | None = None
) -> PreparePlan:
    """Returns the plan of an unfinished run that was asked for the same, else begins a new one.

    Raises:
        UserError: `out` holds files that no preparation made.
    """
    work = out / WORK_FOLDER
    begun, plan = _read_plan(work / "plan.json"), PreparePlan.of(config, 0.0, videos, shard)
    if begun is not None and begun == replace(plan, fps=begun.fps):
        return begun
    _clear(out)
    plan = replace(plan, fps=config.fps or _common_fps(videos))
    _write_plan(out, plan)
    return plan


def start_or_resume_plan(out: Path, plan: PreparePlan) -> None:
    """Makes a folder ready for a plan: goes on with what was begun for the same, else begins anew.

    Raises:
        UserError: `out` holds files that no preparation made.
    """
    if _read_plan(out / WORK_FOLDER / "plan.json") != plan:
        _clear(out)
        _write_plan(out, plan)


def _clear(out: Path) -> None:
    if not (out / WORK_FOLDER).is_dir():
        require(not any(out.iterdir()), f"{out}: holds other files; choose another --out")
    remove_unfinished(out)


def _write_plan(out: Path, plan: PreparePlan) -> None:
    with replacing(out / WORK_FOLDER / "plan.json") as path:
        path.write_text(json.dumps({"version": _WORK_VERSION, **asdict(plan)}))


def remove_unfinished(out: Path) -> None:
    """Removes what an unfinished run left."""
    for name in (WORK_FOLDER, "frames"):
        shutil.rmtree(out / name, ignore_errors=True)


def _read_plan(path: Path) -> PreparePlan | None:
    try:
        values = json.loads(path.read_text())
        return plan_from(values) if values["version"] == _WORK_VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def plan_from(values: Mapping[str, Any]) -> PreparePlan:
    """Returns the plan of what `asdict` made of it, as read from JSON."""
    config = from_record(PrepareConfig, values["config"])
    stats = [(int(size), int(time)) for size, time in values["file_stats"]]
    files = [str(name) for name in values["files"]]
    groups = [str(name) for name in values.get("groups", ())]
    return PreparePlan(config, float(values["fps"]), files, stats, values.get("shard"), groups)


def _common_fps(videos: Mapping[str, Source]) -> float:
    rates: Counter[float] = Counter()
    for name, source in _sampled(videos).items():
        try:
            rate = source.fps(name)
        except UserError:
            continue  # reported when its turn to be decoded comes
        if rate is not None:
            rates[max(1.0, round(rate, 2))] += 1
    if not rates:
        return 15.0
    return max(rates, key=lambda rate: (rates[rate], -rate))  # the lowest of equals


def _sampled(videos: Mapping[str, Source]) -> dict[str, Source]:
    """All videos, but where each has to be fetched only some of them, evenly over the names."""
    step = -(-len(videos) // FETCHED_FOR_FPS)
    return {
        name: source
        for number, (name, source) in enumerate(videos.items())
        if number % step == 0 or not source.costly
    }


def all_file_stats(videos: Mapping[str, Source]) -> list[tuple[int, int]]:
    """Returns size and time of the last change of each video, which tell when it was replaced."""
    files = {name: source.files(name) for name, source in videos.items()}
    by_folder: dict[Folder, list[str]] = {}
    for name, source in videos.items():
        by_folder.setdefault(source.folder, []).extend(files[name])
    known = {
        (folder, name): stat
        for folder, names in by_folder.items()
        for name, stat in zip(names, folder.stats(names), strict=True)
    }
    stats = [
        [known[source.folder, file] for file in files[name]] for name, source in videos.items()
    ]
    return [(sum(size for size, _ in each), max(time for _, time in each)) for each in stats]


def inputs_digest(files: Sequence[str], file_stats: Sequence[tuple[int, int]]) -> str:
    """Returns a hash of the paths and sizes of the videos."""
    # Sizes without times: a copied folder of videos is the same input.
    rows = [[name, size] for name, (size, _) in zip(files, file_stats, strict=True)]
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
