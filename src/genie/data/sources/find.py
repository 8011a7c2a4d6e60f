"""All videos below a folder, whatever kind they are of."""

from __future__ import annotations

import pkgutil
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


def find_videos(folder: Folder) -> dict[str, Source]:
    """Returns all videos below a folder: their source by their name, in the order of the names."""
    found: dict[str, Source] = {}
    for kind in kinds():
        source = kind(folder)
        found |= dict.fromkeys(source.list(), source)
    return dict(sorted(found.items()))


def find_left_out(folder: Folder) -> dict[str, str]:
    """Returns what looks like a video but is none, and why, in the order of the paths."""
    found: dict[str, str] = {}
    for kind in kinds():
        found |= kind(folder).left_out()
    return dict(sorted(found.items()))
