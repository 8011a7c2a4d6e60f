"""Games that outlive their connection or server: signed resume tokens, and states that are kept.

A game is a prompt, a seed, and actions with their sampling. A client that has them, and a token of
any replica with the same key, continues the game on any other. Most of it need not be played again:
every few steps a server keeps the state, in memory or in a folder that the replicas share.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from genie.core.config import UserError, from_dict, require, to_dict
from genie.core.io import read_bounded
from genie.world.maskgit import SamplingConfig
from genie.world.replay import SamplingChange, compress_changes

if TYPE_CHECKING:
    from genie.world.state import State

KEEP_EVERY = 8
"""Steps between two tokens of a game, and between two of its states that are kept."""
SHORTEST_KEY = 16
"""Characters."""
MOST_BYTES = 2**30
"""Of a kept state."""
MAC_BYTES = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a game begins with.

    Attributes:
        world: its hash, as of `genie.world.replay.world_hash`.
        prompt: uint8 (H, W, 3) or (T, H, W, 3).
        seed: of all random numbers.
    """

    world: str
    prompt: np.ndarray
    seed: int

    @cached_property
    def prompt_hash(self) -> str:
        """SHA-256 of the prompt's shape and pixels, in hexadecimal."""
        return hashlib.sha256(repr(self.prompt.shape).encode() + self.prompt.tobytes()).hexdigest()


@dataclass(frozen=True)
class Token:
    """What a resume token says.

    Attributes:
        game: random name of the game.
        world, prompt: hashes of the world and the prompt.
        seed: of the game.
        steps: number of steps that the token covers.
        digest: of the actions of these steps and their sampling.
        expires: seconds since 1970.
    """

    game: str
    world: str
    prompt: str
    seed: int
    steps: int
    digest: str
    expires: int


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


class GameLog:
    """What a client was told of its game, and the digest of what was played.

    Args:
        handover: of the replica.
        origin: of the game.
        game: its random name.
    """

    def __init__(self, handover: Handover, origin: Origin, game: str) -> None:
        self.game, self.origin, self._handover = game, origin, handover
        self._told, self._cut = -1, False
        self._sampling: SamplingConfig | None = None
        self._digested = 0, b""

    def branch(self) -> GameLog:
        """Returns the log of a copy of the game, of which nothing was told."""
        return GameLog(self._handover, self.origin, secrets.token_hex(16))

    def told(self, steps: int, sampling: Sequence[SamplingConfig]) -> None:
        """Notes that the client knows these steps."""
        self._told, self._sampling = steps, sampling[-1] if sampling else None

    def forget(self) -> None:
        """Tells everything again in the next note."""
        self._told, self._sampling = -1, None

    def rewind(self, steps: int) -> None:
        """Notes that only the first steps are left."""
        self._cut = self._cut or steps < self._told
        self._told, self._sampling = min(self._told, steps), None
        if self._digested[0] > steps:
            self._digested = 0, b""

    def digest(self, actions: Sequence[int], sampling: Sequence[SamplingConfig]) -> str:
        """Returns the digest of the steps so far; only those that are new take time."""
        done, digest = self._digested if self._digested[0] <= len(actions) else (0, b"")
        for action, settings in zip(actions[done:], sampling[done:], strict=True):
            digest = hashlib.sha256(b"%s %d %s" % (digest, action, _text(settings))).digest()
        self._digested = len(actions), digest
        return digest.hex()

    def news(
        self, step: int, actions: Sequence[int], sampling: Sequence[SamplingConfig]
    ) -> dict[str, Any] | None:
        """Returns what the client does not know yet, as a note, or None.

        Args:
            step: number of steps played.
            actions: of these steps, and perhaps of later ones.
            sampling: of each action.
        """
        if step <= self._told and not self._cut:
            return None
        first = max(0, self._told)
        changes = [
            to_dict(SamplingChange(first + change.step, change.sampling))
            for change in compress_changes(sampling[first:step])
            if change.step or change.sampling != self._sampling
        ]
        note = {"type": "resume", "from": first, "actions": list(actions[first:step])}
        note |= {"sampling": changes} if changes else {}
        if step // KEEP_EVERY > self._told // KEEP_EVERY:
            token = self._handover.token_of(self, actions[:step], sampling[:step])
            note |= {"token": token, "hash": self.origin.world}
        self._told, self._cut = step, False
        self._sampling = sampling[step - 1] if step else None
        return note

    def keep(self, actions: Sequence[int], sampling: Sequence[SamplingConfig], state: Any) -> None:
        """Keeps the state after these actions; it does not wait for the disk."""
        self._handover.put(self, len(actions), self.digest(actions, sampling), state)


