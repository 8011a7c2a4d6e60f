"""LeRobot datasets of versions 2 and 3: each episode is a video, with its true actions.

The format is that of https://github.com/huggingface/lerobot: `meta/info.json` says where episodes
lie. In version 2 each has a video of its own. In version 3 many share one, and a table says from
which second to which.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from genie.core.config import UserError, require
from genie.core.io import read_bounded
from genie.data.folders import Folder
from genie.data.sources.base import Labels, Source
from genie.data.video import Fit, Frame, read_frames

INFO = "meta/info.json"
_MOST_BYTES = 2**28
# What a damaged table raises; that of pyarrow is a ValueError or an OSError.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RecursionError)


@dataclass(frozen=True)
class _Episode:
    data: str
    """File of its actions."""
    video: str
    span: tuple[float, float] | None
    """Seconds of the video that it takes; None for all."""


@dataclass(frozen=True)
class _Dataset:
    """A dataset, or why it is not read."""

    fps: float = 0.0
    episodes: Mapping[int, _Episode] | None = None
    split: Mapping[int, str] | None = None
    action_names: list[str] | None = None
    fault: str | None = None


class LeRobotDatasets(Source):
    """Every folder with `meta/info.json` of LeRobot is a dataset, whose episodes are videos."""

    plural = "LeRobot episodes"
    about = f"LeRobot datasets ({INFO})"

    def list(self) -> Sequence[str]:
        """Returns a name for each episode, such as `pusht/episode_000007`.

        Raises:
            UserError: a dataset has several cameras and none was chosen.
        """
        return [
            _path(root, f"episode_{number:06d}")
            for root in self.claims()
            for number in self._dataset(root).episodes or ()
        ]

    def claims(self) -> Sequence[str]:
        """Returns the folders of all datasets."""
        files = [name for name in self.folder.files() if f"/{name}".endswith(f"/{INFO}")]
        roots = [str(PurePosixPath(name).parent.parent) for name in files]
        return [root for root in roots if _is_of_lerobot(self.folder, root, self.folder.key)]

    def left_out(self) -> Mapping[str, str]:
        """Returns datasets that cannot be read."""
        datasets = {root: self._dataset(root) for root in self.claims()}
        return {root: each.fault for root, each in datasets.items() if each.fault}

    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Decodes an episode, whose first frame has the time 0."""
        episode = self._episode(name)
        size = {"height": height, "width": width, "fit": fit, "span": episode.span}
        with self.folder.fetched(episode.video, keep=episode.span is not None) as here:
            yield from read_frames(here / episode.video, **size)

    def files(self, name: str) -> Sequence[str]:
        """Returns the video and the table of actions."""
        episode = self._episode(name)
        return [episode.video, episode.data]

    def fps(self, name: str) -> float | None:
        """Returns what the dataset states."""
        return self._dataset(_root(name)).fps

    def labels(self, name: str) -> Labels:
        """Reads the actions, and the rewards where there are any."""
        episode, number = self._episode(name), _number(name)
        rows = _actions(self.folder, episode.data, self.folder.key).get(number)
        if rows is None:
            return Labels()
        names = self._dataset(_root(name)).action_names
        rewards = None if rows[1] is None else rows[1].tolist()
        return Labels(episode.data, rewards=rewards, vectors=rows[0].tolist(), vector_names=names)

    def split(self, name: str) -> str | None:
        """Returns the split that the dataset states, if it states one to hold out."""
        stated = self._dataset(_root(name)).split or {}
        return stated.get(_number(name)) or super().split(name)

    def _dataset(self, root: str) -> _Dataset:
        return _dataset(self.folder, root, self.camera, self.folder.key)

    def _episode(self, name: str) -> _Episode:
        return (self._dataset(_root(name)).episodes or {})[_number(name)]


