"""Whole numbers and seeds as callers may give them: checked once, the same at every border."""

from __future__ import annotations

from typing import Any

import numpy as np

from genie.core.config import UserError, require, shown

MOST = np.iinfo(np.int64).max
"""The largest seed."""


def whole_numbers(values: Any, expected: str) -> np.ndarray:
    """Integers of any kind as int64: Python's, NumPy's, tensors', alone or in lists.

    Args:
        values: what the caller gave.
        expected: what the message says, such as "action: expected an integer".

    Raises:
        UserError: fractions (also those without a rest), booleans, text, None, or too large ones.
    """
    if hasattr(values, "detach"):  # a tensor, without importing torch
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iu":  # signed and unsigned ones together make fractions
            array = np.asarray(values, object)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{expected}, got {shown(values)}") from None
    require(_fit(array), f"{expected}, got {shown(values)}")
    return array.astype(np.int64)


def _fit(array: np.ndarray) -> bool:
    if array.dtype != object:
        return not bool((array > MOST).any())
    whole = (isinstance(n, int | np.integer) and not isinstance(n, bool) for n in array.flat)
    return all(whole) and all(-MOST <= int(n) <= MOST for n in array.flat)


def whole_number(value: Any, expected: str) -> int:
    """One integer, as `whole_numbers` takes it."""
    number = whole_numbers(value, expected)
    require(number.ndim == 0, f"{expected}, got {shown(value)}")
    return int(number)


def seeds_of(seed: Any, players: int) -> np.ndarray:
    """A seed for each player.

    Args:
        seed: one number, with which player i gets `seed + i`, or one per player.
        players: how many there are.

    Returns:
        int64 (players,), each from 0 to 2**63 - 1.

    Raises:
        UserError: it is none, or not as many.
    """
    expected = "seed: expected a whole number from 0 to 2**63 - 1, or one for each player"
    seeds = whole_numbers(seed, expected)
    require(seeds.ndim <= 1, f"{expected}, got {shown(seed)}")
    given = seeds.size if seeds.ndim else players
    require(given == players, f"seed: got {given} seeds for {players} players")
    largest = MOST if seeds.ndim else MOST - (players - 1)
    fits = not bool(((seeds < 0) | (seeds > largest)).any())
    require(fits, f"{expected}, got {shown(seed)}")
    return seeds if seeds.ndim else seeds + np.arange(players)


def seed_of(seed: Any) -> int:
    """One seed, from 0 to 2**63 - 1.

    Raises:
        UserError: it is none.
    """
    expected = "seed: expected a whole number from 0 to 2**63 - 1"
    number = whole_number(seed, expected)
    require(number >= 0, f"{expected}, got {number}")
    return number
