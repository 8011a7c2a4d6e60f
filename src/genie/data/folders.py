"""Where videos lie: in a folder of this machine, or below an address that fsspec reads."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import IOBase
from pathlib import Path
from typing import Any, TypeVar

from genie.core.config import UserError, require

TRIES = 4
FIRST_WAIT = 0.5
"""Seconds before a failed request is repeated; waits double."""
_REQUESTS = 16
_BLOCK = 2**18
_PREFIX = "fetched-"
_T = TypeVar("_T")


def _new_key() -> str:
    return uuid.uuid4().hex


class Folder(ABC):
    """A tree of files that is read and never changed. It is sent to worker processes.

    A file has a name: its path relative to the folder, with slashes.

    Attributes:
        key: another one for each object, the same in all processes that it is sent to. What was
            read may be remembered under it.
    """

    key: str

    @abstractmethod
    def files(self, below: str = ".") -> Sequence[str]:
        """Returns the names of all files below a folder that are not hidden, in any order."""

    @abstractmethod
    def not_files(self) -> Sequence[str]:
        """Returns what has the name of a file and is a link to nowhere, a pipe or a device."""

    @abstractmethod
    def stats(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Returns size and time of the last change of files, or what else tells of a change."""

    @abstractmethod
    def open(self, name: str) -> IOBase:
        """Opens a file of which only parts are read.

        Raises:
            FileNotFoundError: there is none.
            UserError: it cannot be read.
        """

    @abstractmethod
    def fetched(self, *names: str, keep: bool = False) -> Any:
        """Gives files, by a context manager, in a folder of this machine under their names.

        A file that does not exist is not there either.

        Args:
            names: of the files.
            keep: whether the same files are likely to be asked for next.

        Raises:
            UserError: one cannot be fetched.
        """

    @property
    @abstractmethod
    def far(self) -> bool:
        """Whether each file that is opened takes a request."""

    @abstractmethod
    def work_folder(self) -> Any:
        """Gives an empty folder of this machine, by a context manager."""


@dataclass(frozen=True)
class LocalFolder(Folder):
    """A folder of this machine.

    Args:
        path: of the folder.
        work: folder for temporary files, the system's own when left out.
    """

    path: Path
    work: Path | None = None
    key: str = field(default_factory=_new_key, compare=False, repr=False)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def far(self) -> bool:
        """No."""
        return False

    def files(self, below: str = ".") -> Sequence[str]:
        """Walks the folder once."""
        if below == ".":
            return self._walked[0]
        inside = (path for path in (self.path / below).rglob("*") if path.is_file())
        names = (path.relative_to(self.path).as_posix() for path in inside)
        return [name for name in names if not _is_hidden(name)]

    def not_files(self) -> Sequence[str]:
        """Returns what the walk met."""
        return self._walked[1]

    @cached_property
    def _walked(self) -> tuple[list[str], list[str]]:
        found: tuple[list[str], list[str]] = ([], [])
        for folder, subfolders, names in os.walk(self.path):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in names:
                if not name.startswith("."):
                    path = Path(folder) / name
                    found[not path.is_file()].append(path.relative_to(self.path).as_posix())
        return found

    def stats(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Asks the file system."""
        states = [(self.path / name).stat() for name in names]
        return [(state.st_size, state.st_mtime_ns) for state in states]

    def open(self, name: str) -> IOBase:
        """Opens it as any file."""
        return (self.path / name).open("rb")

    @contextmanager
    def fetched(self, *names: str, keep: bool = False) -> Iterator[Path]:
        """Gives the folder itself."""
        yield self.path

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Makes one and removes it."""
        if self.work is not None:
            self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self.work) as folder:
            yield Path(folder)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "work": self.work, "key": self.key}


