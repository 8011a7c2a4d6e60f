import math
import os
import time

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.world.kept_states import KEEP_EVERY, KeptState, StateFolder, StateMemory, thin_snapshots

STATE = (torch.arange(6).reshape(2, 3), (torch.ones(2),))


def mac(content):
    return len(content).to_bytes(32, "little")


def about(step):
    return {"step": str(step)}


def steps(states, game="game"):
    return [int(of["step"]) for of, _ in states.read(game)]


def in_folder(folder, *numbers, game="game"):
    """A folder to which these steps were written; each is on the disk before the next."""
    for step in numbers:
        states = StateFolder(folder, mac, minutes=1)
        states.put(game, about(step), STATE)
        states.close()
    return StateFolder(folder, mac, minutes=1)


def test_a_state_comes_back_in_its_structure(tmp_path):
    states = in_folder(tmp_path, 8)
    (of, tensors), *_ = states.read("game")
    first, (second,) = KeptState(8, tensors).state(
        (torch.zeros(2, 3, dtype=torch.int64), (torch.zeros(2),))
    )
    assert (of, first.tolist(), second.tolist()) == (about(8), STATE[0].tolist(), [1, 1])
    states.close()


@pytest.mark.parametrize("like", [torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.int64)])
def test_a_state_of_another_shape_or_type_is_refused(tmp_path, like):
    ((_, tensors),) = in_folder(tmp_path, 8).read("game")
    with pytest.raises(UserError, match="the kept state has another 0"):
        KeptState(8, tensors).state((like, (torch.zeros(2),)))  # type: ignore[arg-type]


def test_the_last_two_states_are_kept_the_newest_first(tmp_path):
    memory = StateMemory(games=2)
    for step in (8, 16, 24):
        memory.put("game", about(step), STATE)
    assert steps(memory) == steps(in_folder(tmp_path, 8, 16, 24)) == [24, 16]


def test_memory_forgets_the_game_that_was_played_longest_ago():
    memory = StateMemory(games=2)
    for game in ("one", "two", "one", "three"):
        memory.put(game, about(8), STATE)
    assert [steps(memory, game) for game in ("one", "two", "three")] == [[8, 8], [], [8]]


def test_states_are_deleted_when_their_tokens_have_expired(tmp_path):
    in_folder(tmp_path, 16)
    (old,) = tmp_path.glob("*.state")
    os.utime(old, (0, time.time() - 30))  # their minute is not over
    in_folder(tmp_path, 8, game="other")
    assert old.exists()
    os.utime(old, (0, time.time() - 61))
    in_folder(tmp_path, 8)
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("genie.world.kept_states.save", lambda *_: 1 / 0)
    states = StateFolder(tmp_path, mac, minutes=1)
    for game in ("one", "two"):
        states.put(game, about(8), STATE)
    states.close()
    assert caplog.text.count("states for other replicas cannot be written") == 1


def test_snapshots_are_few_and_none_is_far():
    """Of a game of n steps about log2(n) are kept; going back d steps replays less than 2 d."""
    snapshots = ((0, None),)
    for step in range(KEEP_EVERY, 4000, KEEP_EVERY):
        snapshots = thin_snapshots((*snapshots, (step, None)))
        assert len(snapshots) <= 3 + math.log2(step / KEEP_EVERY)
        kept = np.array([at for at, _ in snapshots])
        wanted = np.arange(step + KEEP_EVERY)
        nearest = kept[np.searchsorted(kept, wanted, side="right") - 1]
        back = np.maximum(step - wanted, 0)
        assert (wanted - nearest < np.maximum(KEEP_EVERY, 2 * back)).all()
