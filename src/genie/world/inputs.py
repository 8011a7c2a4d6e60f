"""Checks of the actions and devices that callers give, the same at every public border.

Wrong values raise a `UserError` that says what was expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from genie.core.config import Device, UserError, require, shown
from genie.core.numbers import whole_numbers

if TYPE_CHECKING:
    import torch


def check_range(actions: np.ndarray, count: int, name: str = "action") -> None:
    """Checks that a world has the actions given.

    Args:
        actions: integers.
        count: number of the world's actions.
        name: of the argument, for the message.

    Raises:
        UserError: one is not between 0 and `count` - 1.
    """
    wrong = actions[(actions < 0) | (actions >= count)]
    if wrong.size:
        raise UserError(f"{name}: {wrong[0]} is out of range, this world has 0 to {count - 1}")


def parse_actions(text: str) -> list[int] | list[str]:
    """Reads actions such as "1,1,2,0", or names such as "left,left,jump".

    Spaces may stand for commas where there are none. A comma may end the list, and brackets may
    enclose it.

    Raises:
        UserError: there is none, one is left out, or numbers and names are mixed.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    words = text.split(",") if "," in text else text.split()
    words = [word.strip() for word in words]
    if words[1:] and not words[-1]:
        words.pop()
    digits = [word.removeprefix("-") for word in words]
    if words and all(word.isascii() and word.isdigit() and len(word) < 10 for word in digits):
        return [int(word) for word in words]
    lettered = all(any(letter.isalpha() for letter in word) for word in words)
    expected = "actions: give only numbers such as 1,1,2,0, or only names such as left,left,jump"
    require(len(words) > 0 and lettered, f"{expected}, not {shown(text)}")
    return words


def check_guidance(guidance: float, unconditional_fraction: float) -> None:
    """Refuses guidance in a world that never saw an unknown action in training.

    Raises:
        UserError: it is such a world.
    """
    require(
        guidance == 0 or unconditional_fraction > 0,
        f"sampling.guidance: {guidance}, but this world knows no unknown action; take 0, or train "
        "its dynamics with --dynamics.unconditional_fraction 0.1",
    )


def check_actions(action: Any, count: int, players: int) -> np.ndarray:
    """Returns one action for each player.

    Args:
        action: one for all players, or one per player.
        count: number of the world's actions.
        players: number of players.

    Returns:
        int64 (players,).

    Raises:
        UserError: something else was given, or the world does not have an action.
    """
    expected = f"action: expected an integer, or one for each of {players} players"
    actions = whole_numbers(action, expected)
    require(actions.shape in ((), (players,)), f"{expected}, got {shown(action)}")
    check_range(actions, count)
    return np.array(np.broadcast_to(actions, (players,)))


def check_action_sequence(actions: Any, count: int, clips: int) -> np.ndarray:
    """Returns a sequence of actions for each clip.

    Args:
        actions: (N,) for all clips, or (clips, N).
        count: number of the world's actions.
        clips: number of clips.

    Returns:
        int64 (clips, N), N at least 1.

    Raises:
        UserError: something else was given, or the world does not have an action.
    """
    expected = "actions: expected a list of whole numbers, one list for all or one per clip"
    sequence = whole_numbers(actions, expected)
    right = (
        sequence.ndim in (1, 2) and sequence.shape[-1] > 0 and sequence.shape[:-1] in ((), (clips,))
    )
    require(right, f"{expected}, got {shown(actions)}")
    check_range(sequence, count, "actions")
    return np.array(np.broadcast_to(sequence, (clips, sequence.shape[-1])))


def best_device() -> torch.device:
    """Returns CUDA if there is one, else Apple's MPS if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_of(name: str | torch.device | None) -> torch.device:
    """Returns the device of a name.

    Args:
        name: "cpu", "cuda", "cuda:1" or "mps"; None takes `best_device`.

    Raises:
        UserError: the name is not one of these, or this machine does not have the device.
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
