"""States that are kept for games that outlive their connection or server: in memory or in a folder.

The folder is one that all replicas share. Its files are signed with their key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from genie.core.config import UserError, require
from genie.core.io import read_bounded

if TYPE_CHECKING:
    from genie.world.state import State

KEEP_EVERY = 8
"""Steps between two tokens of a game, and between two of its states that are kept."""
MOST_BYTES = 2**30
"""Of a kept state."""
MAC_BYTES = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptState:
    """A state that a replica kept.

    Attributes:
        step: of the game.
        tensors: by their place in the state.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]

    def state(self, like: State) -> State:
        """Returns the state.

        Args:
            like: a state of the same world, which tells the structure and the device.

        Raises:
            UserError: a tensor has another shape or type than in this world.
        """
        return _filled(like, "", self.tensors)


def thin_snapshots(snapshots: tuple[tuple[int, State], ...]) -> tuple[tuple[int, State], ...]:
    """Drops snapshots, the more the older they are.

    A snapshot stays while it is no older than twice the largest power of two that divides its step.
    So a game of n steps has about log2(n) snapshots, and undoing d steps means playing fewer than
    max(`KEEP_EVERY`, 2 d) steps again. The first snapshot always stays.

    Args:
        snapshots: (step, state) in order; the last one is the current state.
    """
    now = snapshots[-1][0]
    return tuple(
        (step, state) for step, state in snapshots if step == 0 or now - step <= 2 * (step & -step)
    )


class StateMemory:
    """The last two states of the games that were played last.

    The snapshots of a game that is played hold the same states, so only games that ended take
    memory. Two threads may use it: what is read never changes.
    """

    def __init__(self, games: int) -> None:
        self._most = games
        self._games: dict[str, tuple[tuple[dict[str, str], Any], ...]] = {}

    def put(self, game: str, about: dict[str, str], state: Any) -> None:
        """Keeps a state, and what it is of, in place of the last but one."""
        self._games[game] = (*self._games.pop(game, ())[-1:], (about, state))
        if len(self._games) > self._most:
            del self._games[next(iter(self._games))]

    def read(self, game: str) -> Iterator[tuple[dict[str, str], dict[str, torch.Tensor]]]:
        """Yields the states of a game, the newest first."""
        for about, state in reversed(self._games.get(game, ())):
            yield about, dict(_tensors(state))

    def close(self) -> None:
        """Forgets all states."""
        self._games.clear()


class StateFolder:
    """The last two states of each game as files, signed, and written by a thread of its own.

    Two, because a client may not know the last steps before its server died. A state that
    a newer one overtakes while the disk is slow is not written.
    """

    def __init__(self, folder: Path, mac: Callable[[bytes], bytes], minutes: float) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"handover: {folder} cannot be made ({error.strerror})") from None
        require(os.access(folder, os.W_OK), f"handover: {folder} cannot be written to")
        self._folder, self._mac, self._seconds = folder, mac, minutes * 60
        self._waiting: dict[str, tuple[dict[str, str], Any]] = {}
        self._changed = threading.Condition()
        self._closed, self._cleaned, self._failed = False, 0.0, False
        self._thread = threading.Thread(target=self._write_all, name="genie-handover", daemon=True)
        self._thread.start()

    def put(self, game: str, about: dict[str, str], state: Any) -> None:
        """Keeps a state, and what it is of, as soon as those before it are written."""
        with self._changed:
            self._waiting[game] = about, state
            self._changed.notify()

    def read(self, game: str) -> Iterator[tuple[dict[str, str], dict[str, torch.Tensor]]]:
        """Yields the states of a game, the newest first; damaged and foreign files are left out."""
        found = []
        for slot in range(2):
            with contextlib.suppress(OSError, UserError, SafetensorError, ValueError):
                found.append(self._read(self._path(game, slot)))
        yield from sorted(found, key=lambda each: -int(each[0]["step"]))

    def close(self) -> None:
        """Waits until all states are written, for five seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    def _read(self, path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        data = read_bounded(path, MOST_BYTES)
        mac, content = data[:MAC_BYTES], data[MAC_BYTES:]
        require(hmac.compare_digest(mac, self._mac(content)), f"{path}: is not signed")
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return header["__metadata__"], load(content)

    def _path(self, game: str, slot: int) -> Path:
        return self._folder / f"{game}-{slot}.state"

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                game = next(iter(self._waiting))
                about, state = self._waiting.pop(game)
            try:
                self._write(game, about, state)
                self._clean()
                self._failed = False
            except Exception:
                if not self._failed:  # once, not eight times a second while a disk is full
                    log.exception("states for other replicas cannot be written")
                self._failed = True

    def _write(self, game: str, about: dict[str, str], state: Any) -> None:
        content = save(dict(_tensors(state)), about)
        path = self._path(game, int(about["step"]) // KEEP_EVERY % 2)
        # It need not survive a power cut, so nothing is flushed.
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(self._mac(content) + content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _clean(self) -> None:
        """Deletes states whose tokens have expired, once a minute."""
        now = time.time()
        if now < self._cleaned + 60:
            return
        self._cleaned = now
        for path in [*self._folder.glob("*.state"), *self._folder.glob("*.part")]:
            with contextlib.suppress(OSError):  # another replica deleted it
                if path.stat().st_mtime < now - self._seconds:
                    path.unlink()


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Returns the named parts of a dataclass or a tuple."""
    if isinstance(value, tuple):
        return [(str(index), part) for index, part in enumerate(value)]
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    return [(field.name, getattr(value, field.name)) for field in fields]


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors of nested dataclasses and tuples by their place."""
    if isinstance(value, torch.Tensor):
        yield name, value.detach().cpu().contiguous()
    for part, content in _parts(value):
        yield from _tensors(content, f"{name}.{part}" if name else part)


def _filled(like: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Returns a value of the structure of `like` with other tensors."""
    if isinstance(like, torch.Tensor):
        tensor = tensors.get(name)
        fits = tensor is not None and (tensor.shape, tensor.dtype) == (like.shape, like.dtype)
        require(fits, f"resume: the kept state has another {name}; replay the game without it")
        assert tensor is not None
        return tensor.to(like.device)
    parts = {
        part: _filled(content, f"{name}.{part}" if name else part, tensors)
        for part, content in _parts(like)
    }
    if isinstance(like, tuple):
        return tuple(parts.values())
    return dataclasses.replace(like, **parts) if parts else like
