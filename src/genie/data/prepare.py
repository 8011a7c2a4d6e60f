"""From a folder of videos to a clip store: decode in parallel, assemble in order, survive a kill.

Worker processes turn each video into frames and a manifest (what was kept, and why the rest was
not). The main process appends them in the order of the sorted paths, one whole file of the array
at a time. What is in whole files is done for good; after a kill the rest is decoded again, so an
interrupted run ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from genie.config import UserError, from_dict, require
from genie.data.store import ClipStore, Episode, shard_frames, write_table, zarr_spec
from genie.data.video import EXTENSIONS, Fit, probe, read_video
from genie.files import replacing

WORK = ".prepare"
SIDECAR = ".actions.json"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_AHEAD = 4
_STILL_PIXELS = 0.0002
_MAX_GAP = 2.0


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
        max_static_share: drop clips of which more than this share of steps changes nothing.
        scene_threshold: cut where the mean difference to the frame before (0..1), and its jump,
            exceed this.
        val_share: share of the videos to hold out, chosen by a hash of their paths.
    """

    height: int = 64
    width: int = 64
    fit: Fit = "crop"
    fps: float | None = None
    min_frames: int = 16
    static_threshold: float = 12.0
    max_static_share: float = 0.95
    scene_threshold: float = 0.25
    val_share: float = 0.1

    def __post_init__(self) -> None:
        require(
            self.height > 0 and self.width > 0, f"height and width: got {self.height}, {self.width}"
        )
        require(self.fit in ("crop", "letterbox", "resize"), f"fit: no such way: {self.fit!r}")
        require(self.fps is None or self.fps > 0, f"fps: must be above 0, got {self.fps}")
        require(self.min_frames >= 2, f"min_frames: must be 2 or more, got {self.min_frames}")
        require(0 <= self.val_share < 1, f"val_share: must be within 0..1, got {self.val_share}")
        require(
            self.scene_threshold > 0,
            f"scene_threshold: must be above 0, got {self.scene_threshold}",
        )
        require(
            0 <= self.max_static_share <= 1,
            f"max_static_share: must be within 0..1, got {self.max_static_share}",
        )


@dataclass(frozen=True)
class PrepareReport:
    """What became of the videos.

    Attributes:
        store: the folder.
        videos: number of video files found.
        episodes: number of clips stored.
        frames: stored frames by split.
        fps: frames per second of the store.
        skipped: path of each video of which nothing was stored, and why.
        notes: path of each video of which only a part was stored, and why.
        complete_before: the store was there already, nothing was done.
    """

    store: Path
    videos: int
    episodes: int
    frames: dict[str, int]
    fps: float
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    complete_before: bool = False


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
    max_static_share: float = 0.95,
    scene_threshold: float = 0.25,
    val_share: float = 0.1,
    workers: int | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Turns a folder of videos (mp4, mkv, webm, avi, mov, gif, at any depth) into a clip store.

    Videos in folders named `train`, `val` and `test` keep that split; the others are split by a
    hash of their path. Copies of the same pictures get the same split. Broken files are reported by
    name and the rest goes on. A killed run goes on where it stopped when the same command is given
    again. The videos are never changed.

    Args:
        source: folder of videos.
        out: folder to make.
        height: and the others down to `val_share`: see `PrepareConfig`.
        width: columns of the stored frames.
        fit: `crop`, `letterbox` or `resize`.
        fps: frames per second, None for the most common rate of the videos.
        min_frames: shorter clips are dropped.
        static_threshold: smallest change of a pixel that counts, 0..255.
        max_static_share: clips with a larger share of steps without change are dropped.
        scene_threshold: mean difference, 0..1, that counts as a cut.
        val_share: share of the videos to hold out.
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
        max_static_share,
        scene_threshold,
        val_share,
    )
    require(source.is_dir(), f"{source}: no such folder; give the folder that holds the videos")
    if (out / "store.json").exists():
        return _finished(out, source, config)
    files = find_videos(source)
    require(
        len(files) > 0, f"{source}: holds no video ({', '.join(EXTENSIONS)}); give another folder"
    )
    try:
        with _alone(out):
            plan = _start(source, out, config, files)
            return _run(source, out, plan, _cores() if workers is None else workers, progress)
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise UserError(
            f"{out}: the disk is full; free some space and run the same command again, "
            "it goes on where it stopped"
        ) from None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
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