@dataclass(frozen=True)
class RemoteFolder(Folder):
    """All files below an address. Each is fetched when it is needed and removed after it.

    Args:
        address: such as `s3://bucket/videos`.
        work: folder for the files that were fetched.
    """

    address: str
    work: Path
    key: str = field(default_factory=_new_key, compare=False, repr=False)

    def __str__(self) -> str:
        return self.address.rstrip("/")

    @property
    def far(self) -> bool:
        """Yes."""
        return True

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system of fsspec, and the address in its own words."""
        import fsspec

        scheme = self.address.partition("://")[0]
        try:
            system, root = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            raise UserError(
                f"{self.address}: {error}; install it, for example by: "
                'pip install "genie-worlds[cloud]"'
            ) from None
        except ValueError:
            raise UserError(
                f"{self.address}: {scheme}:// is not known; give a folder, or an address that "
                "begins with s3://, gs:// or https://"
            ) from None
        return system, root.rstrip("/")

    def files(self, below: str = ".") -> Sequence[str]:
        """Lists the address once, or what is below a folder of it."""
        return list(self._listed if below == "." else self._list(below))

    @cached_property
    def _listed(self) -> dict[str, dict[str, Any]]:
        return self._list(".")

    def _list(self, below: str) -> dict[str, dict[str, Any]]:
        system, root = self._opened
        top = root if below == "." else f"{root}/{below}"
        found: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            fault = f"{self}: cannot be listed"
            found = self._repeated(lambda: system.find(top, detail=True), fault)
        named = {name[len(root) + 1 :]: info for name, info in found.items()}
        shown = {n: info for n, info in named.items() if n and not _is_hidden(n)}
        return dict(sorted(shown.items()))

    def not_files(self) -> Sequence[str]:
        """None: there are no links, pipes and devices."""
        return []

    def stats(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Takes them from the list, and asks for those that it lacks."""
        known = {name: self._listed.get(name, {}) for name in dict.fromkeys(names)}
        lacking = [name for name, info in known.items() if info.get("size") is None]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            known |= dict(zip(lacking, pool.map(self._info, lacking), strict=True))
        marks = {name: (int(info["size"] or 0), _mark(info)) for name, info in known.items()}
        return [marks[name] for name in names]

    def _info(self, name: str) -> dict[str, Any]:
        system, root = self._opened
        return self._repeated(lambda: system.info(f"{root}/{name}"), f"{self}/{name}: not found")

    def open(self, name: str) -> IOBase:
        """Reads parts of it by requests of their own."""
        system, root = self._opened
        where = f"{root}/{name}"
        options = {"block_size": _BLOCK, "cache_type": "readahead"}
        return self._repeated(
            lambda: system.open(where, "rb", **options), f"{self}/{name}: cannot be opened"
        )

    @contextmanager
    def fetched(self, *names: str, keep: bool = False) -> Iterator[Path]:
        """Fetches files; with `keep` they stay until this process fetches others to keep."""
        if not keep:
            with self.work_folder() as folder:
                yield from self._fetched_into(folder, names)
            return
        # One of each process, so that the disk holds no more of them than there are workers.
        mark = hashlib.sha256(repr((self.address, names)).encode()).hexdigest()[:16]
        folder = self.work / f"{_PREFIX}{os.getpid()}-{mark}"
        if not folder.exists():
            for left in self.work.glob(f"{_PREFIX}{os.getpid()}-*"):
                shutil.rmtree(left, ignore_errors=True)
            with self.work_folder() as begun:
                for _ in self._fetched_into(begun, names):
                    begun.rename(folder)
                    begun.mkdir()
        with self._told_by_address(folder):
            yield folder

    def _fetched_into(self, folder: Path, names: Sequence[str]) -> Iterator[Path]:
        with ThreadPoolExecutor(min(_REQUESTS, len(names))) as pool:
            list(pool.map(lambda name: self._fetch(name, folder / name), names))
        with self._told_by_address(folder):
            yield folder

    def _fetch(self, name: str, path: Path) -> None:
        system, root = self._opened
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._repeated(
                lambda: system.get_file(f"{root}/{name}", str(path)),
                f"{self}/{name}: cannot be fetched",
            )

    @contextmanager
    def _told_by_address(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(str(error).replace(str(folder), str(self))) from None

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Makes one and removes it."""
        self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self.work) as folder:
            yield Path(folder)

    def _repeated(self, request: Callable[[], _T], fault: str) -> _T:
        for attempt in range(TRIES):
            try:
                return request()
            except FileNotFoundError:
                raise
            except Exception as error:  # each file system raises its own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if attempt == TRIES - 1 or isinstance(error, UserError | PermissionError):
                    raise UserError(f"{fault} ({_reason(error)})") from None
                time.sleep(FIRST_WAIT * 2**attempt)
        raise AssertionError

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "work": self.work, "key": self.key}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _mark(info: dict[str, Any]) -> int:
    """A number that is another one when the file has changed."""
    known = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "sha256")
    told = [f"{key}={info[key]}" for key in known if info.get(key)]
    digest = hashlib.sha256(";".join(told).encode()).digest()
    return int.from_bytes(digest[:6], "big") if told else 0


def folder_at(place: str | Path, work: Path) -> Folder:
    """Returns a folder of this machine, or one at an address.

    Args:
        place: path or address.
        work: folder for temporary files; it is made when it is needed.

    Raises:
        UserError: there is no such folder.
    """
    if "://" in str(place):
        return RemoteFolder(str(place), work)
    path = Path(place)
    words = "is a file" if path.is_file() else "no such folder"
    require(path.is_dir(), f"{path}: {words}; give the folder that holds the videos")
    return LocalFolder(path, work)
