"""Video files and GIFs, with the sidecars that `genie record` writes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from genie.data.sources.base import Labels, Source, not_files, read_sidecar, visible_folders
from genie.data.video import Fit, Frame, probe, read_frames

EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")
SIDECAR = ".actions.json"


class VideoFiles(Source):
    """Every file with the extension of a video is one."""

    plural = "video files"
    about = f"files ending in {', '.join(EXTENSIONS)}"

    def list(self) -> Sequence[str]:
        """Returns the paths of all video files, at any depth."""
        return [
            (folder / name).relative_to(self.root).as_posix()
            for folder, names in visible_folders(self.root)
            for name in names
            if Path(name).suffix.lower() in EXTENSIONS
        ]

    def left_out(self) -> Mapping[str, str]:
        """Returns what has the name of a video and cannot be opened as a file."""
        return {
            path.relative_to(self.root).as_posix(): "is a link to nowhere, a pipe or a device"
            for path in not_files(self.root)
            if path.suffix.lower() in EXTENSIONS
        }

    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Decodes a file with its own times."""
        return read_frames(self.root / name, height=height, width=width, fit=fit)

    def files(self, name: str) -> Sequence[Path]:
        """Returns the one file; sidecars may be added later."""
        return [self.root / name]

    def fps(self, name: str) -> float | None:
        """Reads the rate from the head of the file."""
        return probe(self.root / name).fps

    def labels(self, name: str) -> Labels:
        """Reads `<name>.actions.json` beside the file."""
        return read_sidecar(self.root, (self.root / name).with_suffix(SIDECAR))


SOURCE = VideoFiles
