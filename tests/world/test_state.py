import torch
from untrained import close, frames

from genie import Genie, State


def test_a_state_is_a_value_from_which_games_branch(world: Genie):
    state = world.start(frames(1)[0], seed=3)
    _, state = world.step(state, 1)
    branch, before = state.clone(), state.frame.clone()
    left, _ = world.step(state, 2)
    right, _ = world.step(state, 3)
    again, _ = world.step(branch, 2)
    assert torch.equal(left, again)
    assert not torch.equal(left, right)
    assert torch.equal(state.frame, before)
    assert state.time.tolist() == [2]


def test_players_at_different_frames_stack_and_split(world: Genie):
    early = world.start(frames(1)[0], seed=1)
    late = world.start(frames(1, seed=5)[0], seed=2)
    for action in (0, 1, 2, 3, 0):
        _, late = world.step(late, action)
    both = State.stack([early, late])
    assert both.time.tolist() == [1, 6]
    pictures, after = world.step(both, [1, 2])
    assert close(pictures[0], world.step(early, 1)[0])
    assert close(pictures[1], world.step(late, 2)[0])
    assert [state.time.item() for state in after.split()] == [2, 7]
