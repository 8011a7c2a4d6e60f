"""From a folder of videos to a clip store: decode in parallel, assemble in order, survive a kill.

`plan` says what is to be done. Worker processes turn each video into frames and a manifest
(`decode`). The main process appends them in the order of the sorted paths (`assemble`).
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genie.core.config import UserError, from_record, require
from genie.core.io import make_folder
from genie.core.machine import available_cores
from genie.core.progress import Progress
from genie.data import parts
from genie.data.assemble import RawFrames, ShardWriter, write_store
from genie.data.decode import DecoderPool, DecodeTask, Deduplicator, count_left_out
from genie.data.folders import Folder, folder_at
from genie.data.plan import (
    WORK_FOLDER,
    PrepareConfig,
    PreparePlan,
    all_file_stats,
    inputs_digest,
    parse_shard,
    remove_unfinished,
    start_or_resume,
)
from genie.data.quality import QualityModel, load_quality
from genie.data.sources.base import Source
from genie.data.sources.find import find_left_out, find_videos, kinds
from genie.data.store import ClipStore
from genie.data.video import Fit

_FETCHED = ".fetched"


@dataclass(frozen=True)
class PrepareReport:
    """What became of the videos.

    Attributes:
        store: the folder.
        videos: number of videos found.
        used: number of those of which something was stored.
        episodes: number of clips stored.
        frames: stored frames by split.
        fps: frames per second of the store.
        skipped: path of each video of which nothing was stored, and of each folder of images that
            is no video, and why.
        notes: path of each video of which only a part was stored, and why.
        complete_before: the store was there already, nothing was done.
        kinds: number of videos of each kind.
        left_out: number of clips that were not stored, by reason: "short", "static", "quality" and
            "duplicate".
    """

    store: Path
    videos: int
    used: int
    episodes: int
    frames: dict[str, int]
    fps: float
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    complete_before: bool = False
    kinds: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


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
    camera: str | None = None,
    quality: str | Path | None = None,
    keep_best: float | None = None,
    drop_duplicates: bool = False,
    shard: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Turns a folder of videos, or those at an address, into a clip store.

    Videos are files (mp4, mkv, webm, avi, mov, gif), folders of numbered images, videos in tar
    files (WebDataset), or episodes of LeRobot datasets (versions 2 and 3), at any depth.
    Those in folders named `train`, `val` and `test` keep that split; the others are split by a hash
    of their path. Copies of the same pictures get the same split. Broken files are reported by
    name and the rest goes on. A killed run goes on where it stopped when the same command is given
    again. The videos are never changed.

    At an address, each video is fetched when its turn comes and removed after it, so that the disk
    holds as many as there are workers. A request that fails is repeated three times. A video that
    cannot be fetched is reported like a broken one.

    Args:
        source: folder of videos, or an address that fsspec reads, such as `s3://bucket/videos`,
            `gs://` or `https://` (a page that lists files).
        out: folder to make.
        height: rows of the stored frames.
        width: columns of the stored frames.
        fit: what to do with other proportions. `crop` cuts the edges, `letterbox` adds black ones,
            `resize` stretches.
        fps: frames per second; the most common rate of the videos when left out, or that of
            `quality`.
        min_frames: shorter clips are dropped.
        static_threshold: smallest change of a pixel that counts, 0..255.
        max_static_fraction: clips with a larger share of steps without change are dropped.
        scene_threshold: mean difference, 0..1, that counts as a cut.
        val_fraction: share of the videos to hold out.
        camera: the camera of a LeRobot dataset with several, such as `top` for
            `observation.images.top`.
        quality: file of a quality filter that `genie label` learned; give `keep_best`, too.
        keep_best: share of clips to keep, such as 0.1 for the best tenth. It is measured on the
            store that was labelled, so that whether a clip is kept depends on no other clip.
        drop_duplicates: drop clips that look nearly like one before them, such as copies in another
            size or codec. With `shard` it is done when the parts are merged.
        shard: share of the videos to prepare, such as "2/8" for the second of eight. It makes a
            part of a store, and `genie.data.merge.merge` joins all parts. Any scheduler can run
            the shards, on as many machines. Give `fps` for many videos, or each shard first reads
            the rate of all of them (at an address, of 16).
        workers: processes that decode; one per CPU core when left out, and 0 or 1 decodes in this
            process. A script that uses more needs the usual `if __name__ == "__main__":`.
        progress: show a progress bar.

    Raises:
        UserError: no such folder, no usable video, another store is in the way, or the disk is
            full.
    """
    out = Path(out)
    model = _quality_model(quality, keep_best)
    if model is not None:
        model.require_like(height, width, fps)
        fps = model.fps
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
        camera,
        model.filter(keep_best) if model is not None and keep_best is not None else None,
        drop_duplicates,
    )
    if shard is not None:
        parse_shard(shard)
    workers = available_cores() if workers is None else workers
    with _folder_of(source, out) as folder:
        return _prepare(folder, out, config, shard, workers, progress)


