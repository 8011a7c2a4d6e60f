"""Genie: from a folder of unlabelled videos to a world that can be played.

The public names are imported when they are first used, so `import genie` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import genie.env as _environments  # registers the ids with Gymnasium  # noqa: F401

if TYPE_CHECKING:
    from genie.actions import LatentActionConfig, LatentActionModel
    from genie.config import UserError
    from genie.data.prepare import prepare
    from genie.data.record import record
    from genie.data.store import ClipStore
    from genie.dynamics import Dynamics, DynamicsConfig
    from genie.env import GenieEnv, GenieVectorEnv
    from genie.evaluation.report import evaluate
    from genie.maskgit import SamplingConfig
    from genie.presets import create_genie_large, create_genie_small
    from genie.schedule import StageConfig, TrainConfig
    from genie.tokenizer import VideoTokenizer, VideoTokenizerConfig
    from genie.training.pipeline import train
    from genie.world import Drawing, Genie, GenieConfig, State

__version__ = "0.1.0"

_HOMES = {
    "ClipStore": "genie.data.store",
    "Drawing": "genie.world",
    "Dynamics": "genie.dynamics",
    "DynamicsConfig": "genie.dynamics",
    "Genie": "genie.world",
    "GenieConfig": "genie.world",
    "GenieEnv": "genie.env",
    "GenieVectorEnv": "genie.env",
    "LatentActionConfig": "genie.actions",
    "LatentActionModel": "genie.actions",
    "SamplingConfig": "genie.maskgit",
    "StageConfig": "genie.schedule",
    "State": "genie.world",
    "TrainConfig": "genie.schedule",
    "UserError": "genie.config",
    "VideoTokenizer": "genie.tokenizer",
    "VideoTokenizerConfig": "genie.tokenizer",
    "create_genie_large": "genie.presets",
    "create_genie_small": "genie.presets",
    "evaluate": "genie.evaluation.report",
    "prepare": "genie.data.prepare",
    "record": "genie.data.record",
    "train": "genie.training.pipeline",
}

__all__ = [
    "ClipStore",
    "Drawing",
    "Dynamics",
    "DynamicsConfig",
    "Genie",
    "GenieConfig",
    "GenieEnv",
    "GenieVectorEnv",
    "LatentActionConfig",
    "LatentActionModel",
    "SamplingConfig",
    "StageConfig",
    "State",
    "TrainConfig",
    "UserError",
    "VideoTokenizer",
    "VideoTokenizerConfig",
    "__version__",
    "create_genie_large",
    "create_genie_small",
    "evaluate",
    "prepare",
    "record",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genie' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
