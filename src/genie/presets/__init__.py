"""Schedules of training and named configurations; `get(name)` gives one, `names()` tells all."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = ("Preset", "create_genie_large", "create_genie_small", "get", "names")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'genie.presets' has no attribute {name!r}")
    return getattr(import_module("genie.presets.registry"), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
