"""What callers may give as actions, seeds and devices: checked once, the same at every border.

All that is wrong ends as a `UserError` that says what was expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from genie.core.config import Device, UserError, require, shown
from genie.core.numbers import whole_numbers

if TYPE_CHECKING:
    import torch


def check_range(actions: np.ndarray, count: int, name: str = "action") -> None:
    """Refuses actions that a world of `count` actions does not have.

    Raises:
        UserError: there is one.
    """
    wrong = actions[(actions < 0) | (actions >= count)]
    if wrong.size:
        raise UserError(f"{name}: {wrong[0]} is out of range, this world has 0 to {count - 1}")


def check_actions(action: Any, count: int, players: int) -> np.ndarray:
    """One action for each player.

    Args:
        action: one for all, or one per player.
        count: of the world's actions.
        players: how many there are.

    Returns:
        int64 (players,).

    Raises:
        UserError: it is none, or not as many.
    """
    expected = f"action: expected an integer, or one for each of {players} players"
    actions = whole_numbers(action, expected)
    require(actions.shape in ((), (players,)), f"{expected}, got {shown(action)}")
    check_range(actions, count)
    return np.array(np.broadcast_to(actions, (players,)))


def check_action_sequence(actions: Any, count: int, clips: int) -> np.ndarray:
    """A list of actions for each clip.

    Args:
        actions: (N,) for all, or (clips, N).
        count: of the world's actions.
        clips: how many there are.

    Returns:
        int64 (clips, N), N at least 1.

    Raises:
        UserError: some are none, or the lists do not fit.
    """
    expected = "actions: expected a list of whole numbers, one list for all or one per clip"
    script = whole_numbers(actions, expected)
    right = script.ndim in (1, 2) and script.shape[-1] > 0 and script.shape[:-1] in ((), (clips,))
    require(right, f"{expected}, got {shown(actions)}")
    check_range(script, count, "actions")
    return np.array(np.broadcast_to(script, (clips, script.shape[-1])))


def best_device() -> torch.device:
    """CUDA when there is one, then Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_of(name: str | torch.device | None) -> torch.device:
    """The device of a name, where this machine has it.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps"; None takes the best there is.

    Raises:
        UserError: the name is none, or there is no such device here.
    """
    import torch

    if name is None:
        return best_device()
    kinds = ", ".join(get_args(Device))
    try:
        device = torch.device(name)
    except (TypeError, RuntimeError):
        raise UserError(f"device: expected one of {kinds}, got {shown(name)}") from None
    require(device.type in get_args(Device), f"device: expected one of {kinds}, got {device}")
    if (device.index or 0) >= _devices(device.type):
        raise UserError(f"device: there is no {device} here; `genie doctor` shows what there is")
    return device


def _devices(kind: str) -> int:
    import torch

    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available()) if kind == "mps" else 1
