"""Writes the packages that Genie needs with the hash of each file, for `pip --require-hashes`.

python campaign/hashes.py OUT [EXTRA ...]

The files are those that pip chooses for this Python and machine, with the versions of
`constraints.txt`. `make hashed` installs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def needed(project: dict[str, Any], extras: Sequence[str]) -> list[str]:
    """Returns what a project needs to be built, to run, and for some extras."""
    about = project["project"]
    found = [*project["build-system"]["requires"], *about["dependencies"]]
    return found + [each for extra in extras for each in about["optional-dependencies"][extra]]


def hashed(packages: Sequence[str], *options: str) -> str:
    """Returns a requirements file of packages and all that they need, each with a hash.

    Args:
        packages: requirements.
        options: for pip.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        plan = ["--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", report]
        command = [sys.executable, "-m", "pip", "install", "-q", *plan, *options, *packages]
        subprocess.run(command, check=True)
        chosen = json.loads(report.read_text())["install"]
    return "".join(sorted(map(_line, chosen), key=str.lower))


def _line(package: dict[str, Any]) -> str:
    about, file = package["metadata"], package["download_info"]["archive_info"]
    return f"{about['name']}=={about['version']} --hash=sha256:{file['hashes']['sha256']}\n"


def main(out: str, *extras: str) -> None:
    """Writes the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = hashed(needed(project, extras), "-c", str(ROOT / "constraints.txt"))
    Path(out).write_text(text)
    print(f"{out}: {len(text.splitlines())} packages with their hashes")


if __name__ == "__main__":
    main(*sys.argv[1:])
