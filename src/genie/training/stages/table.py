"""The table of stages, in the order in which they train."""

from __future__ import annotations

import pkgutil
from dataclasses import fields
from importlib import import_module

from genie.presets.schedule import StageConfig, TrainConfig
from genie.training import stages
from genie.training.stages.base import Stage

_NO_STAGES = ("base", "table")


def find_stages() -> dict[str, Stage]:
    """Returns all stages by name, in the order of the fields of `TrainConfig`."""
    names = {module.name for module in pkgutil.iter_modules(stages.__path__)} - {*_NO_STAGES}
    order = [row.name for row in fields(TrainConfig) if isinstance(row.default, StageConfig)]
    assert names == set(order), f"stages {sorted(names)}, fields of TrainConfig {order}"
    return {name: import_module(f"{stages.__name__}.{name}").STAGE for name in order}


TABLE = find_stages()
