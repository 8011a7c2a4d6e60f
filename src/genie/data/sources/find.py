"""All videos below a folder, whatever kind they are of."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module

from genie.data import sources
from genie.data.folders import Folder
from genie.data.sources.base import Source

_NO_KINDS = ("base", "find")


def kinds() -> list[type[Source]]:
    """Returns the kinds of videos that there are, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    return [
        import_module(f"{sources.__name__}.{name}").SOURCE
        for name in names
        if name not in _NO_KINDS
    ]


def find_videos(folder: Folder, camera: str | None = None) -> dict[str, Source]:
    """Returns all videos below a folder: their source by their name, in the order of the names.

    Args:
        folder: where to look.
        camera: the one to take where a video has several.

    Raises:
        UserError: a video has several cameras and none was chosen.
    """
    found: dict[str, Source] = {}
    for source, claimed in _sources(folder, camera):
        found |= dict.fromkeys(_outside(source.list(), claimed), source)
    return dict(sorted(found.items()))


def find_left_out(folder: Folder, camera: str | None = None) -> dict[str, str]:
    """Returns what looks like a video but is none, and why, in the order of the paths."""
    found: dict[str, str] = {}
    for source, claimed in _sources(folder, camera):
        left_out = source.left_out()
        found |= {name: left_out[name] for name in _outside(left_out, claimed)}
    return dict(sorted(found.items()))


def _sources(folder: Folder, camera: str | None) -> Iterator[tuple[Source, list[str]]]:
    """Yields a source of each kind, with the folders that are not its own."""
    sources = [kind(folder, camera) for kind in kinds()]
    claims = [(source, name) for source in sources for name in source.claims()]
    for source in sources:
        yield source, [name for owner, name in claims if owner is not source]


def _outside(names: Iterable[str], folders: Sequence[str]) -> list[str]:
    owned = tuple("" if folder == "." else f"{folder}/" for folder in folders)
    return [name for name in names if not name.startswith(owned)]
