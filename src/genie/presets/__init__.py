"""Schedules of training and named configurations; `get(name)` gives one, `names()` tells all."""

from genie.core.lazy import lazy_names

_PUBLIC = ("Preset", "create_genie_large", "create_genie_small", "get", "names")
__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(_PUBLIC, "genie.presets.registry"))