def find_videos(source: Path) -> list[str]:
    """Returns the paths, relative and sorted, of all videos below a folder that are not hidden."""
    found = []
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                found.append((Path(folder) / name).relative_to(source).as_posix())
    return sorted(found)


# --- plan, and where an earlier run stopped -------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    config: PrepareConfig
    fps: float
    files: list[str]
    stamps: list[tuple[int, int]]


def _start(source: Path, out: Path, config: PrepareConfig, files: list[str]) -> _Plan:
    work = out / WORK
    stamps = [_stamp(source / name) for name in files]
    plan = _read_plan(work / "plan.json")
    if plan and (plan.config, plan.files, plan.stamps) == (config, files, stamps):
        return plan
    if not work.is_dir():
        require(not any(out.iterdir()), f"{out}: holds other files; choose another --out")
    _clear(out)
    fps = config.fps or _common_fps(source, files)
    plan = _Plan(config, fps, files, stamps)
    work.mkdir(parents=True, exist_ok=True)
    with replacing(work / "plan.json") as path:
        path.write_text(json.dumps(asdict(plan)))
    return plan


def _clear(out: Path) -> None:
    for name in (WORK, "frames"):
        shutil.rmtree(out / name, ignore_errors=True)


def _read_plan(path: Path) -> _Plan | None:
    try:
        plan = json.loads(path.read_text())
        config = from_dict(PrepareConfig, plan["config"])
        return _Plan(config, plan["fps"], plan["files"], [tuple(stamp) for stamp in plan["stamps"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _common_fps(source: Path, files: Sequence[str]) -> float:
    rates: Counter[float] = Counter()
    for name in files:
        try:
            rates[max(1.0, round(probe(source / name).fps, 2))] += 1
        except UserError:
            continue  # reported when its turn to be decoded comes
    if not rates:
        return 15.0
    return max(rates, key=lambda rate: (rates[rate], -rate))  # the lowest of equals


def _finished(out: Path, source: Path, config: PrepareConfig) -> PrepareReport:
    store = ClipStore.open(out)
    before = store.prepared
    if before["settings"] != asdict(config):
        changed = [
            name for name, value in asdict(config).items() if before["settings"].get(name) != value
        ]
        raise UserError(
            f"{out}: was prepared with other settings ({', '.join(changed)}); "
            "choose another --out, or remove the folder"
        )
    files = find_videos(source)
    stamps = [_stamp(source / name) for name in files]
    if before["inputs"] != _digest(files, stamps):
        raise UserError(
            f"{out}: was prepared from other videos than {source} holds now; "
            "choose another --out, or remove the folder"
        )
    return _report(store, complete_before=True)


def _digest(files: Sequence[str], stamps: Sequence[tuple[int, int]]) -> str:
    # Sizes without times: a copied folder of videos is the same input.
    rows = [[name, size] for name, (size, _) in zip(files, stamps, strict=True)]
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def _report(store: ClipStore, complete_before: bool = False) -> PrepareReport:
    return PrepareReport(
        store=store.path,
        videos=store.prepared["videos"],
        episodes=len(store.episodes),
        frames={split: store.num_frames(split) for split in store.splits},
        fps=store.fps,
        skipped=store.prepared["skipped"],
        notes=store.prepared["notes"],
        complete_before=complete_before,
    )


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- decoding, in worker processes ----------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    video: Path
    name: str
    part: Path
    config: PrepareConfig
    fps: float

    @property
    def manifest(self) -> Path:
        return self.part.with_suffix(".json")


def _decode(task: _Task) -> None:
    """Writes all frames of a video to `task.part`, and then the manifest of those to keep."""
    cutter = _Cutter(task.config)
    digests, positions = _Digests(), []
    problem = None
    with replacing(task.part) as path, path.open("wb") as file:
        try:
            for position, cut, frame in _resampled(task):
                if cutter.add(frame, cut):
                    digests.next()
                digests.add(frame)
                positions.append(position)
                file.write(frame.data)
        except UserError as error:
            problem = str(error).removeprefix(f"{task.video}: ")
    clips, dropped = cutter.kept()
    manifest = {
        "clips": [
            {
                "offset": first,
                "length": length,
                "hash": digests[number],
                "source_frames": positions[first : first + length],
            }
            for number, first, length in clips
        ],
        "skipped": None if clips else problem or dropped or "holds no frames",
        "note": "; ".join(filter(None, (problem, dropped))) or None,
        **_true_actions(task.video),
    }
    _write_manifest(task, manifest)


def _write_manifest(task: _Task, manifest: dict[str, Any]) -> None:
    with replacing(task.manifest) as path:
        path.write_text(json.dumps(manifest))


def _resampled(task: _Task) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Yields (frame number in the video, whether time jumped, frame) at a steady rate.

    At each tick the newest frame whose time has come is shown; frames may come a little late, so
    that a video of the same rate is taken frame by frame although its times are rounded.
    """
    config, period = task.config, 1 / task.fps
    shown, tick, start, jumped = None, 0, 0.0, False
    frames = read_video(task.video, height=config.height, width=config.width, fit=config.fit)
    for number, (time, frame) in enumerate(frames):
        if shown is not None and time - shown[0] > max(_MAX_GAP, 1.5 * period):
            yield shown[1], jumped, shown[2]
            start, tick, jumped, shown = time, 0, True, None
        late = 0.3 * min(period, time - shown[0]) if shown else 0.0
        while shown is not None and start + tick * period + late < time:
            yield shown[1], jumped, shown[2]
            tick, jumped = tick + 1, False
        shown = (time, number, frame)
    if shown is not None and start + (tick - 0.3) * period <= shown[0]:
        yield shown[1], jumped, shown[2]


class _Cutter:
    """Finds scene changes and stillness, frame by frame."""

    def __init__(self, config: PrepareConfig) -> None:
        self._config = config
        self._before: np.ndarray | None = None
        self._change: float | None = None
        self._starts = [0]
        self._still = [0]
        self._length = 0

    def add(self, frame: np.ndarray, cut: bool) -> bool:
        """Takes the next frame; returns whether a new clip begins with it."""
        begins = self._before is not None and self._compare(self._before, frame, cut)
        self._before = frame
        if begins:
            self._starts.append(self._length)
            self._still.append(0)
            self._change = None
        self._length += 1
        return begins

    def _compare(self, before: np.ndarray, frame: np.ndarray, cut: bool) -> bool:
        difference = np.maximum(frame, before) - np.minimum(frame, before)
        change = float(difference.mean()) / 255
        # As FFmpeg's scene detector: fast motion goes on, a cut is large against the frame before.
        jump = abs(change - self._change) if self._change is not None else 0.0
        self._change = change
        if cut or min(change, jump) > self._config.scene_threshold:
            return True
        changed = (difference.max(axis=2) > self._config.static_threshold).mean()
        self._still[-1] += bool(changed <= _STILL_PIXELS)
        return False

    def kept(self) -> tuple[list[tuple[int, int, int]], str | None]:
        """Returns (number, first frame, length) of the clips to keep, and why others are not."""
        ends = [*self._starts[1:], self._length]
        kept, short, static = [], 0, 0
        for number, (first, end, still) in enumerate(
            zip(self._starts, ends, self._still, strict=True)
        ):
            length = end - first
            if length < self._config.min_frames:
                short += length
            elif still > self._config.max_static_share * (length - 1):
                static += length
            else:
                kept.append((number, first, length))
        return kept, _dropped(short, static, self._config.min_frames)


def _dropped(short: int, static: int, min_frames: int) -> str | None:
    reasons = []
    if short:
        reasons.append(f"{short} frames in clips shorter than {min_frames} frames")
    if static:
        reasons.append(f"{static} frames in clips that stand still")
    return "dropped " + " and ".join(reasons) if reasons else None


class _Digests:
    """One hash of pixels per clip."""

    def __init__(self) -> None:
        self._hashes = [hashlib.blake2b(digest_size=16)]

    def next(self) -> None:
        self._hashes.append(hashlib.blake2b(digest_size=16))

    def add(self, frame: np.ndarray) -> None:
        self._hashes[-1].update(frame.data)

    def __getitem__(self, number: int) -> str:
        return self._hashes[number].hexdigest()


def _true_actions(video: Path) -> dict[str, Any]:
    path = video.with_suffix(SIDECAR)
    if not path.is_file():
        return {"sidecar": None, "actions": None, "action_names": None}
    try:
        sidecar = json.loads(path.read_text())
        names = [str(name) for name in sidecar["action_names"]]
        actions = [int(action) for action in sidecar["actions"]]
    except (OSError, ValueError, KeyError, TypeError):
        # Damaged, or actions that are not numbers of buttons: the video is as good without.
        names, actions = None, None
    return {"sidecar": path.name, "actions": actions, "action_names": names}


def _be_a_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Decoders:
    """Runs tasks a few ahead of the one that is waited for, so that parts stay few on the disk."""

    def __init__(self, tasks: Sequence[_Task], workers: int) -> None:
        self._tasks, self._workers = tasks, min(workers, len(tasks))
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[int, Future[None]] = {}

    def __enter__(self) -> _Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def wait(self, number: int) -> None:
        """Returns when the manifest of a task is there."""
        task = self._tasks[number]
        if task.manifest.exists() and number not in self._running:
            return
        if self._workers <= 1:
            _decode(task)
            return
        try:
            self._run_ahead(number)
            self._running.pop(number).result()
        except BrokenProcessPool:
            self._stop()
            self._decode_alone(task)

    def _run_ahead(self, number: int) -> None:
        if self._pool is None:
            self._pool = _new_pool(self._workers)
        for n in range(number, min(len(self._tasks), number + self._workers * _AHEAD)):
            if n not in self._running and not self._tasks[n].manifest.exists():
                self._running[n] = self._pool.submit(_decode, self._tasks[n])

    def _decode_alone(self, task: _Task) -> None:
        # A process died, by this video or by another one that ran beside it: alone, we know.
        if task.manifest.exists():
            return
        with _new_pool(1) as pool:
            try:
                pool.submit(_decode, task).result()
            except BrokenProcessPool:
                reason = "the decoder crashed on it, or ran out of memory; re-encode the file"
                nothing = {"clips": [], "skipped": reason, "note": None}
                task.part.unlink(missing_ok=True)
                _write_manifest(task, {**nothing, **_true_actions(task.video)})

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._running = None, {}


def _new_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_be_a_worker)


# --- assembling, in the main process --------------------------------------------------------


@dataclass(frozen=True)
class _Clip:
    task: int
    offset: int
    start: int
    length: int
    hash: str
    source_frames: np.ndarray

    @property
    def end(self) -> int:
        return self.start + self.length


def _run(source: Path, out: Path, plan: _Plan, workers: int, progress: bool) -> PrepareReport:
    work = out / WORK
    tasks = [
        _Task(source / name, name, work / f"{number:07d}.raw", plan.config, plan.fps)
        for number, name in enumerate(plan.files)
    ]
    shards = _Shards(out, plan.config)
    shards.forget_unfinished(tasks)
    manifests: list[dict[str, Any]] = []
    with _Decoders(tasks, workers) as decoders, _bar(progress) as bar:
        work_left = bar.add_task("preparing", total=len(tasks), frames=0)
        for number, task in enumerate(tasks):
            decoders.wait(number)
            manifests.append(json.loads(task.manifest.read_text()))
            shards.append(number, task, manifests[-1]["clips"])
            bar.update(work_left, advance=1, frames=shards.frames)
    if not shards.clips:
        _clear(out)
        raise UserError(_nothing_usable(source, plan.files, manifests))
    shards.finish()
    _write_store(out, plan, manifests, shards.clips)
    shutil.rmtree(work)
    return _report(ClipStore.open(out))


def _nothing_usable(source: Path, files: Sequence[str], manifests: Sequence[dict[str, Any]]) -> str:
    reasons = [f"{name}: {m['skipped']}" for name, m in zip(files, manifests, strict=True)]
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return (
        f"{source}: none of its {len(files)} videos is usable; {'; '.join(reasons[:3])}{more}. "
        "Give other videos, or lower --min_frames or raise --max_static_share"
    )


def _bar(progress: bool) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos, {task.fields[frames]:,} frames"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )


class _Shards:
    """Appends clips to the array, one whole file at a time, and remembers how many are done."""

    def __init__(self, out: Path, config: PrepareConfig) -> None:
        self._out, self._config = out, config
        self._size = shard_frames(config.height, config.width)
        self._progress = out / WORK / "progress.json"
        self._done = json.loads(self._progress.read_text()) if self._progress.exists() else 0
        self._buffer = np.empty((self._size, config.height, config.width, 3), np.uint8)
        self._array = _open_array(out / "frames", config)
        self._parts: list[tuple[int, Path]] = []
        self.frames = 0
        self.clips: list[_Clip] = []

    def forget_unfinished(self, tasks: Sequence[_Task]) -> None:
        """Drops what an earlier run decoded but did not get into whole files."""
        end = 0
        for task in tasks:
            if task.manifest.exists():
                manifest = json.loads(task.manifest.read_text())
                end += sum(clip["length"] for clip in manifest["clips"])
            if end > self._done * self._size or not task.manifest.exists():
                end = self._done * self._size + 1
                task.manifest.unlink(missing_ok=True)
                task.part.unlink(missing_ok=True)
        for pattern in (f"{WORK}/.*", "frames/**/*.__lock"):
            for left in self._out.glob(pattern):
                left.unlink(missing_ok=True)

    def append(self, number: int, task: _Task, clips: Sequence[dict[str, Any]]) -> None:
        """Adds the clips of a video, unless they are in the array already."""
        for row in clips:
            positions = np.array(row["source_frames"], np.int32)
            clip = _Clip(number, row["offset"], self.frames, row["length"], row["hash"], positions)
            self.clips.append(clip)
            if clip.end > self._done * self._size:
                self._copy(task, clip)
            self.frames = clip.end
        self._parts.append((self.frames, task.part))
        self._drop_parts()

    def _copy(self, task: _Task, clip: _Clip) -> None:
        shape = (self._config.height, self._config.width, 3)
        offset = clip.offset * int(np.prod(shape))
        part = np.memmap(task.part, np.uint8, "r", offset=offset, shape=(clip.length, *shape))
        at = max(clip.start, self._done * self._size)
        while at < clip.end:
            shard, place = divmod(at, self._size)
            count = min(clip.end - at, self._size - place)
            self._buffer[place : place + count] = part[at - clip.start : at - clip.start + count]
            at += count
            if place + count == self._size:
                self._write(shard, self._size)

    def _write(self, shard: int, count: int) -> None:
        first = shard * self._size
        self._array[first : first + count].write(self._buffer[:count]).result()
        self._done = shard + 1
        with replacing(self._progress) as path:
            path.write_text(json.dumps(self._done))

    def _drop_parts(self) -> None:
        while self._parts and self._parts[0][0] <= self._done * self._size:
            self._parts.pop(0)[1].unlink(missing_ok=True)

    def finish(self) -> None:
        """Writes the last file and gives the array its final length."""
        self._array = self._array.resize(
            exclusive_max=[self.frames, None, None, None], resize_metadata_only=True
        ).result()
        shard, count = divmod(self.frames, self._size)
        if count and shard >= self._done:
            self._write(shard, count)


def _open_array(folder: Path, config: PrepareConfig) -> Any:
    import tensorstore

    spec = zarr_spec(folder, config.height, config.width)
    if (folder / "zarr.json").exists():
        return tensorstore.open({k: spec[k] for k in ("driver", "kvstore")}).result()
    # The number of frames is known at the end; until then the array is as long as one may get.
    shape = [2**40, config.height, config.width, 3]
    return tensorstore.open(spec, create=True, dtype=tensorstore.uint8, shape=shape).result()


def _write_store(
    out: Path, plan: _Plan, manifests: Sequence[dict[str, Any]], clips: Sequence[_Clip]
) -> None:
    _save(out / "source_frames.npy", np.concatenate([clip.source_frames for clip in clips]))
    names = _all_action_names(manifests)
    if names is not None:
        rows = [_labels(clip, manifests[clip.task], names) for clip in clips]
        _save(out / "labels.npy", np.concatenate(rows))
    problems = list(zip(plan.files, manifests, strict=True))
    episodes, moved = unite_copies(_episodes(plan, manifests, clips))
    notes = {name: m["note"] for name, m in problems if m["note"] and not m["skipped"]}
    write_table(
        out,
        height=plan.config.height,
        width=plan.config.width,
        fps=plan.fps,
        episodes=episodes,
        action_names=names,
        prepared={
            "settings": asdict(plan.config),
            "inputs": _digest(plan.files, plan.stamps),
            "videos": len(plan.files),
            "skipped": {name: m["skipped"] for name, m in problems if m["skipped"]},
            "notes": notes
            | {
                name: "; ".join(filter(None, (notes.get(name), why))) for name, why in moved.items()
            },
        },
    )


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, array)


def _all_action_names(manifests: Sequence[dict[str, Any]]) -> list[str] | None:
    known = [m["action_names"] for m in manifests if m["clips"] and m["action_names"] is not None]
    if not known:
        return None
    return list(dict.fromkeys(name for names in known for name in names))


def _labels(clip: _Clip, manifest: dict[str, Any], names: Sequence[str]) -> np.ndarray:
    labels = np.full(clip.length, -1, np.int64)
    if manifest["actions"] is None:
        return labels
    actions = np.array(manifest["actions"], np.int64)
    place = np.array([names.index(name) for name in manifest["action_names"]], np.int64)
    for t, (now, then) in enumerate(zip(clip.source_frames, clip.source_frames[1:], strict=False)):
        between = actions[now:then]
        between = between[(between >= 0) & (between < len(place))]
        if len(between):
            labels[t] = place[np.bincount(between).argmax()]
    return labels


def _episodes(
    plan: _Plan, manifests: Sequence[dict[str, Any]], clips: Sequence[_Clip]
) -> list[Episode]:
    used = sorted({clip.task for clip in clips})
    splits = dict(
        zip(used, split_sources([plan.files[n] for n in used], plan.config.val_share), strict=True)
    )
    episodes = []
    for clip in clips:
        name, sidecar = plan.files[clip.task], manifests[clip.task]["sidecar"]
        if sidecar is not None:
            sidecar = (Path(name).parent / sidecar).as_posix()
        row = Episode(
            len(episodes), name, splits[clip.task], clip.start, clip.length, clip.hash, sidecar
        )
        episodes.append(row)
    if (
        len(used) == 1
        and {row.split for row in episodes} == {"train"}
        and plan.config.val_share > 0
    ):
        return _hold_out_tail(episodes, plan.config)
    return episodes


def unite_copies(episodes: Sequence[Episode]) -> tuple[list[Episode], dict[str, str]]:
    """Puts episodes of equal pixels into one split, so that nothing held out is trained on.

    Where folders name the split of a copy, that decides, `train` before `val` before `test`; else
    copies are trained on, unless nothing would be left to hold out.

    Returns:
        The episodes, and for each video whose folder could not be honoured, why.
    """
    alike: dict[str, list[Episode]] = {}
    for row in episodes:
        alike.setdefault(row.hash, []).append(row)
    named = _named_splits({row.source for row in episodes})
    splits = {digest: _common_split(rows, named) for digest, rows in alike.items()}
    if "val" not in splits.values() and list(splits.values()).count("train") > 1:
        free = (d for d, rows in alike.items() if not any(row.source in named for row in rows))
        held = [d for d in free if "val" in {row.split for row in alike[d]}]
        splits |= dict.fromkeys(held[:1], "val")
    lost: Counter[str] = Counter()
    for row in episodes:
        if named.get(row.source, splits[row.hash]) != splits[row.hash]:
            lost[row.source] += row.length
    notes = {
        name: f"{frames} frames left out of {named[name]}: the same pictures are in another split"
        for name, frames in lost.items()
    }
    return [replace(row, split=splits[row.hash]) for row in episodes], notes


def _named_splits(sources: Iterable[str]) -> dict[str, str]:
    """The splits of the videos whose folders decide, as in `split_sources`."""
    folders = {name: _split_folder(name) for name in sources}
    deciding = _SPLITS.values() if "val" in folders.values() else ("test",)
    return {name: folder for name, folder in folders.items() if folder and folder in deciding}


def _common_split(rows: Sequence[Episode], named: dict[str, str]) -> str:
    wanted = {named[row.source] for row in rows if row.source in named}
    wanted = wanted or {row.split for row in rows}
    return next(split for split in ("train", "val", "test") if split in wanted)


def split_sources(names: Sequence[str], val_share: float) -> list[str]:
    """Returns `train`, `val` or `test` for each video.

    Folders of these names decide where some hold out videos; else a hash of the path does. With two
    or more videos at least one is held out (unless `val_share` is 0) and one is trained on.
    """
    folders = [_split_folder(name) for name in names]
    if "val" in folders:
        return [folder or "train" for folder in folders]
    free = [n for n, folder in enumerate(folders) if folder != "test"]
    ranks = {n: _hash_share(names[n]) for n in free}
    held = {n for n in free if ranks[n] < val_share}
    if val_share > 0 and len(free) > 1:
        held |= set() if held else {min(free, key=ranks.__getitem__)}
        held -= {max(free, key=ranks.__getitem__)} if len(held) == len(free) else set()
    return [
        "test" if n not in ranks else "val" if n in held else "train" for n in range(len(names))
    ]


def _split_folder(name: str) -> str | None:
    folders = [part.lower() for part in Path(name).parts[:-1]]
    return next((_SPLITS[folder] for folder in folders if folder in _SPLITS), None)


def _hash_share(name: str) -> float:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _hold_out_tail(episodes: Sequence[Episode], config: PrepareConfig) -> list[Episode]:
    """With one video only, holds out its end."""
    frames = sum(row.length for row in episodes)
    cut = frames - max(config.min_frames, round(frames * config.val_share))
    rows: list[Episode] = []
    for row in episodes:
        head, tail = cut - row.start, row.start + row.length - cut
        if row.start >= cut > 0:
            rows.append(replace(row, id=len(rows), split="val"))
        elif tail <= 0 or min(head, tail) < config.min_frames:
            rows.append(replace(row, id=len(rows)))
        else:
            rows.append(replace(row, id=len(rows), length=head, hash=f"{row.hash}-head"))
            rest = replace(row, start=cut, length=tail, split="val", hash=f"{row.hash}-tail")
            rows.append(replace(rest, id=len(rows)))
    return rows
