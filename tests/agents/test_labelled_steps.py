import numpy as np
import pytest
import torch
from toy import NAMES, PERMUTATION, ToyWorld, made_steps, made_store

from genie.agents.labelled_steps import read_steps
from genie.core.config import UserError
from genie.world.genie import Genie
from small import TINY


def test_steps_have_the_true_action_between_their_two_frames(store):
    steps = read_steps(ToyWorld(), store, "train", 200)
    assert steps.names == NAMES
    assert torch.equal(steps.latent, PERMUTATION[steps.true])
    assert steps.counts.sum() == 200
    assert steps.counts[PERMUTATION, torch.arange(4)].sum() == 200
    assert {int(episode) for episode in steps.episodes} <= set(range(12))


def test_latent_actions_are_those_of_whole_episodes(store):
    """The encoder sees earlier frames too, as many as there are."""
    world = Genie({**TINY, "actions": {**TINY["actions"], "num_frame_differences": 2}}).eval()
    world.actions.quantizer.codebook.normal_()
    count = 12 * 29
    steps = read_steps(world, store, "train", count)
    order = np.random.default_rng([0, 21]).permutation(count)
    whole = torch.from_numpy(np.array(store.windows(np.arange(12) * 30, 30)))
    assert torch.equal(steps.latent, world.actions.infer(whole).flatten()[order])
    assert len(steps.latent.unique()) > 1


def test_fewer_steps_are_the_first_of_more(store):
    few, more = (read_steps(ToyWorld(), store, "val", n, seed=3) for n in (20, 50))
    assert torch.equal(few.frames, more.first(20).frames)
    assert torch.equal(few.true, more.true[:20])
    assert not torch.equal(read_steps(ToyWorld(), store, "val", 20, seed=4).frames, few.frames)
    sampled = more.sample(30, 1)
    assert len(sampled) == 30
    assert torch.equal(sampled.latent, PERMUTATION[sampled.true])


def test_what_a_store_lacks_is_said(store, tmp_path):
    with pytest.raises(UserError, match=r"labels: 349, but the 'train' split .* has 348 labelled"):
        read_steps(ToyWorld(), store, "train", 349)
    unlabelled = made_store(tmp_path, 1, 1, names=None)
    with pytest.raises(UserError, match="this store has no true actions; prepare videos"):
        read_steps(ToyWorld(), unlabelled, "train", 1)
    large = ToyWorld()
    large.config.height = 32
    with pytest.raises(UserError, match="its frames are 16x16, those of the world 16x32"):
        read_steps(large, store, "train", 1)


def test_samples_share_no_step_where_there_are_enough():
    steps = made_steps(torch.zeros(10, dtype=torch.int64), torch.zeros(10, dtype=torch.int64))
    samples = [set(steps.sample(3, number).episodes.tolist()) for number in range(3)]
    assert len(set.union(*samples)) == 9
    assert steps.sample(3, 3).episodes.tolist() == [9, 0, 1]  # then as few as can be
