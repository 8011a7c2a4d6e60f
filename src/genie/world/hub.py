"""Where worlds lie: a folder, the package, or the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genie.core.config import (
    UserError,
)
from genie.world import bundled, checkpoint


def locate(name: str | Path, **hub: Any) -> Path:
    """The folder of a world: `name` itself, of a bundled world, or of a copy from the Hub."""
    inside = bundled.folder_of(str(name))
    if Path(name).is_dir() and (inside is None or (Path(name) / checkpoint.CONFIG).is_file()):
        return Path(name)
    return inside or _download(str(name), **hub)


def _download(repo_id: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        files = [checkpoint.CONFIG, checkpoint.WEIGHTS, "prompts/*", "names.json"]
        return Path(snapshot_download(repo_id, allow_patterns=files, **options))
    except HFValidationError:
        raise UserError(f"{repo_id}: there is no such world folder") from None
    except Exception as error:
        raise UserError(
            f"{repo_id}: no such folder, and the Hugging Face Hub did not give it; check the name "
            f"or your connection ({', '.join(bundled.names())} comes with the package)"
        ) from error
