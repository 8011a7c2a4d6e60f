"""The names of a world's actions, stored beside its weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from genie.core.io import replacing
from genie.serving.limits import RequestRejected, invalid
from genie.world import bundled

FILE = "names.json"
MAX_CHARACTERS = 20
log = logging.getLogger(__name__)


class ActionNames(BaseModel):
    """One name for each action, in order; "" for an action without a name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    names: list[str]


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
        return checked_names((folder / FILE).read_bytes(), count)
    except (OSError, RequestRejected) as error:
        log.warning("%s is ignored: %s", folder / FILE, error)
        return [""] * count


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Writes the names into a world's folder.

    Raises:
        RequestRejected: the folder is read-only.
    """
    try:
        with replacing(folder / FILE) as path:
            path.write_text(json.dumps({"names": list(names)}, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        log.warning("%s cannot be written: %s", folder / FILE, error)
        raise read_only_error() from None


def checked_names(text: bytes, count: int) -> list[str]:
    """Parses `{"names": [...]}` and strips the names.

    Raises:
        RequestRejected: the text is not valid or does not fit a world of `count` actions.
    """
    try:
        names = [name.strip() for name in ActionNames.model_validate_json(text).names]
    except ValidationError:
        raise invalid("names", 'send JSON, {"names": ["left", ...]}') from None
    if len(names) != count:
        raise invalid("names", f"this world has {count} actions, not {len(names)}")
    if any(len(name) > MAX_CHARACTERS or (name and not name.isprintable()) for name in names):
        raise invalid("names", f"at most {MAX_CHARACTERS} characters each, without line breaks")
    return names


def read_only_error() -> RequestRejected:
    """Returns the error of a server that stores no names for this world."""
    words = "This server does not save names for this world; they stay in this browser."
    return RequestRejected(403, "names", words)
