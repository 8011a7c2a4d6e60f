"""The names of a world's actions, stored beside its weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genie.core.config import UserError, from_dict, require
from genie.core.io import read_bounded, replacing
from genie.world import bundled

FILE = "names.json"
MAX_CHARACTERS = 20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActionNames:
    """One name for each action, in order; "" for an action without a name."""

    names: tuple[str, ...]


def writable_folder(world: str | Path) -> Path | None:
    """Returns the folder of a world if it is the user's own: not bundled, not from the Hub."""
    folder = Path(world)
    is_bundled = folder.resolve().is_relative_to(bundled.HERE.resolve())
    return folder if folder.is_dir() and not is_bundled else None


def read_names(folder: Path | None, count: int) -> list[str]:
    """Returns the `count` names in a world's folder; empty names if there is no valid file."""
    if folder is None or not (folder / FILE).is_file():
        return [""] * count
    try:
        return parse_names(read_bounded(folder / FILE), count)
    except (OSError, UserError) as error:
        log.warning("%s is ignored: %s", folder / FILE, error)
        return [""] * count


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Writes the names into a world's folder.

    Raises:
        OSError: the folder is read-only.
    """
    with replacing(folder / FILE) as path:
        path.write_text(json.dumps({"names": list(names)}, ensure_ascii=False) + "\n", "utf-8")


def parse_names(text: bytes, count: int) -> list[str]:
    """Parses `{"names": [...]}` and strips the names.

    Raises:
        UserError: the text is not valid or does not fit a world of `count` actions.
    """
    try:
        names = [name.strip() for name in from_dict(ActionNames, json.loads(text)).names]
    except (ValueError, RecursionError):
        raise UserError('names: expected JSON, {"names": ["left", ...]}') from None
    require(len(names) == count, f"names: this world has {count} actions, not {len(names)}")
    right = all(len(name) <= MAX_CHARACTERS and (not name or name.isprintable()) for name in names)
    require(right, f"names: at most {MAX_CHARACTERS} characters each, without line breaks")
    return names
