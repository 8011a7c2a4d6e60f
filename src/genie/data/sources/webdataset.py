"""WebDataset archives: tar files whose members are videos, read without unpacking the rest."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from genie.core.config import UserError, require
from genie.data.folders import Folder, LocalFolder
from genie.data.sources.base import SPLITS, Labels, Source, read_sidecar
from genie.data.sources.videos import SIDECAR, is_video
from genie.data.video import Fit, Frame, probe, read_frames

EXTENSION = ".tar"


class _Member(NamedTuple):
    offset: int
    size: int


class _Archive(NamedTuple):
    members: dict[str, _Member]
    fault: str | None


class WebDatasetTars(Source):
    """Every video in a tar file is one, named by the archive and its path in it."""

    plural = "videos in tar files"
    about = f"videos in files ending in {EXTENSION}"

    def list(self) -> Sequence[str]:
        """Returns names such as `shard-000.tar/a/one.mp4`."""
        return [
            f"{tar}/{name}"
            for tar in self._tars()
            for name in self._archive(tar).members
            if is_video(name)
        ]

    def left_out(self) -> Mapping[str, str]:
        """Returns archives that are damaged, and those without a video."""
        faults = {tar: self._archive(tar).fault for tar in self._tars()}
        return {tar: fault for tar, fault in faults.items() if fault}

    def open(self, name: str, *, height: int, width: int, fit: Fit, fps: float) -> Iterator[Frame]:
        """Copies a member out of its archive, decodes it and removes it."""
        with self._unpacked(name) as path:
            try:
                yield from read_frames(path, height=height, width=width, fit=fit)
            except UserError as error:
                told = str(error).replace(str(path), f"{self.folder}/{name}")
                raise UserError(told) from None

    def files(self, name: str) -> Sequence[str]:
        """Returns the archive."""
        return [_parts(name)[0]]

    def fps(self, name: str) -> float | None:
        """Reads the rate from the head of the video."""
        with self._unpacked(name) as path:
            return probe(path).fps

    def labels(self, name: str) -> Labels:
        """Reads the member `<name>.actions.json`, where there is one."""
        tar, member = _parts(name)
        sidecar = str(PurePosixPath(member).with_suffix(SIDECAR))
        if sidecar not in self._archive(tar).members:
            return Labels()
        with self._unpacked(f"{tar}/{sidecar}") as path:
            labels = read_sidecar(LocalFolder(path.parent), path.name)
        return replace(labels, sidecar=f"{tar}/{sidecar}")

    def split(self, name: str) -> str | None:
        """Returns the split that a folder states, or the archive, such as `train-000.tar`."""
        words = re.split(r"[^a-z]+", PurePosixPath(_parts(name)[0]).stem.lower())
        stated = next((SPLITS[word] for word in words if word in SPLITS), None)
        return super().split(name) or stated

    def group(self, name: str) -> str:
        """Returns the archive: all of its videos belong to one shard."""
        return _parts(name)[0]

    @property
    def costly(self) -> bool:
        """Yes: each video that is opened is copied first."""
        return True

    def _tars(self) -> Sequence[str]:
        return sorted(name for name in self.folder.files() if name.lower().endswith(EXTENSION))

    def _archive(self, tar: str) -> _Archive:
        return _archive(self.folder, tar, self.folder.key)

    @contextmanager
    def _unpacked(self, name: str) -> Iterator[Path]:
        """Gives the path of a copy."""
        tar, member = _parts(name)
        found = self._archive(tar).members.get(member)
        require(found is not None, f"{self.folder}/{name}: is not in the archive any more")
        assert found is not None
        with self.folder.work_folder() as here, self.folder.open(tar) as archive:
            path = here / PurePosixPath(member).name
            archive.seek(found.offset)
            with path.open("wb") as copy:
                shutil.copyfileobj(_Stretch(archive, found.size), copy)  # type: ignore[arg-type]
            yield path


class _Stretch:
    """So many bytes of a file."""

    def __init__(self, file: object, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        content = self._file.read(min(size, self._left))  # type: ignore[attr-defined]
        self._left -= len(content)
        return content


def _parts(name: str) -> tuple[str, str]:
    """Returns the archive and the member."""
    tar, extension, member = re.split(
        rf"({re.escape(EXTENSION)})/", name, maxsplit=1, flags=re.IGNORECASE
    )
    return tar + extension, member


# The last argument marks the run, so that nothing is remembered for another one.
@lru_cache(4096)
def _archive(folder: Folder, tar: str, _: str) -> _Archive:
    """Reads the headers of an archive: its files, and why it is not read to its end, if so."""
    members, fault = {}, None
    try:
        with folder.open(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for each in archive:
                hidden = any(part.startswith(".") for part in PurePosixPath(each.name).parts)
                if each.isreg() and not each.issparse() and not hidden:
                    members[each.name] = _Member(each.offset_data, each.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        fault = f"is damaged ({error}); the {len(members)} files before that are used"
    if not fault and not any(map(is_video, members)):
        fault = "holds no video"
    return _Archive(members, fault)


SOURCE = WebDatasetTars
