"""Decoded clips to a clip store: frames in order, one whole file at a time, and then the table.

What is in whole files of the array is done for good. After a kill the rest is decoded again. So an
interrupted run ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.io import replacing, save_array, sync_folder
from genie.data.decode import DecodeTask, count_left_out
from genie.data.plan import WORK_FOLDER, PrepareConfig, PreparePlan, inputs_digest
from genie.data.splits import hold_out_tail, merge_duplicates, split_sources
from genie.data.store import Episode, shard_frames, write_table, zarr_spec


@dataclass(frozen=True)
class StoredClip:
    """A stretch of frames to store.

    Attributes:
        task: number of its video.
        offset: its first frame in the part of the video.
        start: its first frame in the store.
        length: number of frames.
        hash: of the pixels.
        source_frames: which frame of the video each one is, i32 (T,).
        to_end: whether nothing of the video comes after it.
    """

    task: int
    offset: int
    start: int
    length: int
    hash: str
    source_frames: np.ndarray
    to_end: bool = False

    @property
    def end(self) -> int:
        """The frame of the store after its last."""
        return self.start + self.length


class FramesOfVideo(ABC):
    """The frames of a video, where clips are copied from."""

    @abstractmethod
    def read(self, first: int, count: int) -> np.ndarray:
        """Returns frames u8 (count,H,W,3)."""

    @abstractmethod
    def drop(self) -> None:
        """Removes them; they are in the store for good."""


class RawFrames(FramesOfVideo):
    """Frames one after the other in a file, as `decode` writes them."""

    def __init__(self, path: Path, config: PrepareConfig) -> None:
        self._path, self._shape = path, (config.height, config.width, 3)

    def read(self, first: int, count: int) -> np.ndarray:
        """Returns frames u8 (count,H,W,3)."""
        offset, shape = first * math.prod(self._shape), (count, *self._shape)
        return np.memmap(self._path, np.uint8, "r", offset=offset, shape=shape)

    def drop(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


class ShardWriter:
    """Appends clips to the array, one whole file at a time, and remembers how many are done."""

    def __init__(self, out: Path, config: PrepareConfig) -> None:
        self._out, self._config = out, config
        self._size = shard_frames(config.height, config.width)
        self._progress = out / WORK_FOLDER / "progress.json"
        self._done = json.loads(self._progress.read_text()) if self._progress.exists() else 0
        self._buffer = np.empty((self._size, config.height, config.width, 3), np.uint8)
        self._array = open_array(out / "frames", config)
        self._videos: list[tuple[int, FramesOfVideo]] = []
        self.frames = 0
        self.clips: list[StoredClip] = []

    def drop_unfinished(self, tasks: Sequence[DecodeTask]) -> None:
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
        for pattern in (f"{WORK_FOLDER}/.*", "frames/**/*.__lock"):
            for left in self._out.glob(pattern):
                left.unlink(missing_ok=True)

    def append(self, number: int, video: FramesOfVideo, clips: Sequence[dict[str, Any]]) -> None:
        """Adds the clips of a video, unless they are in the array already."""
        for row in clips:
            clip = StoredClip(
                number,
                row["offset"],
                self.frames,
                row["length"],
                row["hash"],
                np.array(row["source_frames"], np.int32),
                row["to_end"],
            )
            self.clips.append(clip)
            if clip.end > self._done * self._size:
                self._copy(video, clip)
            self.frames = clip.end
        self._videos.append((self.frames, video))
        self._drop_videos()

    def _copy(self, video: FramesOfVideo, clip: StoredClip) -> None:
        at = max(clip.start, self._done * self._size)
        while at < clip.end:
            shard, place = divmod(at, self._size)
            count = min(clip.end - at, self._size - place)
            frames = video.read(clip.offset + at - clip.start, count)
            self._buffer[place : place + count] = frames
            at += count
            if place + count == self._size:
                self._write(shard, self._size)

    def _write(self, shard: int, count: int) -> None:
        first = shard * self._size
        self._array[first : first + count].write(self._buffer[:count]).result()
        self._sync_folders(shard)
        self._done = shard + 1
        with replacing(self._progress) as path:
            path.write_text(json.dumps(self._done))

    def _sync_folders(self, shard: int) -> None:
        """TensorStore syncs a file and its folder, but not the folders it made above that one."""
        folder = self._out / "frames" / "c" / str(shard) / "0"
        for each in (folder, *folder.parents[:4]):
            sync_folder(each)

    def _drop_videos(self) -> None:
        while self._videos and self._videos[0][0] <= self._done * self._size:
            self._videos.pop(0)[1].drop()

    def finish(self) -> None:
        """Writes the last file and gives the array its final length."""
        self._array = self._array.resize(
            exclusive_max=[self.frames, None, None, None], resize_metadata_only=True
        ).result()
        shard, count = divmod(self.frames, self._size)
        if count and shard >= self._done:
            self._write(shard, count)


def open_array(folder: Path, config: PrepareConfig) -> Any:
    """Opens the array of frames in a folder, a new one where there is none."""
    import tensorstore

    spec = zarr_spec(folder, config.height, config.width)
    if (folder / "zarr.json").exists():
        return tensorstore.open({k: spec[k] for k in ("driver", "kvstore")}).result()
    # The number of frames is known at the end; until then the array is as long as one may get.
    shape = [2**40, config.height, config.width, 3]
    return tensorstore.open(spec, create=True, dtype=tensorstore.uint8, shape=shape).result()


def write_store(
    out: Path,
    plan: PreparePlan,
    manifests: Sequence[dict[str, Any]],
    clips: Sequence[StoredClip],
    left_out: Mapping[str, str],
) -> None:
    """Writes all that lies beside the frames. The table comes last: with it the store is whole."""
    save_array(out / "source_frames.npy", np.concatenate([clip.source_frames for clip in clips]))
    names = _all_action_names(manifests)
    if names is not None:
        rows = [_actions(clip, manifests[clip.task], names) for clip in clips]
        save_array(out / "step_labels.npy", np.concatenate(rows))
        for actions in rows:
            actions[-1] = -1
        save_array(out / "labels.npy", np.concatenate(rows))
    vector_names = _save_vectors(out, manifests, clips)
    if any(m["clips"] and m["rewards"] is not None for m in manifests):
        outcomes = [_outcomes(clip, manifests[clip.task]) for clip in clips]
        save_array(out / "rewards.npy", np.concatenate([rewards for rewards, _ in outcomes]))
        save_array(out / "ends.npy", np.concatenate([ends for _, ends in outcomes]))
    problems = list(zip(plan.files, manifests, strict=True))
    stated = _stated_splits(plan, manifests, clips)
    episodes, moved = merge_duplicates(_episodes(plan, manifests, clips, stated), stated)
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
            "inputs": inputs_digest(plan.files, plan.file_stats),
            "videos": len(plan.files),
            "left_out": count_left_out(manifests),
            **({} if vector_names is None else {"action_vector_names": vector_names}),
            "environments": sorted({m["env"] for m in manifests if m["clips"] and m.get("env")}),
            "skipped": {**left_out, **{name: m["skipped"] for name, m in problems if m["skipped"]}},
            "notes": notes
            | {
                name: "; ".join(filter(None, (notes.get(name), why))) for name, why in moved.items()
            },
        },
    )


def _save_vectors(
    out: Path, manifests: Sequence[dict[str, Any]], clips: Sequence[StoredClip]
) -> list[str] | None:
    """Writes the true actions that are vectors, and returns the names of their numbers, if any.

    Of several sizes the most common one counts.
    """
    known = [m for m in manifests if m["clips"] and m.get("vectors")]
    if not known:
        return None
    sizes = Counter(len(m["vectors"][0]) for m in known)
    size = max(sizes, key=lambda each: (sizes[each], each))
    rows = [_vectors(clip, manifests[clip.task].get("vectors") or [], size) for clip in clips]
    save_array(out / "action_vectors.npy", np.concatenate(rows))
    names = (m["vector_names"] for m in known if len(m["vectors"][0]) == size)
    given = next((each for each in names if each and len(each) == size), None)
    return given or [str(number) for number in range(size)]


def _vectors(clip: StoredClip, told: Sequence[Sequence[float]], size: int) -> np.ndarray:
    """Returns the true actions f32 (T,D) from each frame of a clip to the next.

    Where several steps lie between two frames, it is their mean.
    """
    vectors = np.full((clip.length, size), np.nan, np.float32)
    if any(len(vector) != size for vector in told):
        return vectors
    steps = np.array(told, np.float32).reshape(-1, size)
    for t, (now, then) in enumerate(pairwise(clip.source_frames.tolist())):
        if now < then <= len(steps):
            vectors[t] = steps[now:then].mean(0)
    return vectors


def _all_action_names(manifests: Sequence[dict[str, Any]]) -> list[str] | None:
    known = [m["action_names"] for m in manifests if m["clips"] and m["action_names"] is not None]
    if not known:
        return None
    return list(dict.fromkeys(name for names in known for name in names))


def _actions(clip: StoredClip, manifest: dict[str, Any], names: Sequence[str]) -> np.ndarray:
    """Returns the true actions i64 (T,) of the steps from each frame of a clip."""
    labels = np.full(clip.length, -1, np.int64)
    if manifest["actions"] is None:
        return labels
    actions = np.array(manifest["actions"], np.int64)
    place = np.array([names.index(name) for name in manifest["action_names"]], np.int64)
    for t, (now, then) in enumerate(_spans(clip, len(actions))):
        between = actions[now:then]
        between = between[(between >= 0) & (between < len(place))]
        if len(between):
            labels[t] = place[np.bincount(between).argmax()]
    return labels


def _outcomes(clip: StoredClip, manifest: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rewards f32 (T,) and ends i8 (T,) of the steps from each frame of a clip."""
    rewards, ends = np.full(clip.length, np.nan, np.float32), np.full(clip.length, -1, np.int8)
    told, end = manifest["rewards"], manifest["end"]
    if told is None:
        return rewards, ends
    steps = len(told)
    for t, (now, then) in enumerate(_spans(clip, steps)):
        if then > steps:
            continue
        rewards[t] = np.sum(told[now:then])
        if end is not None:
            ends[t] = end if now < steps == then else 0
    return rewards, ends


