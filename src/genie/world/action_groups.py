"""What each action of a world was measured to do, stored beside its weights."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie.core.config import from_dict, require, to_dict
from genie.core.io import read_bounded, replacing

FILE = "actions.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Directions:
    """The fractions of games that went each way, more than one way if they did."""

    left: float
    right: float
    up: float
    down: float
    still: float


@dataclass(frozen=True)
class ActionGroup:
    """Actions that do the same.

    Attributes:
        actions: the first one stands for all of them.
        name: short, made from the effect; "" where none was found.
        effect: one sentence for players, with its figures.
        told_apart: how often a game of the first action was told from one of any other action:
            0.5 is chance, 1 always.
        directions: of the games.
        pixels: mean movement of a step, right and up.
        distinct: whether it differs from a random other action by more than chance.
    """

    actions: tuple[int, ...]
    name: str
    effect: str
    told_apart: float
    directions: Directions
    pixels: tuple[float, float]
    distinct: bool


@dataclass(frozen=True)
class ActionGroups:
    """All actions of a world in groups, and how they were measured.

    Attributes:
        games: in which each action was held.
        steps: for how many frames.
        guidance: of the sampling, as in `SamplingConfig`.
        groups: those with the clearest effect first.
        told_apart: for each two actions, how often their games were told apart.
    """

    games: int
    steps: int
    guidance: float
    groups: tuple[ActionGroup, ...]
    told_apart: tuple[tuple[float, ...], ...]


def write_groups(folder: Path, groups: ActionGroups) -> Path:
    """Writes the groups into a world's folder and returns the file."""
    with replacing(folder / FILE) as path:
        text = json.dumps(to_dict(groups), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")
    return folder / FILE


def read_groups(folder: Path | None, count: int) -> tuple[ActionGroup, ...]:
    """Returns the groups of a world of `count` actions; none if there is no valid file."""
    if folder is None or not (folder / FILE).is_file():
        return ()
    try:
        groups = from_dict(ActionGroups, json.loads(read_bounded(folder / FILE))).groups
        members = sorted(action for group in groups for action in group.actions)
        whole = members == list(range(count)) and all(group.actions for group in groups)
        require(whole, f"groups: expected each of {count} actions in one group")
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s is ignored: %s", folder / FILE, error)
        return ()
    return groups


def players_groups(folder: Path | None, count: int) -> list[dict[str, Any]]:
    """Returns what players are told of the groups that are distinct: actions, name and effect."""
    return [
        {"actions": list(group.actions), "name": group.name, "effect": group.effect}
        for group in read_groups(folder, count)
        if group.distinct
    ]
