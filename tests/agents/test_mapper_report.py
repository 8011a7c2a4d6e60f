import pytest
import torch
from toy import NAMES, PERMUTATION, ToyWorld, made_steps

from genie.agents.labelled_steps import read_steps
from genie.agents.mapper import FitConfig, fit_mapper
from genie.agents.mapper_report import figures, measure_baselines, measure_labels, measure_mapper
from genie.core.config import UserError

QUICK = FitConfig(width=8, steps=60, learning_rate=1e-2)


def test_figures_are_those_by_hand():
    found = figures(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 2]), ["a", "b", "c", "d"])
    assert found["accuracy"] == 0.75
    assert found["recall"] == {"a": 1, "b": 1, "c": 0}
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)


def test_both_directions_are_measured_on_held_out_steps():
    """Three of four steps of latent action 0 are noops, and the fourth goes right."""
    latent, true = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 2])
    steps = made_steps(latent, true)
    found = measure_mapper(fit_mapper(steps, "dictionary"), steps)
    assert found["to_real"]["accuracy"] == 0.8
    assert found["to_real"]["recall"] == {"noop": 1, "right": 0, "left": 1}
    assert found["to_real"]["sampled"] == pytest.approx((3 * 3 / 4 + 1 / 4 + 1) / 5)
    assert found["to_latent"]["accuracy"] == 1


def test_another_games_actions_are_refused(store):
    mapper = fit_mapper(made_steps(PERMUTATION, torch.arange(4)), "dictionary")
    other = read_steps(ToyWorld(), store, "val", 10)
    assert measure_mapper(mapper, other)["to_real"]["accuracy"] == 1
    renamed = other.__class__(**{**vars(other), "names": ("a", "b", "c", "d")})
    with pytest.raises(UserError, match="the store has the actions a, b, c, d, the mapper has"):
        measure_mapper(mapper, renamed)


def test_baselines_have_as_many_labels_and_no_latent_actions():
    """The frame that an action led to is as light as its number; the one before says nothing."""
    true = torch.arange(4).repeat(80)
    frames = torch.full((320, 2, 16, 16, 3), 90, dtype=torch.uint8)
    frames[:, 1] = (40 + 60 * true).to(torch.uint8)[:, None, None, None]
    steps = made_steps(torch.zeros_like(true), true, frames)
    order = torch.randperm(320, generator=torch.Generator().manual_seed(0))
    few, unseen = steps.take(order[:120]), steps.take(order[120:])
    found = measure_baselines(few, unseen, 0, QUICK)
    assert found["supervised"]["accuracy"] > 0.9
    assert found["frame_alone"]["accuracy"] < 0.4
    assert found["commonest"]["accuracy"] < 0.4
    assert sorted(found["commonest"]["recall"].values()) == [0, 0, 0, 1]


def test_figures_over_repeats_have_intervals(store):
    pool, unseen = (read_steps(ToyWorld(), store, split, 100) for split in ("train", "val"))
    ticks = []
    found = measure_labels(
        pool, unseen, 4, 3, kinds=("dictionary",), baselines=False, on_step=lambda: ticks.append(1)
    )
    accuracy = found["dictionary"]["to_real"]["accuracy"]
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert set(found["dictionary"]["to_real"]["recall"]) == set(NAMES)
    assert (found["labels"], found["repeats"], len(ticks)) == (4, 3, 3)
    assert found["disjoint"]
    assert not measure_labels(pool, unseen, 60, 2, kinds=("dictionary",), baselines=False)[
        "disjoint"
    ]
    once = measure_labels(pool, unseen, 60, 1, kinds=("dictionary",), baselines=False)
    assert once["dictionary"]["to_real"]["accuracy"] == {"mean": 1}
