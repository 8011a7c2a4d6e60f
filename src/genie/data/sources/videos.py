"""Video files and GIFs, with the sidecars that `genie record` writes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from genie.data.sources.base import Labels, Source, read_sidecar
from genie.data.video import Fit, Frame, probe, read_frames

EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")
SIDECAR = ".actions.json"


class VideoFiles(Source):
    """Every file with the extension of a video is one."""

    plural = "video files"
    about = f"files ending in {', '.join(EXTENSIONS)}"

    def list(self) -> Sequence[str]:
        """Returns the paths of all video files, at any depth."""
        return [name for name in self.folder.files() if is_video(name)]

    def left_out(self) -> Mapping[str, str]:
        """Returns what has the name of a video and cannot be opened as a file."""
        reason = "is a link to nowhere, a pipe or a device"
        return {name: reason for name in self.folder.not_files() if is_video(name)}

    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Decodes a file with its own times."""
        with self.folder.fetched(name) as here:
            yield from read_frames(here / name, height=height, width=width, fit=fit)

    def files(self, name: str) -> Sequence[str]:
        """Returns the one file; sidecars may be added later."""
        return [name]

    def fps(self, name: str) -> float | None:
        """Reads the rate from the head of the file."""
        with self.folder.fetched(name) as here:
            return probe(here / name).fps

    def labels(self, name: str) -> Labels:
        """Reads `<name>.actions.json` beside the file."""
        return read_sidecar(self.folder, str(PurePosixPath(name).with_suffix(SIDECAR)))


def is_video(name: str) -> bool:
    """Whether a file has the extension of a video."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


SOURCE = VideoFiles
