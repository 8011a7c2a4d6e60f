"""What Procgen's own saved states say: where the agent stands.

A state is what `ProcgenBatch.save` returns. Its fields lie in the order in which the game writes
them (`procgen/src`: `game.cpp`, `basic-abstract-game.cpp`, `entity.cpp`).
"""

from __future__ import annotations

import struct

import numpy as np

_WORD = 4
_OPTIONS, _AFTER_GENERATORS = 17, 16  # words before and after the two random generators
_ENTITY, _TYPE = 31, 6  # words of an entity, and the place of its type
_PLAYER = 0


def agent_position(state: bytes) -> np.ndarray:
    """Returns where the agent stands: (2,), x to the right and y upwards, in cells of the level.

    Args:
        state: of one game.
    """
    offset = _after_string(state, _WORD)  # the version, the name of the game
    offset += _OPTIONS * _WORD
    for _ in range(2):
        offset = _after_string(state, offset + _WORD)  # whether it is seeded, its state
    offset += _AFTER_GENERATORS * _WORD
    count = _int(state, offset)
    entities = np.frombuffer(state, np.uint8, count * _ENTITY * _WORD, offset + _WORD)
    words = entities.view("<i4").reshape(count, _ENTITY)
    player = np.flatnonzero(words[:, _TYPE] == _PLAYER)[-1]
    return words[player, :2].copy().view("<f4").astype(np.float64)


def _int(state: bytes, offset: int) -> int:
    return struct.unpack_from("<i", state, offset)[0]


def _after_string(state: bytes, offset: int) -> int:
    return offset + _WORD + _int(state, offset)
