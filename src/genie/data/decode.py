"""Videos to raw frames and a manifest of what to keep, in processes of their own.

Each video becomes two files. The first is a part with all its frames at a steady rate. The second
is a manifest that says which clips to keep, and why the rest is not kept. A video that crashes its
process is found out and named.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError
from genie.core.io import replacing
from genie.data.clip_features import features_of
from genie.data.near_duplicates import NearDuplicates, signature
from genie.data.plan import PrepareConfig
from genie.data.quality import QualityFilter
from genie.data.sources.base import Labels, Source
from genie.data.video import Frame

_PREFETCH = 4
_STILL_PIXELS = 0.0002
_MAX_GAP = 2.0

_Clip = tuple[int, int, int]


@dataclass(frozen=True)
class DecodeTask:
    """A video to decode.

    Attributes:
        source: where the video comes from.
        name: of the video in its source.
        part: file to make, of raw frames one after the other.
        config: the settings.
        fps: frames per second to resample to.
    """

    source: Source
    name: str
    part: Path
    config: PrepareConfig
    fps: float

    @property
    def manifest(self) -> Path:
        """File to make after `part`: clips to keep, why others are not, what the sidecar says."""
        return self.part.with_suffix(".json")


def decode(task: DecodeTask) -> None:
    """Writes all frames of a video to `task.part`, and then the manifest of those to keep."""
    try:
        stated = _stated(task)
    except UserError as error:
        _leave_out(task, _reason(task, error))
        return
    cutter = _CutDetector(task.config)
    digests, positions, signatures = _ClipHashes(), [], dict[int, str]()
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
            problem = _reason(task, error)
    clips, left_out = cutter.kept()
    if clips and (task.config.quality or task.config.drop_duplicates):
        clips, signatures = _judged(task, clips, left_out)
    dropped = left_out.reason(task.config)
    manifest = {
        "clips": [
            {
                "offset": first,
                "length": length,
                "hash": digests[number],
                "source_frames": positions[first : first + length],
                "to_end": problem is None and first + length == len(positions),
                **({"signature": signatures[first]} if signatures else {}),
            }
            for number, first, length in clips
        ],
        "skipped": None if clips else problem or dropped or "holds no frames",
        "note": "; ".join(filter(None, (problem, dropped))) or None,
        "left_out": dict(left_out.clips),
        **stated,
    }
    _write_manifest(task, manifest)


def _reason(task: DecodeTask, error: UserError) -> str:
    return str(error).removeprefix(f"{task.source.folder}/{task.name}: ")


def _leave_out(task: DecodeTask, reason: str) -> None:
    nothing = {"clips": [], "skipped": reason, "note": None, "left_out": {}}
    task.part.unlink(missing_ok=True)
    _write_manifest(task, {**nothing, **asdict(Labels()), "split": None})


def _write_manifest(task: DecodeTask, manifest: dict[str, Any]) -> None:
    with replacing(task.manifest) as path:
        path.write_text(json.dumps(manifest))


def _resampled(task: DecodeTask) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Yields (frame number in the video, whether it begins anew, frame) at a steady rate.

    Raises:
        UserError: the video is damaged; after the frames that are not.
    """
    config, period = task.config, 1 / task.fps
    size = {"height": config.height, "width": config.width, "fit": config.fit}
    frames = task.source.open(task.name, **size, fps=task.fps)
    ticks, shown, step, problem = _Ticks(period, 0.0), None, None, None
    try:
        for frame in frames:
            pause = shown is not None and frame.time - shown.time > ticks.longest
            if shown is not None and (frame.cut or pause):
                yield from ticks.until(shown, None if pause else shown.duration, step)
                ticks, shown, step = _Ticks(period, frame.time), None, None
            if shown is not None:
                step = frame.time - shown.time
                yield from ticks.until(shown, step)
            shown = frame
    except UserError as error:
        problem = error
    if shown is not None:
        yield from ticks.until(shown, shown.duration, step)
    if problem is not None:
        raise problem


class _Ticks:
    """The moments at which the store shows a frame: one each period."""

    def __init__(self, period: float, start: float) -> None:
        self._period, self._start, self._count = period, start, 0
        self.longest = max(_MAX_GAP, 1.5 * period)

    def until(
        self, frame: Frame, stay: float | None, step: float | None = None
    ) -> Iterator[tuple[int, bool, np.ndarray]]:
        """Yields a frame once for each tick of the seconds that it stays.

        Where these are not known, it stays as long as the frame before it, `step`. Frames may come
        a little late, so that a video of the same rate is taken frame by frame although its times
        are rounded.
        """
        stay = min(stay or step or self._period, self.longest)
        late = 0.3 * min(self._period, stay)
        while self._start + self._count * self._period + late < frame.time + stay:
            yield frame.number, self._count == 0, frame.pixels
            self._count += 1


