"""Arrays computed from the frames of a store, such as tokens and latent actions, kept beside them.

- `derived/NAME.npy`: an array that was written at once, one row per frame.
- `derived/NAME.pieces/`: one that is computed in pieces, by any number of processes and machines.
  Each file holds some of the rows and is whole. `whole.json` lists them; it is written last, so an
  array that has one is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError, require
from genie.core.io import replacing, save_array

Span = tuple[int, int]
"""First row of some, and the row after the last one."""


MARKER = "whole.json"
OPEN_PIECES = 256
"""Files of one array that are mapped at a time: a process may hold only so many open."""


class ArrayInPieces:
    """An array whose rows lie in several files; rows are read like those of a numpy array.

    Args:
        paths: the files, in the order of their rows.
        stops: row after the last one of each file.

    Attributes:
        shape: of the whole array, (N, ...).
        dtype: of its values.
    """

    def __init__(self, paths: Sequence[Path], stops: Sequence[int]) -> None:
        self.paths, self.stops = list(paths), np.asarray(stops, np.int64)
        self._open: Callable[[int], np.ndarray] = lru_cache(OPEN_PIECES)(self._map)
        first = self._open(0)
        self.shape, self.dtype = (int(self.stops[-1]), *first.shape[1:]), first.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayInPieces, (self.paths, self.stops.tolist())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Returns a copy of some rows, given by their numbers in an array of any shape."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        wanted = np.asarray(rows)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        out = np.empty((*wanted.shape, *self.shape[1:]), self.dtype)
        pieces = np.searchsorted(self.stops, wanted, side="right")
        for piece in np.unique(pieces):
            here = pieces == piece
            begin = self.stops[piece - 1] if piece else 0
            out[here] = self._open(int(piece))[wanted[here] - begin]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.concatenate([self._map(piece) for piece in range(len(self.paths))])
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _map(self, piece: int) -> np.ndarray:
        return np.load(self.paths[piece], mmap_mode="r")


Rows = np.ndarray | ArrayInPieces
"""An array with one row per frame, wherever it lies."""


class ArrayCache:
    """The arrays of one store, by name. A name has letters, digits, dots, dashes and underscores.

    Args:
        store: folder of the store.
        rows: of each array: the number of frames of the store.
    """

    def __init__(self, store: Path, rows: int) -> None:
        self.folder = store / "derived"
        self._store, self._rows = store, rows

    def has(self, name: str) -> bool:
        """Whether an array of this name was written."""
        return self._path(name).exists() or (self._pieces_path(name) / MARKER).exists()

    def write(self, name: str, array: np.ndarray) -> None:
        """Keeps an array (N, ...) with one row per frame; whole or not at all.

        Raises:
            UserError: the number of rows is not the number of frames, or the folder is read-only.
        """
        self._check_rows(len(array))
        with self._writing():
            save_array(self._path(name), array)

    def read(self, name: str) -> Rows:
        """Returns an array written before, mapped from the disk, read-only.

        Raises:
            UserError: there is none of this name.
        """
        path, folder = self._path(name), self._pieces_path(name)
        if path.exists():
            return np.load(path, mmap_mode="r")
        if not (folder / MARKER).exists():
            raise UserError(f"{self._store}: holds no array {name!r}; write it first")
        spans = json.loads((folder / MARKER).read_text())["pieces"]
        paths = [self._piece_path(name, (first, stop)) for first, stop in spans]
        return ArrayInPieces(paths, [stop for _, stop in spans])

    def touch(self, name: str) -> None:
        """Notes that an array is still in use; a store that cannot be written to stays as it is."""
        for path in (self._path(name), self._pieces_path(name)):
            with suppress(OSError):
                os.utime(path)

    def trim(self, kind: str, keep: int) -> None:
        """Deletes arrays named `kind`, a dash and a mark, but for those last written or touched.

        Pieces of an array that was never finished count as one.

        Args:
            kind: all of the name before the last dash.
            keep: how many stay, at least 1.
        """
        require(keep >= 1, f"keep: {keep}, must be at least 1")
        ages: list[tuple[int, Path]] = []
        for path in self.folder.glob(f"{kind}-*"):
            if path.suffix in (".npy", ".pieces") and path.stem.rpartition("-")[0] == kind:
                with suppress(FileNotFoundError):  # another run trims at the same time
                    ages.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(ages)[:-keep]:
            if path.suffix == ".pieces":
                self.drop_pieces(path.stem)
            else:
                path.unlink(missing_ok=True)

    def pieces(self, name: str) -> set[Span]:
        """Which rows of an array were written before it was whole."""
        files = self._pieces_path(name).glob("[0-9]*-*.npy")
        spans = (path.stem.split("-") for path in files)
        return {(int(first), int(stop)) for first, stop in spans}

    def write_piece(self, name: str, first: int, rows: np.ndarray) -> None:
        """Keeps some rows of an array that is being computed; whole or not at all.

        Args:
            name: of the array.
            first: index of the first of the rows.
            rows: shape (n, ...).

        Raises:
            UserError: the folder is read-only.
        """
        with self._writing():
            save_array(self._piece_path(name, (first, first + len(rows))), rows)

    def finish(self, name: str, spans: Sequence[Span]) -> None:
        """Declares an array whole whose pieces are all there, given by their rows in order.

        Any process may do so, and several at once: all write the same.

        Raises:
            FileNotFoundError: a piece is missing.
            UserError: the pieces are not all rows, or the folder is read-only.
        """
        require(
            all(before[1] == after[0] for before, after in pairwise(((0, 0), *spans))),
            f"{name}: its pieces do not follow each other: {list(spans)[:4]}",
        )
        self._check_rows(spans[-1][1] if spans else 0)
        there = self.pieces(name)
        if missing := set(spans) - there:
            raise FileNotFoundError(self._piece_path(name, min(missing)))
        with self._writing(), replacing(self._pieces_path(name) / MARKER) as part:
            part.write_text(json.dumps({"rows": self._rows, "pieces": list(spans)}) + "\n")
        for span in there - set(spans):  # of another division
            self._piece_path(name, span).unlink(missing_ok=True)

    def drop_pieces(self, name: str) -> None:
        """Deletes the pieces of an array, if there are any."""
        (self._pieces_path(name) / MARKER).unlink(missing_ok=True)  # first: it is whole no more
        shutil.rmtree(self._pieces_path(name), ignore_errors=True)

    def _path(self, name: str) -> Path:
        require(re.fullmatch(r"\w[\w.-]*", name) is not None, f"not a name for an array: {name!r}")
        return self.folder / f"{name}.npy"

    def _pieces_path(self, name: str) -> Path:
        return self._path(name).with_suffix(".pieces")

    def _piece_path(self, name: str, span: Span) -> Path:
        return self._pieces_path(name) / f"{span[0]}-{span[1]}.npy"

    def _check_rows(self, rows: int) -> None:
        require(
            rows == self._rows,
            f"a cached array has one row per frame: expected {self._rows}, got {rows}",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            raise UserError(
                f"{self._store}: cannot be written to; copy the store elsewhere"
            ) from None
