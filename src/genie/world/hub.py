"""Where worlds are found: in a folder, in the package or on the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from genie.core.config import UserError
from genie.world import bundled, checkpoint, weight_files

COMPANIONS = ("prompts/*", "names.json", "actions.json", "mapper/*", "reward/*")
"""Files beside a world that go with it: prompts, what its actions do, its mapper and rewards."""


def world_folder(name: str | Path, **hub: Any) -> Path:
    """Returns the folder of a world.

    Args:
        name: a folder, the name of a bundled world, or the id of a repository on the Hub.
        hub: passed to `huggingface_hub.snapshot_download`.

    Raises:
        UserError: there is no such world, or the Hub cannot be reached.
    """
    inside = bundled.folder_of(str(name))
    if Path(name).is_dir() and (inside is None or (Path(name) / checkpoint.CONFIG).is_file()):
        return Path(name)
    return inside or _download(str(name), **hub)


def copy_companions(world: Path, folder: Path, leave_out: str = "") -> None:
    """Copies the files that go with a world into another folder.

    Args:
        world: folder of the world.
        folder: to copy to.
        leave_out: one of `COMPANIONS` that is not copied.
    """
    for pattern in set(COMPANIONS) - {leave_out}:
        for file in world.glob(pattern):
            target = folder / file.relative_to(world)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def upload(
    write: Callable[[Path], None], repo_id: str, private: bool = False, token: str | None = None
) -> str:
    """Uploads a world to the Hub and returns its address.

    Args:
        write: writes the world into a folder.
        repo_id: "user/name".
        private: whether a new repository is private.
        token: of the Hub; that of your login when left out.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        # An old index would count before a new single file.
        old: list[str] = list(weight_files.PATTERNS)
        about = api.upload_folder(repo_id=repo_id, folder_path=folder, delete_patterns=old)
        return str(about)


def _download(repo_id: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        files = [checkpoint.CONFIG, *weight_files.PATTERNS, *COMPANIONS]
        return Path(snapshot_download(repo_id, allow_patterns=files, **options))
    except HFValidationError:
        raise UserError(f"{repo_id}: there is no such world folder") from None
    except Exception as error:
        close = get_close_matches(repo_id, bundled.names(), n=1)
        hint = f"did you mean {close[0]}?" if close else "check the name or your connection"
        raise UserError(
            f"{repo_id}: no such folder, and the Hugging Face Hub did not give it; {hint} "
            f"({', '.join(bundled.names())} come with the package)"
        ) from error
