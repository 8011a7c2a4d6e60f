"""The page of `genie label`: it shows one clip after the other, and a person labels them."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genie.core.config import UserError, require
from genie.data.quality import LEAST_LABELS
from genie.data.quality_labels import (
    Label,
    clips_by_name,
    label_of,
    read_labels,
    require_known,
    write_labels,
)
from genie.data.store import ClipStore, Episode

GOAL = 300
"""Labels that the page asks for; more are welcome."""
SECONDS, PARTS = 6.0, 3
"""Of a clip that are shown; of a longer one its beginning, middle and end."""
FPS = 15.0
"""Frames per second that are enough to judge a clip."""
SIDE = 256
"""Most pixels of the longer side of a frame on the page."""
COLUMNS = 12


def order_of(clips: Mapping[str, Episode], seed: int) -> list[str]:
    """Returns the names of all clips in a random order that soon covers all videos.

    The first clips are one of each video, the next ones a second of each that has one, and so on.
    """
    rng = np.random.default_rng([seed, 44])
    of_video: dict[str, list[str]] = {}
    for name, episode in clips.items():
        of_video.setdefault(episode.source, []).append(name)
    drawn = list[tuple[int, float, str]]()
    for names in of_video.values():
        turns, places = rng.permutation(len(names)).tolist(), rng.random(len(names)).tolist()
        drawn += zip(turns, places, names, strict=True)
    return [name for _, _, name in sorted(drawn)]


def shown_frames(store: ClipStore, clip: Episode) -> tuple[UInt8[np.ndarray, "n h w 3"], float]:
    """Returns the frames of a clip that a person sees, and how many of them are one second.

    Of a clip that is longer than `SECONDS`, its beginning, middle and end are shown.
    """
    length, starts = clip.length, [clip.start]
    if length > (most := max(PARTS, round(SECONDS * store.fps))):
        length = most // PARTS
        starts = np.linspace(clip.start, clip.start + clip.length - length, PARTS).astype(int)
    step = max(1, math.ceil(store.fps / FPS))
    places = np.concatenate([np.arange(start, start + length, step) for start in starts])
    return store.windows(places, 1)[:, 0], store.fps / step


def frame_sheet(frames: UInt8[np.ndarray, "n h w 3"]) -> tuple[bytes, int, int]:
    """Returns one WebP picture of frames, `COLUMNS` in a row, and their height and width in it."""
    smaller = math.ceil(max(frames.shape[1:3]) / SIDE)
    if smaller > 1:
        reduced = [Image.fromarray(frame).reduce(smaller) for frame in frames]
        frames = np.stack([np.asarray(frame) for frame in reduced])
    count, height, width, _ = frames.shape
    rows = math.ceil(count / COLUMNS)
    sheet = np.zeros((rows * COLUMNS, height, width, 3), np.uint8)
    sheet[:count] = frames
    sheet = sheet.reshape(rows, COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
    buffer = io.BytesIO()
    picture = Image.fromarray(sheet.reshape(rows * height, COLUMNS * width, 3))
    picture.save(buffer, "WEBP", quality=90, method=0)
    return buffer.getvalue(), height, width


@dataclass(frozen=True)
class Labelled:
    """What the page sends.

    Attributes:
        clip: its name.
        label: of it.
    """

    clip: str
    label: Label


class Labelling:
    """Shows the clips of a store, and saves each label at once.

    Labels that the file has already stay, and their clips are not shown again.

    Args:
        store: whose clips are shown.
        path: of the JSON file of labels.
        seed: of the order of the clips.
        on_finished: called when the person has labelled enough.

    Raises:
        UserError: there are no clips, or the file is of another store or cannot be read.
    """

    def __init__(
        self,
        store: ClipStore,
        path: str | Path,
        seed: int = 0,
        *,
        on_finished: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.path, self.on_finished = store, Path(path), on_finished
        self.clips = clips_by_name(store)
        require(
            len(self.clips) > 0,
            f"{store.path}: has no clips to label; prepare a store from more videos",
        )
        self.labels = read_labels(path) if self.path.exists() else {}
        require_known(store, self.labels, f"{path} is of another store, give another --save")
        self.order = order_of(self.clips, seed)
        self._given = [name for name in self.order if name in self.labels]
        self._lock = Lock()

    def add_to(self, app: Any) -> None:
        """Adds the requests of the page to a FastAPI application."""
        app.get("/label/session", tags=["label"])(self.session)
        app.get("/label/clip", tags=["label"])(self.clip)
        app.post("/label/clip", tags=["label"])(self.label)
        app.post("/label/undo", tags=["label"])(self.undo)
        app.post("/label/finish", tags=["label"])(self.finish)

    def session(self) -> dict[str, Any]:
        """Returns how many labels there are, and how many are wanted."""
        count = len(self.clips)
        about = {"clips": count, "goal": min(GOAL, count), "least": LEAST_LABELS}
        names = {"store": self.store.address or str(self.store.path), "file": str(self.path)}
        return {**names, **about, **self.counts()}

    def counts(self) -> dict[str, int]:
        """Returns the number of good and bad labels, and of those that can be undone."""
        told = Counter(self.labels.values())
        return {"good": told["good"], "bad": told["bad"], "undo": len(self._given)}

    def clip(self, after: int = -1) -> dict[str, Any]:
        """Returns the next clip without a label.

        Args:
            after: place of the clip before it in the order.

        Returns:
            As `clip` its place, name and frames, or None when there are no more.
        """
        for place in range(max(after, -1) + 1, len(self.order)):
            if label_of(self.order[place], self.labels) is None:
                return {"clip": self._shown(place)}
        return {"clip": None}

    def label(self, labelled: Labelled) -> dict[str, int]:
        """Saves the label of a clip, in place of an earlier one; returns `counts`."""
        name = labelled.clip
        require(
            name in self.clips, f"clip: {self.store.path} has no clip {name}; load the page again"
        )
        with self._lock:
            self._save({**self.labels, name: labelled.label})
            self._given = [one for one in self._given if one != name] + [name]
            return self.counts()

    def undo(self) -> dict[str, Any]:
        """Removes the last label; returns its clip, as `clip` does, and `counts`."""
        with self._lock:
            require(len(self._given) > 0, "there is no label to undo")
            name = self._given[-1]
            self._save({one: label for one, label in self.labels.items() if one != name})
            self._given.pop()
            counts = self.counts()
        return {"clip": self._shown(self.order.index(name)), **counts}

    def finish(self) -> dict[str, int]:
        """Ends the labelling; returns `counts`."""
        counts = self.counts()
        require(
            min(counts["good"], counts["bad"]) >= LEAST_LABELS,
            f"{counts['good']} good and {counts['bad']} bad clips; label at least {LEAST_LABELS} "
            "of each",
        )
        self.on_finished()
        return counts

    def _save(self, labels: dict[str, Label]) -> None:
        try:
            write_labels(self.path, labels)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); start genie label again with "
                "--save and another file"
            ) from None
        self.labels = labels

    def _shown(self, place: int) -> dict[str, Any]:
        name = self.order[place]
        frames, fps = shown_frames(self.store, self.clips[name])
        sheet, height, width = frame_sheet(frames)
        size = {"count": len(frames), "height": height, "width": width, "columns": COLUMNS}
        picture = base64.b64encode(sheet).decode()
        return {"place": place, "name": name, "fps": fps, **size, "sheet": picture}
