"""From a folder of videos to a clip store: decode in parallel, assemble in order, survive a kill.

`plan` says what is to be done. Worker processes turn each video into frames and a manifest
(`decode`). The main process appends them in the order of the sorted paths (`assemble`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genie.core.config import UserError, require
from genie.core.machine import available_cores
from genie.core.progress import Progress
from genie.core.renamed_keys import translated
from genie.data.assemble import ShardWriter, write_store
from genie.data.decode import DecoderPool, DecodeTask
from genie.data.plan import (
    WORK_FOLDER,
    PrepareConfig,
    PreparePlan,
    all_file_stats,
    inputs_digest,
    remove_unfinished,
    start_or_resume,
)
from genie.data.sources.base import Source
from genie.data.sources.find import find_left_out, find_videos, kinds
from genie.data.store import ClipStore
from genie.data.video import Fit


@dataclass(frozen=True)
class PrepareReport:
    """What became of the videos.

    Attributes:
        store: the folder.
        videos: number of videos found.
        episodes: number of clips stored.
        frames: stored frames by split.
        fps: frames per second of the store.
        skipped: path of each video of which nothing was stored, and of each folder of images that
            is no video, and why.
        notes: path of each video of which only a part was stored, and why.
        complete_before: the store was there already, nothing was done.
        kinds: number of videos of each kind.
    """

    store: Path
    videos: int
    episodes: int
    frames: dict[str, int]
    fps: float
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    complete_before: bool = False
    kinds: dict[str, int] = field(default_factory=dict)


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    height: int = 64,
    width: int = 64,
    fit: Fit = "crop",
    fps: float | None = None,
    min_frames: int = 16,
    static_threshold: float = 12.0,
    max_static_fraction: float = 0.95,
    scene_threshold: float = 0.25,
    val_fraction: float = 0.1,
    workers: int | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Turns a folder of videos into a clip store.

    Videos are files (mp4, mkv, webm, avi, mov, gif) or folders of numbered images, at any depth.
    Those in folders named `train`, `val` and `test` keep that split; the others are split by a hash
    of their path. Copies of the same pictures get the same split. Broken files are reported by
    name and the rest goes on. A killed run goes on where it stopped when the same command is given
    again. The videos are never changed.

    Args:
        source: folder of videos.
        out: folder to make.
        height: and the others down to `val_fraction`: see `PrepareConfig`.
        width: columns of the stored frames.
        fit: `crop`, `letterbox` or `resize`.
        fps: frames per second, None for the most common rate of the videos.
        min_frames: shorter clips are dropped.
        static_threshold: smallest change of a pixel that counts, 0..255.
        max_static_fraction: clips with a larger share of steps without change are dropped.
        scene_threshold: mean difference, 0..1, that counts as a cut.
        val_fraction: share of the videos to hold out.
        workers: processes that decode; None takes one per CPU core, 0 or 1 decodes in this process.
            A script that uses more needs the usual `if __name__ == "__main__":`.
        progress: show a progress bar.

    Raises:
        UserError: no folder, no usable video, another store is in the way, or the disk is full.
    """
    source, out = Path(source), Path(out)
    config = PrepareConfig(
        height,
        width,
        fit,
        float(fps) if fps is not None else None,
        min_frames,
        static_threshold,
        max_static_fraction,
        scene_threshold,
        val_fraction,
    )
    require(source.is_dir(), f"{source}: no such folder; give the folder that holds the videos")
    if (out / "store.json").exists():
        return _finished(out, source, config)
    videos = find_videos(source)
    left_out = find_left_out(source)
    require(len(videos) > 0, _no_videos(source, left_out))
    try:
        with _lock(out):
            plan = start_or_resume(out, config, videos)
            workers = available_cores() if workers is None else workers
            return _run(out, plan, videos, left_out, workers, progress)
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise UserError(
            f"{out}: the disk is full; free some space and run the same command again, "
            "it goes on where it stopped"
        ) from None


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Keeps a second prepare out of the same folder; the system lets go when the process ends."""
    require(not out.exists() or out.is_dir(), f"{out}: is a file; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{out}: another prepare is writing to it; wait for that one") from None
    finally:
        os.close(folder)


def _finished(out: Path, source: Path, config: PrepareConfig) -> PrepareReport:
    store = ClipStore.open(out)
    before = store.prepared
    settings = translated(PrepareConfig, before["settings"])
    if settings != asdict(config):
        changed = [name for name, value in asdict(config).items() if settings.get(name) != value]
        raise UserError(
            f"{out}: was prepared with other settings ({', '.join(changed)}); "
            "choose another --out, or remove the folder"
        )
    videos = find_videos(source)
    if before["inputs"] != inputs_digest(list(videos), all_file_stats(videos)):
        raise UserError(
            f"{out}: was prepared from other videos than {source} holds now; "
            "choose another --out, or remove the folder"
        )
    return _report(store, videos, complete_before=True)


def _run(
    out: Path,
    plan: PreparePlan,
    videos: Mapping[str, Source],
    left_out: Mapping[str, str],
    workers: int,
    progress: bool,
) -> PrepareReport:
    work = out / WORK_FOLDER
    tasks = [
        DecodeTask(videos[name], name, work / f"{number:07d}.raw", plan.config, plan.fps)
        for number, name in enumerate(plan.files)
    ]
    shards = ShardWriter(out, plan.config)
    shards.drop_unfinished(tasks)
    manifests: list[dict[str, Any]] = []
    bar = Progress("preparing", len(tasks), unit="videos", show=progress)
    with DecoderPool(tasks, workers) as decoders, bar:
        for number, task in enumerate(tasks):
            decoders.wait(number)
            manifests.append(json.loads(task.manifest.read_text()))
            shards.append(number, task, manifests[-1]["clips"])
            bar.update(number + 1, f"{shards.frames:,} frames")
    if not shards.clips:
        remove_unfinished(out)
        raise UserError(_nothing_usable(videos, manifests, left_out))
    shards.finish()
    write_store(out, plan, manifests, shards.clips, left_out)
    shutil.rmtree(work)
    return _report(ClipStore.open(out), videos)


def _no_videos(source: Path, left_out: Mapping[str, str]) -> str:
    known = ", or ".join(kind.about for kind in kinds())
    advice = ["give another folder", *(f"{name}: {why}" for name, why in left_out.items())]
    return f"{source}: holds no video ({known}); {_shortened(advice)}"


def _shortened(reasons: Sequence[str]) -> str:
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def _nothing_usable(
    videos: Mapping[str, Source],
    manifests: Sequence[dict[str, Any]],
    left_out: Mapping[str, str],
) -> str:
    root = next(iter(videos.values())).root
    reasons = [f"{name}: {m['skipped']}" for name, m in zip(videos, manifests, strict=True)]
    reasons += [f"{name}: {why}" for name, why in left_out.items()]
    return (
        f"{root}: none of its {len(videos)} videos is usable; {_shortened(reasons)}. "
        "Give other videos, or lower --min_frames or raise --max_static_fraction"
    )


def _report(
    store: ClipStore, videos: Mapping[str, Source], complete_before: bool = False
) -> PrepareReport:
    return PrepareReport(
        store=store.path,
        videos=store.prepared["videos"],
        episodes=len(store.episodes),
        frames={split: store.num_frames(split) for split in store.splits},
        fps=store.fps,
        skipped=store.prepared["skipped"],
        notes=store.prepared["notes"],
        complete_before=complete_before,
        kinds=dict(Counter(source.plural for source in videos.values())),
    )


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)
