"""Worlds that come with the package: a folder each, found by name, without a network."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

DEFAULT = "coinrun-tiny"
"""The world that is played when none is named."""


def names() -> list[str]:
    """Returns the names of all worlds that come with the package, the default first."""
    found = (folder.name for folder in HERE.iterdir() if (folder / "config.json").is_file())
    return sorted(found, key=lambda name: (name != DEFAULT, name))


def folder_of(name: str) -> Path | None:
    """Returns the folder of the bundled world of a name, None where there is none of this name."""
    return HERE / name if name in names() else None
