"""Arrays computed from the frames of a store, such as tokens and latent actions, kept beside them.

- `derived/NAME.npy`: a whole array, one row per frame.
- `derived/NAME.pieces/`: rows of one that is still being computed; each file is whole.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from genie.core.config import UserError, require
from genie.core.io import replacing

Span = tuple[int, int]
"""First row of some, and the row after the last one."""


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
        return self._path(name).exists()

    def write(self, name: str, array: np.ndarray | Iterable[np.ndarray]) -> None:
        """Keeps an array with one row per frame; whole or not at all.

        Args:
            name: of the array.
            array: shape (N, ...), or pieces of it in order.

        Raises:
            UserError: the number of rows is not the number of frames, or the folder is read-only.
        """
        pieces = [array] if isinstance(array, np.ndarray) else array
        with self._writing(), replacing(self._path(name)) as part:
            _write_rows(part, pieces, self._rows)

    def read(self, name: str) -> np.ndarray:
        """Returns an array written before, mapped from the disk, read-only.

        Raises:
            UserError: there is none of this name.
        """
        path = self._path(name)
        if not path.exists():
            raise UserError(f"{self._store}: holds no array {name!r}; write it first")
        return np.load(path, mmap_mode="r")

    def touch(self, name: str) -> None:
        """Notes that an array is still in use; a store that cannot be written to stays as it is."""
        with suppress(OSError):
            os.utime(self._path(name))

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
        with self._writing(), replacing(self._piece_path(name, (first, first + len(rows)))) as part:
            np.save(part, rows)

    def join_pieces(self, name: str, spans: Iterable[Span]) -> None:
        """Makes one array of its pieces, given by their rows in order, and deletes them.

        Raises:
            FileNotFoundError: a piece is missing.
        """
        self.write(name, (np.load(self._piece_path(name, span)) for span in spans))
        self.drop_pieces(name)

    def drop_pieces(self, name: str) -> None:
        """Deletes the pieces of an array, if there are any."""
        shutil.rmtree(self._pieces_path(name), ignore_errors=True)

    def _path(self, name: str) -> Path:
        require(re.fullmatch(r"\w[\w.-]*", name) is not None, f"not a name for an array: {name!r}")
        return self.folder / f"{name}.npy"

    def _pieces_path(self, name: str) -> Path:
        return self._path(name).with_suffix(".pieces")

    def _piece_path(self, name: str, span: Span) -> Path:
        return self._pieces_path(name) / f"{span[0]}-{span[1]}.npy"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            raise UserError(
                f"{self._store}: cannot be written to; copy the store elsewhere"
            ) from None


def _write_rows(path: Path, pieces: Iterable[np.ndarray], rows: int) -> None:
    written, header = 0, None
    with path.open("wb") as file:
        for piece in pieces:
            if header is None:
                header = {
                    "descr": np.lib.format.dtype_to_descr(piece.dtype),
                    "fortran_order": False,
                }
                header["shape"] = (rows, *piece.shape[1:])
                np.lib.format.write_array_header_2_0(file, header)
                dtype, tail = piece.dtype, piece.shape[1:]
            require(
                piece.dtype == dtype and piece.shape[1:] == tail, "pieces differ in type or shape"
            )
            file.write(np.ascontiguousarray(piece).data)
            written += len(piece)
    require(
        written == rows, f"a cached array has one row per frame: expected {rows}, got {written}"
    )
