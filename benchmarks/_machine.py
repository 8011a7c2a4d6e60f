"""What every benchmark writes beside its figures, and how."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def about() -> dict[str, Any]:
    command = ["git", "rev-parse", "--short", "HEAD"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip() or None,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def tell(results: dict[str, Any], path: Path | None) -> None:
    """Prints the results as JSON, and writes them to a file when one is named."""
    text = json.dumps({**about(), **results}, indent=1)
    print(text)
    if path:
        path.write_text(text + "\n")
