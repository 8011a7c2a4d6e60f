import pytest
import torch

from genie.evaluation.metrics.action_alignment import (
    CONDITIONS,
    SupervisedTransitions,
    action_alignment,
    cluster,
    frame_difference_features,
)
from genie.models.action_classifier import ActionClassifier
from genie.models.inverse_dynamics import InverseDynamics


def steps(latent, true, moved=None):
    """Transitions and a network that is right three times out of four, with changes `moved`."""
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(true), generator=generator) < 0.25
    seen = torch.where(wrong, (true + 1) % 3, true)
    logits = 3.0 * torch.nn.functional.one_hot(seen, 3)
    moved = seen if moved is None else moved
    return SupervisedTransitions(
        true, latent, torch.nn.functional.one_hot(moved, 4).float(), logits, 0 * logits
    )


def compared(latent, true, groups=((0,), (1,), (2,)), **changes):
    classifier = ActionClassifier(
        InverseDynamics(3), InverseDynamics(3), [list(g) for g in groups], ["a", "b", "c"], {}
    )
    part = steps(latent, true, **changes)
    return action_alignment(part, part, classifier, 4, seed=0)


def draw(count=600):
    return torch.randint(3, (count,), generator=torch.Generator().manual_seed(0))


def test_latent_actions_as_good_as_the_network_reach_the_ceiling():
    true = draw()
    ceiling = steps(true, true).logits.argmax(1)
    found = compared(ceiling, true)
    assert found["share_of_ceiling"]["raw"] == pytest.approx(1)
    sides = found["action_alignment"]["raw"]["conditions"]
    assert list(sides) == list(CONDITIONS)
    assert sides["ceiling"]["accuracy"] == pytest.approx(0.75, abs=0.05)
    assert sides["latent"]["action_maps"][0]["accuracy"] == pytest.approx(0.75, abs=0.05)
    assert 0 < sides["ceiling"]["information"] < found["action_alignment"]["raw"]["true_entropy"]
    # The changes show what the network sees, so clusters of them say as much.
    assert sides["kmeans"]["mutual_information"] == pytest.approx(
        sides["ceiling"]["mutual_information"]
    )


def test_latent_actions_that_mean_nothing_are_no_better_than_random_codes():
    true = draw()
    latent = torch.randint(4, true.shape, generator=torch.Generator().manual_seed(9))
    found = compared(latent, true, moved=torch.zeros_like(true))
    sides = found["action_alignment"]["raw"]["conditions"]
    assert found["share_of_ceiling"]["raw"] < 0.1
    assert sides["random"]["mutual_information"] < 0.02
    assert sides["kmeans"]["mutual_information"] == pytest.approx(0, abs=1e-6)


def test_merged_actions_are_not_held_against_latent_ones_that_mix_them():
    true = draw()
    mixed = (true == 2).long()
    found = compared(mixed, true, groups=((0, 1), (2,)))["action_alignment"]
    sides = found["merged"]["conditions"]
    assert sides["latent"]["normalised_mutual_information"] == pytest.approx(1)
    assert found["raw"]["conditions"]["latent"]["normalised_mutual_information"] < 0.8
    assert found["merged"]["most_common"] == pytest.approx(2 / 3, abs=0.05)


def test_actions_that_are_in_no_group_are_left_out():
    true = draw()
    found = compared(true, true, groups=((0,), (1,)))["action_alignment"]
    assert found["merged"]["transitions"] == (true < 2).sum()
    assert found["raw"]["transitions"] == len(true)


def test_only_known_steps_are_looked_at(game):
    store = game.store()
    frames = torch.from_numpy(store.frames.reshape(12, 40, 16, 16, 3)[:2, :6].copy())
    true = store.true[:2, :5].clone()
    true[0, 1:4] = -1
    classifier = ActionClassifier(
        InverseDynamics(4).eval(), InverseDynamics(4).eval(), [[0]], list("abcd"), {}
    )
    with torch.no_grad():
        found = SupervisedTransitions.from_clips(
            game.world(), classifier, [frames[:1], frames[1:]], true
        )
        logits = classifier.network(frames)[true >= 0]
    assert found.true.tolist() == found.latent.tolist() == true[true >= 0].tolist()
    torch.testing.assert_close(found.logits, logits)
    bare = SupervisedTransitions.from_clips(game.world(), None, [frames], true)
    assert bare.logits.shape == (7, 0)


def test_changes_are_coarse_differences():
    frames = torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8)
    frames[0, 1, :2, :2, 0] = 255
    found = frame_difference_features(frames)
    assert found.shape == (1, 1, 3 * 64)
    assert found[0, 0, 0] == 1
    assert found.sum() == 1


def test_kmeans_finds_clusters_and_is_repeatable():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centres.repeat(50, 1) + 0.1 * torch.randn(150, 2, generator=generator)
    found = cluster(points, 3, seed=0)
    assert torch.cdist(centres, found).amin(1).max() < 0.1
    assert torch.equal(found, cluster(points, 3, seed=0))


def test_kmeans_of_fewer_points_than_clusters():
    found = cluster(torch.ones(2, 3), 5, seed=0)
    assert torch.equal(found, torch.ones(5, 3))
