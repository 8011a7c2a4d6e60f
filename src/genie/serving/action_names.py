"""What the buttons of a world are called, kept beside its weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from genie.core.io import replacing
from genie.serving.limits import RequestRejected
from genie.world import bundled

FILE = "names.json"
LONGEST = 20  # characters of a name
log = logging.getLogger(__name__)


class ActionNames(BaseModel):
    """One name for each button, in the order of the actions; "" where there is none."""

    model_config = ConfigDict(extra="forbid", strict=True)
    names: list[str]


def writable_folder(world: str | Path) -> Path | None:
    """Returns the folder of a world that is the user's: not bundled, and no copy from the Hub."""
    folder = Path(world)
    ours = folder.resolve().is_relative_to(bundled.HERE.resolve())
    return folder if folder.is_dir() and not ours else None


def read_names(folder: Path | None, count: int) -> list[str]:
    """Returns the names in a world's folder; `count` blanks where no whole file is."""
    if folder is None or not (folder / FILE).is_file():
        return [""] * count
    try:
        return checked_names((folder / FILE).read_bytes(), count)
    except (OSError, RequestRejected) as error:
        log.warning("%s is not read: %s", folder / FILE, error)
        return [""] * count


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Writes names into a world's folder, all of them or none.

    Raises:
        Refused: the folder can't be written.
    """
    try:
        with replacing(folder / FILE) as path:
            path.write_text(json.dumps({"names": list(names)}, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        log.warning("%s can't be written: %s", folder / FILE, error)
        raise read_only_error() from None


def checked_names(text: bytes, count: int) -> list[str]:
    """Reads `{"names": [...]}`, and takes blanks off the names' ends.

    Raises:
        Refused: it is something else, or does not fit the world; the message says what to send.
    """
    try:
        names = [name.strip() for name in ActionNames.model_validate_json(text).names]
    except ValidationError:
        raise RequestRejected(422, "names", 'names: send JSON, {"names": ["left", ...]}.') from None
    if len(names) != count:
        raise RequestRejected(
            422, "names", f"names: this world has {count} buttons, not {len(names)}."
        )
    if any(len(name) > LONGEST or (name and not name.isprintable()) for name in names):
        words = f"names: at most {LONGEST} characters each, without line breaks."
        raise RequestRejected(422, "names", words)
    return names


def read_only_error() -> RequestRejected:
    """Returns the refusal of a server that keeps no names of this world."""
    words = "Names are not kept with this world here; they stay in this browser."
    return RequestRejected(403, "names", words)
