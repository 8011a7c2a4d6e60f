"""What a kind of videos has to say of itself: which there are, their frames, labels and splits."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from genie.core.io import read_bounded
from genie.data.folders import Folder
from genie.data.video import Fit, Frame

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders that state a split."""
MOST_BYTES = 2**26
"""Of a sidecar; an action takes about three."""
# What is missing, no list, no number, or as infinite as JSON allows.
_DAMAGED = (KeyError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Labels:
    """What is known about a video beside its frames; None where it is not.

    Attributes:
        sidecar: path of the file that says so, relative to the folder that is prepared.
        actions: the true action from each frame to the next, as an index into `action_names`.
        action_names: a name for each action.
        rewards: the reward of each action.
        end: 1 where the episode ended by its own rules, 2 where it was cut off, 0 where it went on.
        env: the environment that was recorded, as `genie record` names it.
        vectors: the true action from each frame to the next where actions are no list of choices.
        vector_names: a name for each number of such an action.
    """

    sidecar: str | None = None
    actions: list[int] | None = None
    action_names: list[str] | None = None
    rewards: list[float] | None = None
    end: int | None = None
    env: str | None = None
    vectors: list[list[float]] | None = None
    vector_names: list[str] | None = None


@dataclass(frozen=True)
class Source(ABC):
    """One kind of videos below a folder. It is sent to worker processes, so it holds paths only.

    A video has a name: its path relative to the folder, with slashes.

    Args:
        folder: what is prepared.
        camera: the one to take where a video has several.
    """

    folder: Folder
    camera: str | None = None
    about: ClassVar[str]
    """What a video of this kind is, for the message that there is none."""
    plural: ClassVar[str]
    """What several of them are called, for the summary."""

    @abstractmethod
    def list(self) -> Sequence[str]:
        """Returns the names of all videos of this kind that are not hidden, in any order."""

    def claims(self) -> Sequence[str]:
        """Returns folders whose files belong to this kind alone."""
        return ()

    def left_out(self) -> Mapping[str, str]:
        """Returns what looks like a video of this kind but is none, and why, by its path."""
        return {}

    @abstractmethod
    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Reads a video frame by frame.

        Args:
            name: of the video.
            height: rows of the frames.
            width: columns of the frames.
            fit: how to reach that size, see `genie.data.video.read_frames`.
            fps: frames per second of the store, for videos that have no times of their own.

        Raises:
            UserError: the video is damaged; after all frames that are intact.
        """

    @abstractmethod
    def files(self, name: str) -> Sequence[str]:
        """Returns the names of the files of a video.

        Where they change, the store has to be prepared again.
        """

    def fps(self, name: str) -> float | None:
        """Returns the frames per second of a video, or None where it has no times of its own.

        Raises:
            UserError: the video cannot be read.
        """
        return None

    def labels(self, name: str) -> Labels:
        """Returns what is known about a video beside its frames."""
        return Labels()

    def split(self, name: str) -> str | None:
        """Returns `train`, `val` or `test` where the source says so; here, where a folder does."""
        folders = [part.lower() for part in PurePosixPath(name).parts[:-1]]
        return next((SPLITS[folder] for folder in folders if folder in SPLITS), None)

    def group(self, name: str) -> str:
        """Returns what belongs into one shard with a video; by itself, nothing else."""
        return name

    @property
    def costly(self) -> bool:
        """Whether a file is copied or fetched to be opened."""
        return self.folder.far


def _vector(value: Any) -> list[float]:
    return [float(number) for number in (value if isinstance(value, list) else [value])]


def _action(value: Any) -> int:
    action = int(value)
    if not -1 <= action < 2**31:
        raise ValueError(f"{action} is no action")
    return action


def read_sidecar(folder: Folder, name: str) -> Labels:
    """Reads a sidecar as `genie record` writes it.

    What is missing or damaged there is None: the video is as good without.

    Raises:
        UserError: it lies at an address and cannot be fetched.
    """
    told, known = {}, {}
    with folder.fetched(name) as here:
        if not (here / name).is_file():
            return Labels()
        with suppress(OSError, ValueError, RecursionError):
            told = json.loads(read_bounded(here / name, MOST_BYTES))
    with suppress(*_DAMAGED):
        names = [str(each) for each in told["action_names"]]
        known |= {"actions": [_action(action) for action in told["actions"]], "action_names": names}
    with suppress(*_DAMAGED):
        if told["action_names"] is None:
            known["vectors"] = [_vector(action) for action in told["actions"]]
    with suppress(*_DAMAGED):
        known["rewards"] = [float(reward) for reward in told["rewards"]]
        known["end"] = 1 if told["terminated"] else 2 if told["truncated"] else 0
    with suppress(*_DAMAGED):
        known["env"] = str(told["env"])
    return Labels(sidecar=name, **known)
