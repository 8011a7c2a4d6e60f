"""What a report says about itself: the world, the data, the machine and the versions."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import torch

from genie.core.config import to_dict
from genie.core.machine import available_cores, cpu_name
from genie.models.inverse_dynamics import count_parameters

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie


def describe_world(world: Genie, name: str) -> dict[str, Any]:
    """Returns name, sizes, parameter counts and configuration of a world."""
    parts = ("tokenizer", "actions", "dynamics")
    counts = {name: count_parameters(getattr(world, name)) for name in parts}
    return {
        "name": name,
        "width": world.config.width,
        "height": world.config.height,
        "num_actions": world.config.num_actions,
        "parameters": counts | {"total": sum(counts.values())},
        "config": to_dict(world.config),
    }


def describe_store(store: ClipStore, name: str, split: str) -> dict[str, Any]:
    """Returns name, frame rate and size of one split of a store."""
    episodes = [e for e in store.episodes if e.split == split]
    return {
        "name": name,
        "split": split,
        "fps": store.fps,
        "episodes": len(episodes),
        "frames": sum(e.length for e in episodes),
    }


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Returns what the figures were computed on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "device": name,
        "system": platform.system(),
    }
