"""Folders of numbered images, such as `run1/000001.png`, `run1/000002.png`: each is a video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from genie.core.config import UserError
from genie.data.folders import Folder
from genie.data.images import read_image
from genie.data.sources.base import Labels, Source, read_sidecar
from genie.data.video import Fit, Frame, fit_frame

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SIDECAR = "actions.json"
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)")


class ImageSequences(Source):
    """A folder is a video where all of its images differ in their number only.

    Images have no times, so each of them is one frame of the store. A number that is missing is a
    cut.
    """

    plural = "image folders"
    about = "folders of numbered images"

    def list(self) -> Sequence[str]:
        """Returns the paths of all such folders; `.` for the folder that is prepared itself."""
        folders = _files_by_folder(self.folder)
        return [folder for folder, names in folders.items() if len(_numbers(names)) > 1]

    def left_out(self) -> Mapping[str, str]:
        """Returns the folders with several numbered images that are no video."""
        return {
            folder: f"is not read as a video, because {fault}"
            for folder, names in _files_by_folder(self.folder).items()
            if (fault := _fault(names)) and _has_several_numbers(names)
        }

    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Reads the images in the order of their numbers, as many a second as the store has."""
        images = self._images(name)
        numbers = list(images)
        step = min(after - before for before, after in pairwise(numbers))
        expected, damaged = numbers[0], []
        with self.folder.fetched(*images.values()) as here:
            for place, (number, image) in enumerate(images.items()):
                try:
                    pixels = fit_frame(read_image(here / image), height, width, fit)
                except UserError as error:
                    damaged.append(str(error).replace(str(here), str(self.folder)))
                    continue
                yield Frame(place, place / fps, 1 / fps, number != expected, pixels)
                expected = number + step
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            raise UserError(f"{damaged[0]}{more}; the frames around it are kept")

    def files(self, name: str) -> Sequence[str]:
        """Returns the images."""
        return list(self._images(name).values())

    def labels(self, name: str) -> Labels:
        """Reads `actions.json` in the folder: an action from each image to the next."""
        return read_sidecar(self.folder, _path(name, SIDECAR))

    def split(self, name: str) -> str | None:
        """Returns the split that the name of a folder states, which may be its own."""
        return super().split(f"{name}/image")

    def _images(self, name: str) -> dict[int, str]:
        files = _files_by_folder(self.folder, name)[name]
        numbers = _numbers(files)
        return {number: _path(name, numbers[number]) for number in sorted(numbers)}


def _path(folder: str, name: str) -> str:
    return str(PurePosixPath(folder) / name)


def _files_by_folder(folder: Folder, below: str = ".") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in folder.files(below):
        path = PurePosixPath(name)
        found.setdefault(str(path.parent), []).append(path.name)
    return found


def _images(names: Sequence[str]) -> list[str]:
    return sorted(name for name in names if Path(name).suffix.lower() in EXTENSIONS)


def _numbers(names: Sequence[str]) -> dict[int, str]:
    """Images by number; none where they differ in more than their number."""
    matches = [] if _fault(names) else map(_NUMBERED.fullmatch, _images(names))
    return {int(match[2]): match[0] for match in matches if match}


def _has_several_numbers(names: Sequence[str]) -> bool:
    return sum(_NUMBERED.fullmatch(name) is not None for name in _images(names)) > 1


def _fault(names: Sequence[str]) -> str | None:
    """Says which images differ in more than their number; None where none do."""
    first, numbers = None, {}
    for name in _images(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            return f"{name} has no number"
        first = first or match
        if (match[1], match[3]) != (first[1], first[3]):
            return f"{first[0]} and {name} differ in more than their number"
        other = numbers.setdefault(int(match[2]), name)
        if other != name:
            return f"{other} and {name} have the same number"
    return None


SOURCE = ImageSequences
