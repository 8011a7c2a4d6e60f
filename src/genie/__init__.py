"""Genie: from a folder of unlabelled videos to a world that can be played.

The public names are imported when they are first used, so `import genie` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import genie.envs as _environments  # registers the ids with Gymnasium  # noqa: F401

if TYPE_CHECKING:
    from genie.agents.agent import Agent
    from genie.agents.mapping import map_actions
    from genie.core.config import UserError
    from genie.data.prepare import prepare
    from genie.data.recording.record import record
    from genie.data.store import ClipStore
    from genie.envs.gym import GenieEnv
    from genie.envs.vector import GenieVectorEnv
    from genie.evaluation.evaluate import evaluate
    from genie.models.dynamics import Dynamics, DynamicsConfig
    from genie.models.latent_actions.base import LatentActionModel
    from genie.models.latent_actions.motion import LatentActionConfig
    from genie.models.tokenizers.transformer import VideoTokenizer, VideoTokenizerConfig
    from genie.presets.registry import create_genie_large, create_genie_small
    from genie.presets.schedule import StageConfig, TrainConfig
    from genie.training.pipeline import train
    from genie.world.action_mapper import ActionMapper
    from genie.world.config import GenieConfig
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig
    from genie.world.reward_model import RewardModel
    from genie.world.state import PredictedFrame, State

__version__ = "0.1.0"

_HOMES = {
    "ActionMapper": "genie.world.action_mapper",
    "Agent": "genie.agents.agent",
    "ClipStore": "genie.data.store",
    "PredictedFrame": "genie.world.state",
    "Dynamics": "genie.models.dynamics",
    "DynamicsConfig": "genie.models.dynamics",
    "Genie": "genie.world.genie",
    "GenieConfig": "genie.world.genie",
    "GenieEnv": "genie.envs.gym",
    "GenieVectorEnv": "genie.envs.vector",
    "LatentActionConfig": "genie.models.latent_actions.motion",
    "LatentActionModel": "genie.models.latent_actions.base",
    "RewardModel": "genie.world.reward_model",
    "SamplingConfig": "genie.world.maskgit",
    "StageConfig": "genie.presets.schedule",
    "State": "genie.world.genie",
    "TrainConfig": "genie.presets.schedule",
    "UserError": "genie.core.config",
    "VideoTokenizer": "genie.models.tokenizers.transformer",
    "VideoTokenizerConfig": "genie.models.tokenizers.transformer",
    "create_genie_large": "genie.presets.registry",
    "create_genie_small": "genie.presets.registry",
    "evaluate": "genie.evaluation.evaluate",
    "map_actions": "genie.agents.mapping",
    "prepare": "genie.data.prepare",
    "record": "genie.data.recording.record",
    "train": "genie.training.pipeline",
}

__all__ = [
    "ActionMapper",
    "Agent",
    "ClipStore",
    "Dynamics",
    "DynamicsConfig",
    "Genie",
    "GenieConfig",
    "GenieEnv",
    "GenieVectorEnv",
    "LatentActionConfig",
    "LatentActionModel",
    "PredictedFrame",
    "RewardModel",
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
    "map_actions",
    "prepare",
    "record",
    "train",
]


_OLD_NAMES = {"Drawing": "PredictedFrame"}
"""Names that are imported as before."""


def __getattr__(name: str) -> Any:
    name = _OLD_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'genie' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
