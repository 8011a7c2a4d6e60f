from dataclasses import replace

import pytest
import torch
from toy import PERMUTATION, ToyWorld, made_steps

from genie.agents.labelled_steps import read_steps
from genie.agents.mapper import FitConfig, Information, fit_mapper, fit_predictor
from genie.core.config import UserError

QUICK = FitConfig(width=8, steps=60, learning_rate=1e-2)


@pytest.mark.parametrize("kind", ["dictionary", "network"])
def test_a_permutation_is_mapped_perfectly_with_few_labels(store, kind):
    few = read_steps(ToyWorld(), store, "train", 40)
    mapper = fit_mapper(few, kind, config=replace(QUICK, steps=10))
    unseen = read_steps(ToyWorld(), store, "val", 150)
    now = unseen.frames[:, 0]
    assert (mapper.to_real(now, unseen.latent) == unseen.true.numpy()).all()
    assert (mapper.to_latent(now, unseen.true.numpy()) == unseen.latent.numpy()).all()
    assert mapper.to_latent(now[0], "left") == int(PERMUTATION[2])


def test_random_latent_actions_say_nothing(store):
    noise, known = (read_steps(ToyWorld(noise), store, "train", 300) for noise in (True, False))
    assert not Information.of(noise).above_chance
    assert Information.of(known).above_chance
    assert Information.of(known).found == pytest.approx(1.38, abs=0.02)  # log 4, nearly
    unseen = read_steps(ToyWorld(noise=True), store, "val", 150)
    mapper = fit_mapper(noise, "dictionary")
    right = mapper.to_real(unseen.frames[:, 0], unseen.latent) == unseen.true.numpy()
    assert right.mean() < 0.4  # four actions, equally often


def test_a_network_sees_what_a_latent_action_means_where(store):
    """In light frames two latent actions are swapped: no dictionary can say so."""
    generator = torch.Generator().manual_seed(0)
    true, light = (torch.randint(n, (400,), generator=generator) for n in (2, 2))
    frames = (60 + 140 * light).to(torch.uint8)[:, None, None, None, None]
    steps = made_steps(true ^ light, true, frames.expand(-1, 2, 16, 16, 3).contiguous())
    few, unseen = steps.first(200), steps.take(torch.arange(200, 400))
    accuracy = {}
    for kind in ("dictionary", "network"):
        mapper, now = fit_mapper(few, kind, config=QUICK), unseen.frames[:, 0]
        real = mapper.to_real(now, unseen.latent) == unseen.true.numpy()
        latent = mapper.to_latent(now, unseen.true.numpy()) == unseen.latent.numpy()
        accuracy[kind] = real.mean(), latent.mean()
    assert max(accuracy["dictionary"]) < 0.65
    assert min(accuracy["network"]) > 0.95


def test_training_stops_before_labels_are_learned_by_heart():
    """Nothing can be learned here, so the table is kept."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(256, (60, 1, 16, 16, 3), dtype=torch.uint8, generator=generator)
    wanted = torch.randint(4, (60,), generator=generator)
    table = torch.full((1, 4), 0.25)
    network = fit_predictor(frames, torch.zeros_like(wanted), wanted, table, config=QUICK)
    logits = network(frames, torch.zeros_like(wanted))
    assert (logits.softmax(-1) - 0.25).abs().max() < 0.2


def test_the_same_seed_makes_the_same_mapper_and_leaves_other_randomness_alone(store):
    steps = read_steps(ToyWorld(), store, "train", 40)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (
        fit_mapper(steps, "network", seed=2, config=replace(QUICK, steps=5)) for _ in range(2)
    )
    assert torch.equal(torch.rand(3), expected)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_class_weights_find_rare_actions():
    """One step in ten is rare, and frames say so for half of them only."""
    generator = torch.Generator().manual_seed(0)
    true = (torch.rand(600, generator=generator) < 0.1).long()
    hint = (torch.rand(600, generator=generator) < 0.3).long() | true
    frames = (60 + 140 * hint).to(torch.uint8)[:, None, None, None, None]
    frames = frames.expand(-1, 1, 16, 16, 3).contiguous()
    table, nothing = torch.tensor([[0.45, 0.05, 0.25, 0.25]]), torch.zeros_like(true)
    recall = {}
    for power in (0.0, 1.0):
        config = replace(QUICK, class_weights=power)
        network = fit_predictor(frames, nothing, true, table, config=config)
        found = network(frames, nothing).argmax(-1)
        recall[power] = (found[true == 1] == 1).float().mean().item()
    assert recall[0.0] < 0.1
    assert recall[1.0] > 0.9


def test_a_mapper_needs_a_labelled_step(store):
    steps = read_steps(ToyWorld(), store, "train", 1)
    with pytest.raises(UserError, match="at least 1 labelled step"):
        fit_mapper(steps.first(0), "dictionary")
    assert fit_mapper(steps, "network").to_real(steps.frames[0, 0], int(steps.latent)) == int(
        steps.true
    )
