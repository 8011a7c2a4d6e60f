"""Games that outlive their connection or server: signed resume tokens, and what clients were told.

A game is a prompt, a seed, and actions with their sampling. A client that has them, and a token of
any replica with the same key, continues the game on any other. Most of it need not be played again:
every few steps a server keeps the state, in memory or in a folder that the replicas share.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import from_dict, require, to_dict
from genie.world.kept_states import KEEP_EVERY, KeptState, StateFolder, StateMemory
from genie.world.maskgit import SamplingConfig
from genie.world.replay import SamplingChange, compress_changes

SHORTEST_KEY = 16
"""Characters."""


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
            StateMemory(games) if folder is None else StateFolder(Path(folder), self._mac, minutes)
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


@lru_cache(64)
def _text(sampling: SamplingConfig) -> bytes:
    return json.dumps(to_dict(sampling), sort_keys=True).encode()
