from dataclasses import replace

import pytest
import torch

from genie.core.progress import progress_bars
from genie.evaluation.config import EvaluationConfig
from genie.evaluation.metrics.controllability import ActionFollowing
from genie.evaluation.supervised import SupervisedMetrics, action_classifier_for

CONFIG = replace(
    EvaluationConfig.quick(),
    clips=8, horizon=5, batch=5, closed_loop_games=8, action_selection_games=4, closed_loop_steps=4,
    inverse_dynamics_steps=0,
)  # fmt: skip


@pytest.fixture
def labelled(game):
    """What a report says of labels, given a store and settings; without gradients."""
    bars = progress_bars(False)

    def make(store, classifier=None, **changes):
        world, config = game.world(), replace(CONFIG, **changes)
        classifier = classifier or action_classifier_for(world, store, config, bars)
        return SupervisedMetrics(world, store, config, classifier, None, bars)

    with torch.no_grad():
        yield make


def test_a_store_without_true_actions(game, labelled):
    found = labelled(game.store(labelled=False))
    for part in (found.supervised_metrics(), found.closed_loop()):
        assert "without files of true actions" in part["skipped"]
    assert "without files of true actions" in found.following(torch.arange(3).numpy())
    assert "no true action is called" in found.scrolling()["skipped"]


def test_no_true_action_is_known(game, labelled):
    store = game.store()
    store.labels = lambda split=None: torch.full((len(store.frames),), -1).numpy()
    found = labelled(store, inverse_dynamics_steps=20)
    assert "no true action" in found.closed_loop()["skipped"]
    assert found.supervised_metrics() == {"skipped": "no true action is known in the 'val' split."}


def test_held_out_actions_that_are_unknown_lose_only_what_needs_them(game, labelled, classifier):
    store = game.store()
    known = store.labels().reshape(12, 40)
    known[1::2] = -1
    store.labels = lambda split=None: known.flatten()
    found = labelled(store, classifier)
    assert "no true action is known in the 'val' split" in found.supervised_metrics()["skipped"]
    why = found.following(torch.arange(40, 43).numpy())
    assert "no true action is known in the 'val' split" in why
    closed = found.closed_loop()
    assert closed["mean"]["share"] > 0.9
    assert closed["mean"]["real"] is None


def test_without_the_network_labels_are_compared_all_the_same(game, labelled):
    found = labelled(game.store())
    labels = found.supervised_metrics()
    assert labels["share_of_true_entropy"] == pytest.approx(1)
    assert labels["true_actions"] == ["0", "1", "2", "3"]
    assert "share_of_ceiling" not in labels
    assert "inverse_dynamics_steps: 0" in found.closed_loop()["skipped"]
    assert "inverse_dynamics_steps: 0" in found.following(torch.arange(3).numpy())


def test_the_network_reads_as_far_as_games_are_held(game, labelled, classifier):
    store = game.store()
    starts = torch.tensor([40, 125]).numpy()
    found = labelled(store, classifier, closed_loop_steps=3).following(starts)
    assert isinstance(found, ActionFollowing)
    assert torch.equal(found.true, torch.stack([store.true[1, :3], store.true[3, 5:8]]))


def test_names_are_given_to_latent_actions_by_training_steps(game, labelled):
    steps = labelled(game.store()).supervised_metrics()["action_maps"]
    assert steps[0]["labels"] == 50
    assert steps[0]["accuracy"] > 0.95
    # There is nothing to hold out where the training split itself is measured.
    assert "action_maps" not in labelled(game.store(), split="train").supervised_metrics()


def test_without_a_training_split_no_button_can_be_chosen_by_movement(game, labelled):
    store = game.store()
    for episode in store.episodes:
        episode.split = "val"
    assert "no 'train' split" in labelled(store).scrolling()["skipped"]