def _spans(clip: StoredClip, steps: int) -> list[tuple[int, int]]:
    """Returns the steps of the video, first and after the last, that lead on from each frame.

    Where the video goes on, no step leads on from the last frame. Where it ends, the steps that are
    left do, though the frame after them was not recorded.
    """
    frames = clip.source_frames.tolist()
    rest = [(frames[-1], steps)] if clip.to_end and frames[-1] < steps else []
    return [*pairwise(frames), *rest]


def _episodes(
    plan: PreparePlan,
    manifests: Sequence[dict[str, Any]],
    clips: Sequence[StoredClip],
    stated: Mapping[str, str | None],
) -> list[Episode]:
    splits = split_sources(stated, plan.config.val_fraction)
    episodes = []
    for clip in clips:
        name, sidecar = plan.files[clip.task], manifests[clip.task]["sidecar"]
        episodes.append(
            Episode(len(episodes), name, splits[name], clip.start, clip.length, clip.hash, sidecar)
        )
    if (
        len(stated) == 1
        and {row.split for row in episodes} == {"train"}
        and plan.config.val_fraction > 0
    ):
        return hold_out_tail(episodes, plan.config.val_fraction, plan.config.min_frames)
    return episodes


def _stated_splits(
    plan: PreparePlan, manifests: Sequence[dict[str, Any]], clips: Sequence[StoredClip]
) -> dict[str, str | None]:
    """The split that the source states, or None, for each video of which something is stored."""
    used = sorted({clip.task for clip in clips})
    return {plan.files[number]: manifests[number]["split"] for number in used}