def _root(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _path(root: str, name: str) -> str:
    """Returns the name of a file of a dataset, which may not lead out of it."""
    path = PurePosixPath(name)
    require(not path.is_absolute() and ".." not in path.parts, f"{name}: leads elsewhere")
    return str(PurePosixPath(root) / path)


# The last argument of these marks the run, so that nothing is remembered for another one.
@lru_cache(64)
def _is_of_lerobot(folder: Folder, root: str, _: str) -> bool:
    try:
        return "codebase_version" in _json(folder, _path(root, INFO))
    except (ValueError, TypeError, OSError, RecursionError):
        return False


@lru_cache(64)
def _dataset(folder: Folder, root: str, camera: str | None, _: str) -> _Dataset:
    info = _json(folder, _path(root, INFO))
    try:
        version = str(info["codebase_version"])
        known = {"v2": _episodes_of_v2, "v3": _episodes_of_v3}.get(version.split(".")[0])
        if known is None:
            return _Dataset(fault=f"is of version {version}; convert it to v2 or v3 by LeRobot")
        cameras = [name for name, each in info["features"].items() if each["dtype"] == "video"]
        if not cameras:
            return _Dataset(fault="has no camera that is stored as a video")
    except _DAMAGED as error:
        return _Dataset(fault=f"has a damaged {INFO} ({error})")
    _check_pyarrow()
    chosen = _chosen(cameras, camera, f"{folder}/{root}".removesuffix("/."))
    try:
        episodes = known(folder, root, info, chosen)
        names, split = _action_names(info), _splits(info)
        return _Dataset(float(info["fps"]), dict(sorted(episodes.items())), split, names)
    except _DAMAGED as error:
        return _Dataset(fault=f"has a damaged table of episodes ({error})")


def _check_pyarrow() -> None:
    require(
        importlib.util.find_spec("pyarrow") is not None,
        'LeRobot datasets are read by pyarrow: pip install "genie-worlds[lerobot]"',
    )


def _chosen(cameras: Sequence[str], camera: str | None, where: str) -> str:
    named = ", ".join(cameras)
    if camera is None:
        require(len(cameras) == 1, f"{where}: has several cameras; give one by --camera: {named}")
        return cameras[0]
    found = [name for name in cameras if camera in (name, name.rpartition(".")[2])]
    require(len(found) == 1, f"{where}: has no camera {camera!r}; it has {named}")
    return found[0]


def _episodes_of_v2(
    folder: Folder, root: str, info: dict[str, Any], camera: str
) -> dict[int, _Episode]:
    text = _bytes(folder, _path(root, "meta/episodes.jsonl")).decode()
    episodes = {}
    for number in (int(json.loads(line)["episode_index"]) for line in text.splitlines() if line):
        place = {"episode_chunk": number // int(info["chunks_size"]), "episode_index": number}
        video = info["video_path"].format(video_key=camera, **place)
        data = info["data_path"].format(**place)
        episodes[number] = _Episode(_path(root, data), _path(root, video), None)
    return episodes


def _episodes_of_v3(
    folder: Folder, root: str, info: dict[str, Any], camera: str
) -> dict[int, _Episode]:
    of_video = {
        key: f"videos/{camera}/{key}"
        for key in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    }
    of_data = {key: f"data/{key}" for key in ("chunk_index", "file_index")}
    columns = ["episode_index", *of_video.values(), *of_data.values()]
    tables = [name for name in folder.files(_path(root, "meta/episodes")) if _is_table(name)]
    require(len(tables) > 0, "meta/episodes holds no table")
    episodes = {}
    for table in sorted(tables):
        for row in _table(folder, table, columns).to_pylist():
            place = {key: row[of_video[key]] for key in ("chunk_index", "file_index")}
            video = info["video_path"].format(video_key=camera, **place)
            data = info["data_path"].format(**{key: row[name] for key, name in of_data.items()})
            span = row[of_video["from_timestamp"]], row[of_video["to_timestamp"]]
            where = _path(root, data), _path(root, video)
            episodes[int(row["episode_index"])] = _Episode(*where, (float(span[0]), float(span[1])))
    return episodes


def _is_table(name: str) -> bool:
    return name.endswith(".parquet")


def _action_names(info: Mapping[str, Any]) -> list[str] | None:
    names = info["features"].get("action", {}).get("names")
    if isinstance(names, dict):  # such as {"motors": [...]}
        names = [name for part in names.values() for name in part]
    return None if names is None else [str(name) for name in names]


def _splits(info: Mapping[str, Any]) -> dict[int, str]:
    """Returns the split of each episode, where the dataset has others than one for training."""
    known = {"train": "train", "val": "val", "validation": "val", "test": "test"}
    stated = {known[name]: span for name, span in info.get("splits", {}).items() if name in known}
    if set(stated) <= {"train"}:
        return {}
    bounds = {name: [int(bound) for bound in span.split(":")] for name, span in stated.items()}
    return {number: name for name, (a, b) in bounds.items() for number in range(a, b)}


@lru_cache(2)
def _actions(folder: Folder, name: str, _: str) -> dict[int, tuple[np.ndarray, np.ndarray | None]]:
    """Returns actions f32 (T,D) and rewards f32 (T,), if any, of each episode of a table."""
    try:
        table = _table(folder, name, ["episode_index", "frame_index", "action", "next.reward"])
        if "action" not in table.column_names:
            return {}
        numbers = table["episode_index"].to_numpy()
        actions = np.array(table["action"].to_pylist(), np.float32).reshape(len(numbers), -1)
        rewards = None
        if "next.reward" in table.column_names:
            rewards = np.array(table["next.reward"].to_pylist(), np.float32).reshape(len(numbers))
        order = np.lexsort((table["frame_index"].to_numpy(), numbers))
    except _DAMAGED as error:
        raise UserError(f"{folder}/{name}: is damaged ({error}); copy it again") from None
    found = {}
    for number in np.unique(numbers).tolist():
        rows = order[numbers[order] == number]
        found[number] = actions[rows], None if rewards is None else rewards[rows]
    return found


def _table(folder: Folder, name: str, columns: Sequence[str]) -> Any:
    """Reads the columns that are there."""
    from pyarrow import parquet

    with folder.fetched(name) as here:
        file = parquet.ParquetFile(here / name)
        with file:
            there = [column for column in columns if column in file.schema_arrow.names]
            return file.read(there, use_threads=False)


def _json(folder: Folder, name: str) -> Any:
    return json.loads(_bytes(folder, name))


def _bytes(folder: Folder, name: str) -> bytes:
    with folder.fetched(name) as here:
        return read_bounded(here / name, _MOST_BYTES)


SOURCE = LeRobotDatasets