def _quality_model(path: str | Path | None, keep_best: float | None) -> QualityModel | None:
    require(
        (path is None) == (keep_best is None),
        "quality and keep_best: give both, such as --quality quality.json --keep_best 0.1",
    )
    return load_quality(path) if path is not None else None


@contextmanager
def _folder_of(source: str | Path, out: Path) -> Iterator[Folder]:
    """Gives the folder of videos; what is fetched from it lies beside `out` for a while."""
    # Not inside: what `out` holds tells whether a preparation made it.
    work = out.with_name(f".{out.name}.{os.getpid()}{_FETCHED}")
    try:
        yield folder_at(source, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _prepare(
    folder: Folder,
    out: Path,
    config: PrepareConfig,
    shard: str | None,
    workers: int,
    progress: bool,
) -> PrepareReport:
    if (out / "store.json").exists():
        require(shard is None, f"{out}: holds a whole store; choose another --out for a shard")
        return _finished(out, folder, config)
    videos = find_videos(folder, config.camera)
    left_out = find_left_out(folder, config.camera)
    require(len(videos) > 0, _no_videos(folder, left_out))
    if (out / parts.FILE).exists():
        return _finished_part(out, config, videos, shard)
    with writing(out):
        _remove_fetched(out)
        plan = start_or_resume(out, config, videos, shard)
        return _run(out, plan, videos, left_out, workers, progress)


def _remove_fetched(out: Path) -> None:
    """Removes what killed runs fetched."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*{_FETCHED}"):
        if left.name != f".{out.name}.{os.getpid()}{_FETCHED}":
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Locks the folder of a store that is made; says so where the disk is full.

    Raises:
        UserError: another process writes to it, or the disk is full.
    """
    try:
        with _lock(out):
            yield
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
    make_folder(out)
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


def _finished(out: Path, source: Folder, config: PrepareConfig) -> PrepareReport:
    store = ClipStore.open(out)
    before = store.prepared
    # Settings that are newer than the store had the effect of their defaults.
    settings = from_record(PrepareConfig, before["settings"])
    if settings != config:
        changed = [
            name for name in asdict(config) if getattr(settings, name) != getattr(config, name)
        ]
        raise UserError(
            f"{out}: was prepared with other settings ({', '.join(changed)}); "
            "choose another --out, or remove the folder"
        )
    videos = find_videos(source, config.camera)
    if before["inputs"] != inputs_digest(list(videos), all_file_stats(videos)):
        raise UserError(
            f"{out}: was prepared from other videos than {source} holds now; "
            "choose another --out, or remove the folder"
        )
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # of a run that was killed at its end
    return report_of(store, _count_kinds(videos), complete_before=True)


def _finished_part(
    out: Path, config: PrepareConfig, videos: Mapping[str, Source], shard: str | None
) -> PrepareReport:
    part = parts.read_part(out)
    same = part.plan == PreparePlan.of(config, part.plan.fps, videos, shard)
    require(
        same,
        f"{out}: holds shard {part.plan.shard} that was prepared with other settings or from "
        "other videos; choose another --out, or remove the folder",
    )
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    return _report_of_part(out, part, complete_before=True)


def _report_of_part(
    out: Path, part: parts.StorePart, complete_before: bool = False
) -> PrepareReport:
    named = {part.plan.files[number]: each for number, each in part.manifests.items()}
    return PrepareReport(
        store=out,
        videos=len(part.manifests),
        used=sum(1 for each in part.manifests.values() if each["clips"]),
        episodes=part.clips,
        frames={f"shard {part.plan.shard}": part.frames},
        fps=part.plan.fps,
        skipped={name: each["skipped"] for name, each in named.items() if each["skipped"]},
        notes={
            name: each["note"]
            for name, each in named.items()
            if each["note"] and not each["skipped"]
        },
        complete_before=complete_before,
        kinds=dict(part.kinds),
        left_out=count_left_out(part.manifests.values()),
    )


def _run(
    out: Path,
    plan: PreparePlan,
    videos: Mapping[str, Source],
    left_out: Mapping[str, str],
    workers: int,
    progress: bool,
) -> PrepareReport:
    work = out / WORK_FOLDER
    files = [(number, plan.files[number]) for number in plan.own_files]
    tasks = [
        DecodeTask(videos[name], name, work / f"{number:07d}.raw", plan.config, plan.fps)
        for number, name in files
    ]
    shards = ShardWriter(out, plan.config)
    shards.drop_unfinished(tasks)
    manifests: dict[int, dict[str, Any]] = {}
    new = Deduplicator(plan.config) if plan.shard is None else None
    bar = Progress("preparing", len(tasks), unit="videos", show=progress)
    with DecoderPool(tasks, workers) as decoders, bar:
        for done, ((number, _), task) in enumerate(zip(files, tasks, strict=True)):
            decoders.wait(done)
            manifest = json.loads(task.manifest.read_text())
            # Of shards, merge drops duplicates: it sees all videos in their order.
            manifests[number] = new.without_duplicates(manifest) if new else manifest
            video = RawFrames(task.part, plan.config)
            shards.append(number, video, manifests[number]["clips"])
            bar.update(done + 1, f"{shards.frames:,} frames")
    kinds = _count_kinds(videos)
    if plan.shard is not None:
        shards.finish()
        part = parts.StorePart(plan, manifests, left_out, kinds)
        parts.write_part(out, part)
        shutil.rmtree(work)
        return _report_of_part(out, part)
    if not shards.clips:
        remove_unfinished(out)
        where = next(iter(videos.values())).folder
        raise UserError(nothing_usable(where, plan.files, list(manifests.values()), left_out))
    shards.finish()
    write_store(out, plan, list(manifests.values()), shards.clips, left_out)
    shutil.rmtree(work)
    return report_of(ClipStore.open(out), kinds)


def _no_videos(source: Folder, left_out: Mapping[str, str]) -> str:
    known = ", or ".join(kind.about for kind in kinds())
    advice = ["give another folder", *(f"{name}: {why}" for name, why in left_out.items())]
    return f"{source}: holds no video ({known}); {_shortened(advice)}"


def _shortened(reasons: Sequence[str]) -> str:
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def nothing_usable(
    where: Path | Folder,
    files: Sequence[str],
    manifests: Sequence[dict[str, Any]],
    left_out: Mapping[str, str],
) -> str:
    """Says that no video could be used, with the first reasons and what to do."""
    reasons = [f"{name}: {m['skipped']}" for name, m in zip(files, manifests, strict=True)]
    reasons += [f"{name}: {why}" for name, why in left_out.items()]
    return (
        f"{where}: none of its {len(files)} videos is usable; {_shortened(reasons)}. "
        "Give other videos, or lower --min_frames or raise --max_static_fraction or --keep_best"
    )


def report_of(
    store: ClipStore, kinds: Mapping[str, int], complete_before: bool = False
) -> PrepareReport:
    """Returns what became of the videos of a whole store."""
    return PrepareReport(
        store=store.path,
        videos=store.prepared["videos"],
        used=len({episode.source for episode in store.episodes}),
        episodes=len(store.episodes),
        frames={split: store.num_frames(split) for split in store.splits},
        fps=store.fps,
        skipped=store.prepared["skipped"],
        notes=store.prepared["notes"],
        complete_before=complete_before,
        kinds=dict(kinds),
        left_out=store.prepared.get("left_out", {}),
    )


def _count_kinds(videos: Mapping[str, Source]) -> dict[str, int]:
    return dict(Counter(source.plural for source in videos.values()))


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)