class Handover:
    """Tokens and kept states of one replica.

    Args:
        key: secret that all replicas share; None makes one that no other has.
        folder: that all replicas share; None keeps states in memory, for this server only.
        minutes: how long a token is valid and a state in the folder is kept.
        clock: seconds since 1970.
        games: how many have states in memory; those that were played last.

    Raises:
        UserError: the key is too short, or there is a folder and no key.
    """

    def __init__(
        self,
        key: str | None = None,
        folder: str | Path | None = None,
        minutes: float = 60,
        clock: Callable[[], float] = time.time,
        games: int = 16,
    ) -> None:
        words = "make one with: openssl rand -hex 32"
        long = key is None or len(key) >= SHORTEST_KEY
        require(long, f"resume key: must have at least {SHORTEST_KEY} characters; {words}")
        require(
            folder is None or key is not None,
            f"handover: servers that share {folder} need the same resume key; {words}",
        )
        secret = secrets.token_bytes(32) if key is None else key.encode()
        self._key = hashlib.sha256(b"genie resume " + secret).digest()
        self._seconds, self._clock = minutes * 60, clock
        self._states = (
            _StateMemory(games)
            if folder is None
            else _StateFolder(Path(folder), self._mac, minutes)
        )

    def resume(
        self,
        token: str,
        origin: Origin,
        actions: Sequence[int],
        sampling: Sequence[SamplingConfig],
    ) -> tuple[GameLog, KeptState | None]:
        """Begins a game, or continues one.

        Args:
            token: of this or another replica; "" for a game that has none.
            origin: of the game, as the client names it.
            actions: of the client; there may be more than the token covers.
            sampling: of each action.

        Returns:
            The log of the game, and the newest state that fits these actions, if one was kept.

        Raises:
            UserError: the token is not valid, or is of another game.
        """
        if not token:
            return GameLog(self, origin, secrets.token_hex(16)), None
        claims = self.read(token)
        words = "resume: the token is of a game with another"
        require(claims.world == origin.world, f"{words} world, training or dtype")
        require(claims.prompt == origin.prompt_hash, f"{words} prompt")
        require(claims.seed == origin.seed, f"{words} seed")
        game = GameLog(self, origin, claims.game)
        played = actions[: claims.steps], sampling[: claims.steps]
        same = len(played[0]) == claims.steps and game.digest(*played) == claims.digest
        require(same, f"{words} list of actions")
        game.told(len(actions), sampling)
        return game, self._kept(claims.game, origin, actions, sampling)

    def token_of(
        self, game: GameLog, actions: Sequence[int], sampling: Sequence[SamplingConfig]
    ) -> str:
        """Returns a token for a game after these actions."""
        about, expires = game.origin, int(self._clock() + self._seconds)
        played = len(actions), game.digest(actions, sampling)
        claims = Token(game.game, about.world, about.prompt_hash, about.seed, *played, expires)
        text = base64.urlsafe_b64encode(json.dumps(asdict(claims)).encode())
        return f"{text.decode()}.{self._mac(text).hex()}"

    def read(self, token: str) -> Token:
        """Returns what a token says.

        Raises:
            UserError: it was not signed with this key, was changed, or has expired.
        """
        text, _, mac = token.partition(".")
        signed = hmac.compare_digest(self._mac(text.encode()).hex().encode(), mac.encode())
        words = "was changed or signed with another key; replay the game without it"
        require(signed, f"resume: the token {words}")
        claims = from_dict(Token, json.loads(base64.urlsafe_b64decode(text)), "resume")
        valid = self._clock() < claims.expires
        require(valid, "resume: the token has expired; replay the game without it")
        return claims

    def put(self, game: GameLog, step: int, digest: str, state: Any) -> None:
        """Keeps a state; in a folder as soon as those before it are written."""
        self._states.put(game.game, _about(game.origin, step, digest), state)

    def close(self) -> None:
        """Waits until all states are written."""
        self._states.close()

    def _kept(
        self,
        game: str,
        origin: Origin,
        actions: Sequence[int],
        sampling: Sequence[SamplingConfig],
    ) -> KeptState | None:
        for about, tensors in self._states.read(game):
            step = int(about["step"])
            digest = GameLog(self, origin, game).digest(actions[:step], sampling[:step])
            if step <= len(actions) and about == _about(origin, step, digest):
                return KeptState(step, tensors)
        return None

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")


def _about(origin: Origin, step: int, digest: str) -> dict[str, str]:
    """Returns what is written beside a state: it must be that of the game which is continued."""
    about = {"world": origin.world, "prompt": origin.prompt_hash, "seed": str(origin.seed)}
    return {**about, "step": str(step), "digest": digest}


class _StateMemory:
    """The last two states of the games that were played last.

    The snapshots of a game that is played hold the same states, so only games that ended take
    memory. Two threads may use it: what is read never changes.
    """

    def __init__(self, games: int) -> None:
        self._most = games
        self._games: dict[str, tuple[tuple[dict[str, str], Any], ...]] = {}

    def put(self, game: str, about: dict[str, str], state: Any) -> None:
        self._games[game] = (*self._games.pop(game, ())[-1:], (about, state))
        if len(self._games) > self._most:
            del self._games[next(iter(self._games))]

    def read(self, game: str) -> Iterator[tuple[dict[str, str], dict[str, torch.Tensor]]]:
        """Yields the states of a game, the newest first."""
        for about, state in reversed(self._games.get(game, ())):
            yield about, dict(_tensors(state))

    def close(self) -> None:
        self._games.clear()


class _StateFolder:
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


@lru_cache(64)
def _text(sampling: SamplingConfig) -> bytes:
    return json.dumps(to_dict(sampling), sort_keys=True).encode()


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
