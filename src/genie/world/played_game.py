"""What a client keeps of a game so that another server can continue it (`world/handover.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PlayedGame:
    """A game as the notes of its server tell it.

    Attributes:
        prompt: index among the world's prompts.
        seed: of all random numbers; None until the server has chosen one.
        actions: latent ones of all steps so far.
        sampling: its changes, as in `genie.world.replay.Replay`.
        token: the newest resume token; "" for none.
        hash: of the world; None until a note has told it.
    """

    prompt: int
    seed: int | None = None
    actions: list[int] = field(default_factory=list)
    sampling: list[dict[str, Any]] = field(default_factory=list)
    token: str = ""
    hash: str | None = None

    def learn(self, note: Mapping[str, Any]) -> None:
        """Takes in a note of the type "resume", which replaces all from its first step on."""
        first = note["from"]
        self.actions[first:] = note["actions"]
        self.sampling = [change for change in self.sampling if change["step"] < first]
        self.sampling += note.get("sampling", [])
        if "token" in note:
            self.token, self.hash = note["token"], note["hash"]

    def start(self) -> dict[str, Any]:
        """Returns the fields of a start message that begins the game, or continues it."""
        fields = {"prompt": self.prompt, "actions": self.actions, "sampling": self.sampling}
        known = {"seed": self.seed, "hash": self.hash}
        told = {name: value for name, value in known.items() if value is not None}
        return {**fields, **told, "resume": self.token}
