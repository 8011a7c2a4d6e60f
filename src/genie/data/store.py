"""The clip store: frames of many episodes in one compressed array, with a table beside it.

A store is a folder:

- `store.json`: format, size, frame rate, how it was prepared, the table of episodes.
- `frames/`: Zarr v3, (N,H,W,3) uint8, every episode after the other.
- `source_frames.npy`: (N,) int32, which frame of its video each stored frame was.
- `labels.npy`: (N,) int64, the true action from each frame to the next, -1 where it is unknown. It
  is there only where the videos had sidecars, and training never reads it.
- `step_labels.npy`: the same, and at the last frame of an episode the true action of a step whose
  frame was not recorded.
- `action_vectors.npy`: (N,D) float32, the true action where it is no choice from a list, as of a
  robot.
- `rewards.npy`: (N,) float32, the reward of the step from each frame to the next.
- `ends.npy`: (N,) int8, whether that step ended the episode.
- `derived/`: arrays computed from the frames, such as tokens and latent actions (`cache.py`).

`store.json` is written last, so a folder that has one is whole.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError, require, shown
from genie.core.io import read_bounded, replacing
from genie.data import remote
from genie.data.cache import ArrayCache

FORMAT = "genie-clip-store"
VERSION = 1
CHUNK_FRAMES = 16
SHARD_FRAMES = 4096
SHARD_BYTES = 2**28
LARGEST_SIDE = 2**14
MOST_TABLE_BYTES = 2**30
"""Of `store.json`; an episode takes about 200."""


ROWS = {
    "source_frames": np.int32,
    "labels": np.int64,
    "step_labels": np.int64,
    "rewards": np.float32,
    "ends": np.int8,
    "action_vectors": np.float32,
}
"""Arrays beside the frames, with a value for each, or a row of values."""


@dataclass(frozen=True)
class Episode:
    """A stretch of video without a cut.

    Attributes:
        id: its place in the table.
        source: path of the video, relative to the folder that was prepared.
        split: `train`, `val` or `test`.
        start: first frame in the store.
        length: number of frames.
        hash: of the pixels; equal episodes have equal hashes.
        sidecar: path of the file of true actions, relative like `source`, or None.
    """

    id: int
    source: str
    split: str
    start: int
    length: int
    hash: str
    sidecar: str | None = None


def shard_frames(height: int, width: int) -> int:
    """Returns how many frames one file of the array holds: 4096, fewer when frames are large."""
    frames = SHARD_FRAMES
    while frames > CHUNK_FRAMES and frames * height * width * 3 > SHARD_BYTES:
        frames //= 2
    return frames


def _kvstore(folder: Path) -> dict[str, Any]:
    # TensorStore takes no path with ".." in it.
    return {"driver": "file", "path": f"{os.path.abspath(folder)}/"}


def zarr_spec(folder: Path, height: int, width: int) -> dict[str, Any]:
    """Returns the TensorStore spec of a new array for frames of this size."""
    inner = [CHUNK_FRAMES, height, width, 3]
    blosc = {"cname": "lz4", "clevel": 9, "shuffle": "noshuffle", "typesize": 1}
    codecs = [{"name": "bytes"}, {"name": "blosc", "configuration": blosc}]
    sharding = {"chunk_shape": inner, "codecs": codecs}
    shard = [shard_frames(height, width), height, width, 3]
    return {
        "driver": "zarr3",
        "kvstore": _kvstore(folder),
        "metadata": {
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["frame", "height", "width", "channel"],
        },
    }


def write_table(
    folder: str | Path,
    *,
    height: int,
    width: int,
    fps: float,
    episodes: Sequence[Episode],
    prepared: dict[str, Any],
    action_names: Sequence[str] | None = None,
) -> None:
    """Writes `store.json`, which makes the folder a store; everything else must be there."""
    table = {
        "format": FORMAT,
        "version": VERSION,
        "height": height,
        "width": width,
        "fps": fps,
        "frames": sum(episode.length for episode in episodes),
        "action_names": list(action_names) if action_names is not None else None,
        "prepared": prepared,
        "episodes": [asdict(episode) for episode in episodes],
    }
    with replacing(Path(folder) / "store.json") as path:
        path.write_text(json.dumps(table, indent=1) + "\n")


class ClipStore:
    """Prepared frames, read as windows of consecutive frames.

    Open one with `ClipStore.open(path)`. Objects can be sent to other processes: only the path
    travels. A store smaller than `cache_bytes` is kept in memory from its first use on; a larger
    one is read from the disk with many reads in flight. `cache` keeps arrays computed from the
    frames, such as tokens.
    """

    def __init__(
        self, path: Path, table: dict[str, Any], cache_bytes: int, address: str | None = None
    ) -> None:
        self.path, self.address = path, address
        self.height: int = table["height"]
        self.width: int = table["width"]
        self.fps: float = table["fps"]
        self.prepared: dict[str, Any] = table["prepared"]
        self.action_names: list[str] | None = table["action_names"]
        self.episodes: list[Episode] = table["episodes"]
        self.cache_bytes = cache_bytes
        self._total: int = table["frames"]
        self.cache = ArrayCache(path, self._total)

    @classmethod
    def open(cls, path: str | Path, *, cache_bytes: int = 2 * 2**30) -> ClipStore:
        """Opens a finished store for reading.

        Args:
            path: the folder that `genie prepare` wrote, or an address where a copy of it lies:
                `s3://`, `gs://` or `https://`. Of such a store `path` is a local folder, in which
                all but the frames is kept.
            cache_bytes: keep all frames in memory when they take no more than this. Of a larger
                store at an address, so many bytes of frames read last are kept.

        Raises:
            UserError: there is no store, it is unfinished, damaged, or of another version.
        """
        if remote.is_address(path):
            return cls._open_address(str(path), cache_bytes)
        path = Path(path)
        table = path / "store.json"
        require(path.is_dir(), f"{path}: no such folder; make a store with `genie prepare`")
        if (path / ".prepare").is_dir() and not table.exists():
            raise UserError(
                f"{path}: this store is unfinished; run the same `genie prepare` command again, "
                "it goes on where it stopped"
            )
        require(
            table.is_file() or not (path / "part.json").exists(),
            f"{path}: is a part of a store; join all parts with `genie merge`",
        )
        require(
            table.is_file(),
            f"{path}: not a clip store (no store.json); make one with `genie prepare`",
        )
        return cls(path, _read_table(table), cache_bytes)

    @classmethod
    def _open_address(cls, address: str, cache_bytes: int) -> ClipStore:
        table = remote.read(address, "store.json")
        if table is None:
            raise UserError(f"{address}: not a clip store (no store.json); check the address")
        folder = remote.local_folder(address, table)
        return cls(folder, _read_table(folder / "store.json"), cache_bytes, address)

    def __len__(self) -> int:
        """Number of frames of all splits."""
        return self._total

    def __repr__(self) -> str:
        size = f"{self._total} frames {self.height}x{self.width}"
        return f"ClipStore({str(self.path)!r}, {len(self.episodes)} episodes, {size})"

    def __getstate__(self) -> dict[str, Any]:
        opened = ("_array", "_memory")
        return {name: value for name, value in self.__dict__.items() if name not in opened}

    @property
    def splits(self) -> list[str]:
        """Names of the splits that hold episodes."""
        return sorted({episode.split for episode in self.episodes})

    @property
    def environments(self) -> list[str]:
        """The environments that were recorded, as `genie record` names them, if sidecars say so."""
        return list(self.prepared.get("environments", ()))

    def episodes_in_split(self, split: str | None = None) -> list[Episode]:
        """Returns the episodes of a split, or all of them."""
        return [episode for episode in self.episodes if split in (None, episode.split)]

    def num_frames(self, split: str | None = None) -> int:
        """Returns the number of frames of a split, or of all."""
        return sum(episode.length for episode in self.episodes_in_split(split))

    def frames_in_split(self, split: str) -> np.ndarray:
        """Returns the sorted indices, int64, of the frames of a split."""
        spans = [np.arange(e.start, e.start + e.length) for e in self.episodes_in_split(split)]
        return np.concatenate([np.empty(0, np.int64), *spans])

    def window_starts(self, length: int, split: str | None = None) -> np.ndarray:
        """Returns every index (int64, sorted) at which a window of `length` frames can start.

        A window never crosses from one episode into another.

        Raises:
            UserError: no episode of the split is that long.
        """
        require(length > 0, f"a window has at least one frame, got {length}")
        chosen = self.episodes_in_split(split)
        spans = [np.arange(e.start, e.start + e.length - length + 1) for e in chosen]
        starts = np.concatenate([np.empty(0, np.int64), *spans])
        if not len(starts):
            longest = max((episode.length for episode in chosen), default=0)
            raise UserError(
                f"{self.path}: no window of {length} frames in split {split or 'all'!r} "
                f"({len(chosen)} episodes, the longest of {longest} frames); "
                "prepare more or longer videos, or use shorter windows"
            )
        return starts

    def read(self, start: int, length: int) -> np.ndarray:
        """Reads frames u8 (T,H,W,3) from `start` on."""
        return self.windows([start], length)[0]

    def windows(self, starts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Reads windows u8 (B,T,H,W,3), one from each start, all reads in flight at once.

        Raises:
            UserError: a window reaches outside of the store.
        """
        firsts = np.asarray(starts, np.int64)
        inside = len(firsts) == 0 or (firsts.min() >= 0 and firsts.max() + length <= self._total)
        require(
            bool(inside),
            f"{self.path}: a window of {length} frames reaches outside 0..{self._total}",
        )
        if self.in_memory:
            return self._memory[firsts[:, None] + np.arange(length)]
        reads = [self._array[int(first) : int(first) + length].read() for first in firsts]
        out = np.empty((len(firsts), length, self.height, self.width, 3), np.uint8)
        for window, read in zip(out, reads, strict=True):
            window[:] = read.result()
        return out

    @property
    def in_memory(self) -> bool:
        """Whether the frames are few enough to be kept in memory."""
        return self._total * self.height * self.width * 3 <= self.cache_bytes

    @cached_property
    def _array(self) -> Any:
        import tensorstore

        if self.address is None:
            self._check_files()
        context = None if self.address is None else remote.context(self.cache_bytes)
        at = self.address and remote.kvstore(self.address, "frames/")
        spec = {"driver": "zarr3", "kvstore": at or _kvstore(self.path / "frames")}
        if at:
            spec["recheck_cached_data"] = "open"  # else each read asks whether chunks have changed
        try:
            array = tensorstore.open(spec, read=True, context=context).result()
        except ValueError as error:
            raise UserError(
                f"{self.path}: its frames cannot be opened ({error}); prepare it again"
            ) from None
        right = tuple(array.shape) == (self._total, self.height, self.width, 3)
        require(right, f"{self.path}: frames and table disagree; prepare it again")
        return array

    def _check_files(self) -> None:
        """Checks what TensorStore does not bear: it ends the process, or waits for ever.

        Raises:
            UserError: the frames are not as `zarr_spec` makes them, or not in files.
        """
        folder = self.path / "frames"
        try:
            found = json.loads(read_bounded(folder / "zarr.json"))
            shard = found["chunk_grid"]["configuration"]["chunk_shape"]
            (inner,) = (codec["configuration"]["chunk_shape"] for codec in found["codecs"])
            size = [self.height, self.width, 3]
            right = found["data_type"] == "uint8" and found["shape"] == [self._total, *size]
            right &= 0 < inner[0] <= shard[0] <= SHARD_FRAMES and shard[1:] == inner[1:] == size
        except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise UserError(
                f"{self.path}: its frames cannot be opened ({shown(error)}); prepare it again"
            ) from None
        require(right, f"{self.path}: frames and table disagree; prepare it again")
        for number in range(-(-self._total // shard[0])):
            path = folder / "c" / str(number) / "0" / "0" / "0"
            require(path.is_file() or not path.exists(), f"{path}: is no file; prepare it again")

    @cached_property
    def _memory(self) -> np.ndarray:
        return self._array.read().result()

    @property
    def source_frames(self) -> np.ndarray:
        """Which frame of its video each stored frame was, int32 (N,)."""
        return self._rows("source_frames")

    def labels(self, split: str | None = None, *, last: bool = False) -> np.ndarray | None:
        """Returns the true actions, for evaluation only, or None where no video had a sidecar.

        Args:
            split: only the frames of this split, in the order of `frames_in_split`; None is all.
            last: also of steps at the end of an episode whose frame was not recorded; older stores
                do not have them.

        Returns:
            int64 (N,): the action from each stored frame to the next, an index into `action_names`.
            It is -1 where it is unknown and at the last frame of an episode. Where more than
            one frame of the video lies between two stored frames, it is the most frequent action.
        """
        whole = last and self._file("step_labels").exists()
        return self._beside("step_labels" if whole else "labels", split)

    def action_vectors(self, split: str | None = None) -> np.ndarray | None:
        """Returns the true actions that are vectors, or None where no video had any.

        Args:
            split: only the frames of this split, in the order of `frames_in_split`; None is all.

        Returns:
            float32 (N,D): the action from each stored frame to the next, the mean where several
            frames of the video lie between them. NaN where it is unknown and at the last frame of
            an episode. `action_vector_names` names its numbers.
        """
        return self._beside("action_vectors", split)

    @property
    def action_vector_names(self) -> list[str] | None:
        """Names of the numbers of `action_vectors`, None where there are none."""
        return self.prepared.get("action_vector_names")

    def rewards(self, split: str | None = None) -> np.ndarray | None:
        """Returns the rewards that were recorded, or None where no sidecar had any.

        Args:
            split: only the frames of this split, in the order of `frames_in_split`; None is all.

        Returns:
            float32 (N,): the reward of the step from each stored frame to the next; the sum where
            several frames of the video lie between them. NaN where it is unknown or no step was
            taken. The last frame of an episode has the reward of a step whose frame was not
            recorded, as Procgen does not show the frame after the last action.
        """
        return self._beside("rewards", split)

    def ends(self, split: str | None = None) -> np.ndarray | None:
        """Returns where episodes ended, or None where no sidecar says so.

        Args:
            split: only the frames of this split, in the order of `frames_in_split`; None is all.

        Returns:
            int8 (N,), of the step from each stored frame to the next. 0: the game went on; 1: it
            ended by its own rules; 2: it was cut off. -1: unknown, or no step was taken.
        """
        return self._beside("ends", split)

    def _beside(self, name: str, split: str | None) -> np.ndarray | None:
        path = self._file(name)
        if not path.exists():
            return None
        rows = self._rows(name)
        return rows if split is None else rows[self.frames_in_split(split)]

    def _rows(self, name: str) -> np.ndarray:
        path = self._file(name)
        try:
            rows = np.load(path, mmap_mode="r")
        except Exception as error:  # a damaged file makes NumPy raise whatever it likes
            raise UserError(f"{path}: cannot be read ({error}); prepare the store again") from None
        shape = rows.shape[:1] if name == "action_vectors" and rows.ndim == 2 else rows.shape
        right = shape == (self._total,) and rows.dtype == ROWS[name]
        require(right, f"{path}: {rows.dtype} {rows.shape} is not of this store; prepare it again")
        return np.array(rows)

    def _file(self, name: str) -> Path:
        path = self.path / f"{name}.npy"
        return path if self.address is None else remote.copied(self.address, path)


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(read_bounded(path, MOST_TABLE_BYTES))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{path}: damaged; prepare the store again") from None
    known = isinstance(table, dict) and table.get("format") == FORMAT
    require(known, f"{path}: not the table of a clip store; make one with `genie prepare`")
    if table.get("version") != VERSION:
        raise UserError(
            f"{path}: store of version {table.get('version')}, this program reads {VERSION}; "
            "prepare it again, or install the version of genie-worlds that wrote it"
        )
    try:
        table["episodes"] = [Episode(**row) for row in table["episodes"]]
        right = _is_table(table)
    except (KeyError, TypeError):
        right = False
    require(right, f"{path}: damaged; prepare the store again")
    return table


def _is_table(table: dict[str, Any]) -> bool:
    """Whether the values of a table have the right types, and lie where there are frames."""
    names, fps, total = table["action_names"], table["fps"], table["frames"]
    whole = [table[name] for name in ("height", "width", "frames")]
    return (
        all(type(value) is int for value in whole)
        and all(0 < side <= LARGEST_SIDE for side in whole[:2])
        and type(fps) in (int, float)
        and 0 < fps < math.inf
        and isinstance(table["prepared"], dict)
        and (names is None or (type(names) is list and all(type(name) is str for name in names)))
        and all(_is_episode(episode, total) for episode in table["episodes"])
    )


def _is_episode(episode: Episode, total: int) -> bool:
    start, length = episode.start, episode.length
    numbers = all(type(value) is int for value in (episode.id, start, length))
    texts = all(type(value) is str for value in (episode.source, episode.split, episode.hash))
    return numbers and texts and 0 <= start < start + length <= total