class _CutDetector:
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

    def kept(self) -> tuple[list[_Clip], LeftOut]:
        """Returns (number, first frame, length) of the clips to keep, and which are not."""
        ends = [*self._starts[1:], self._length]
        kept, left_out = [], LeftOut()
        for number, (first, end, still) in enumerate(
            zip(self._starts, ends, self._still, strict=True)
        ):
            length = end - first
            if length < self._config.min_frames:
                left_out.add("short", length)
            elif still > self._config.max_static_fraction * (length - 1):
                left_out.add("static", length)
            else:
                kept.append((number, first, length))
        return kept, left_out


class LeftOut:
    """Clips that are not kept, and their frames, by reason."""

    def __init__(self) -> None:
        self.clips: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()

    def add(self, reason: str, frames: int) -> None:
        """Counts a clip."""
        self.clips[reason] += 1
        self._frames[reason] += frames

    def reason(self, config: PrepareConfig) -> str | None:
        """Says what was dropped and why; None where all was kept."""
        words = {
            "short": f"clips shorter than {config.min_frames} frames",
            "static": "clips that stand still",
            "quality": "clips of low quality",
        }
        reasons = [f"{n} frames in {words[r]}" for r in words if (n := self._frames[r])]
        return "dropped " + " and ".join(reasons) if reasons else None


class Deduplicator:
    """Drops clips from the manifests of videos, which come in their order."""

    def __init__(self, config: PrepareConfig) -> None:
        self._seen = NearDuplicates() if config.drop_duplicates else None

    def without_duplicates(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Returns the manifest of a video without clips that look like one of a video before."""
        if self._seen is None:
            return manifest
        clips = self._seen.without(manifest["clips"])
        dropped = len(manifest["clips"]) - len(clips)
        if not dropped:
            return manifest
        frames = sum(c["length"] for c in manifest["clips"]) - sum(c["length"] for c in clips)
        reason = f"dropped {frames} frames in near duplicates of clips before"
        return {
            **manifest,
            "clips": clips,
            "skipped": None if clips else reason,
            "note": "; ".join(filter(None, (manifest["note"], reason))),
            "left_out": {**manifest["left_out"], "duplicate": dropped},
        }


def count_left_out(manifests: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Returns the number of clips that were not kept, by reason."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.get("left_out", {}))
    return dict(sorted(counts.items()))


def _judged(
    task: DecodeTask, clips: list[_Clip], left_out: LeftOut
) -> tuple[list[_Clip], dict[int, str]]:
    """Returns the clips that are good enough, and signatures by first frame where wanted."""
    config = task.config
    frames = np.memmap(task.part, np.uint8, "r").reshape(-1, config.height, config.width, 3)
    kept, signatures = [], {}
    for clip in clips:
        _, first, length = clip
        if config.quality is not None and _score(config.quality, frames, clip) < (
            config.quality.least_score
        ):
            left_out.add("quality", length)
            continue
        kept.append(clip)
        if config.drop_duplicates:
            signatures[first] = signature(frames[first : first + length])
    return kept, signatures


def _score(quality: QualityFilter, frames: np.ndarray, clip: _Clip) -> float:
    _, first, length = clip
    features = features_of(
        lambda starts: np.stack([frames[starts], frames[starts + 1]], 1), first, length
    )
    return float(quality.scorer.scores(features[None])[0])


class _ClipHashes:
    """One hash of pixels per clip."""

    def __init__(self) -> None:
        self._hashes = [hashlib.blake2b(digest_size=16)]

    def next(self) -> None:
        self._hashes.append(hashlib.blake2b(digest_size=16))

    def add(self, frame: np.ndarray) -> None:
        self._hashes[-1].update(frame.data)

    def __getitem__(self, number: int) -> str:
        return self._hashes[number].hexdigest()


def _stated(task: DecodeTask) -> dict[str, Any]:
    """Returns what the source states about a video: its labels, and its split or None."""
    return {**asdict(task.source.labels(task.name)), "split": task.source.split(task.name)}


class DecoderPool:
    """Runs tasks a few ahead of the one that is waited for, so that parts stay few on the disk."""

    def __init__(self, tasks: Sequence[DecodeTask], workers: int) -> None:
        self._tasks, self._workers = tasks, min(workers, len(tasks))
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[int, Future[None]] = {}

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def wait(self, number: int) -> None:
        """Returns when the manifest of a task is there."""
        task = self._tasks[number]
        if task.manifest.exists() and number not in self._running:
            return
        if self._workers <= 1:
            decode(task)
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
        for n in range(number, min(len(self._tasks), number + self._workers * _PREFETCH)):
            if n not in self._running and not self._tasks[n].manifest.exists():
                self._running[n] = self._pool.submit(decode, self._tasks[n])

    def _decode_alone(self, task: DecodeTask) -> None:
        # A process died, by this video or by another one that ran beside it: alone, we know.
        if task.manifest.exists():
            return
        with _new_pool(1) as pool:
            try:
                pool.submit(decode, task).result()
            except BrokenProcessPool:
                reason = "the decoder crashed on it, or ran out of memory; re-encode the file"
                _leave_out(task, reason)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._running = None, {}


def _new_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_init_worker)


def _init_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
