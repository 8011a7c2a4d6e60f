import pytest
import torch
from square_game import LENGTH
from toy import NAMES, PERMUTATION, ToyWorld, made_store

from genie.agents.cloning.expert_steps import read_expert
from genie.core.config import UserError


def test_every_step_has_the_latent_action_that_the_world_infers(steps, expert_video):
    assert len(steps) == 30 * LENGTH
    assert steps.names == NAMES
    assert torch.equal(steps.latent, PERMUTATION[steps.true])
    pairs = steps.take(torch.tensor([3, 8])).pairs()
    rows = steps.rows[[3, 8]]
    assert torch.equal(pairs.frames, torch.from_numpy(expert_video.windows(rows, 2)))
    assert torch.equal(pairs.true, steps.true[[3, 8]])


def test_stacks_end_with_the_frame_acted_on_and_stay_in_their_episode(steps, expert_video):
    chosen = torch.tensor([0, 1, LENGTH + 1, 5])
    stacks = steps.stacks(chosen, 3)
    first, second = (expert_video.read(start, LENGTH + 1) for start in (0, LENGTH + 1))
    wanted = [first[[0, 0, 0]], first[[0, 0, 1]], second[[0, 0, 1]], first[[3, 4, 5]]]
    for stack, frames in zip(stacks, wanted, strict=True):
        assert torch.equal(stack, torch.from_numpy(frames))


def test_fewer_labels_are_the_first_of_more(steps):
    few, more = steps.labelled(10, 1), steps.labelled(50, 1)
    assert (few.rows == more.rows[:10]).all()
    assert len(set(more.rows.tolist())) == 50
    with pytest.raises(UserError, match=r"labels: 181, but .* has 180 labelled steps to train on"):
        steps.labelled(181, 0)


def test_shuffled_codes_are_the_same_codes(steps):
    mixed = steps.shuffled(0)
    assert not torch.equal(mixed.latent, steps.latent)
    assert torch.equal(mixed.latent.bincount(), steps.latent.bincount())
    assert torch.equal(mixed.true, steps.true)


def test_a_store_without_true_actions_is_refused(tmp_path):
    with pytest.raises(UserError, match="this store has no true actions; prepare videos"):
        read_expert(ToyWorld(), made_store(tmp_path, 1, 1, names=None), "train")
