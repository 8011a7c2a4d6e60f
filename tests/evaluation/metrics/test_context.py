import pytest
import torch

from genie.evaluation.metrics.context import Skipped
from genie.models.external_networks import Pixels


def test_a_store_without_true_actions_has_no_classifier(game, evaluation):
    asked = evaluation(store=game.store(labelled=False), inverse_dynamics_steps=20)
    with pytest.raises(Skipped, match="without files of true actions"):
        asked.classifier  # noqa: B018
    assert asked.known_classifier is None
    assert isinstance(asked.extractor, Pixels)


def test_without_known_actions_to_learn_from_there_is_no_classifier(game, evaluation):
    store = game.store()
    store.labels = lambda split=None: torch.full((len(store.frames),), -1).numpy()
    with pytest.raises(Skipped, match="no true action"):
        evaluation(store=store, inverse_dynamics_steps=20).classifier  # noqa: B018


def test_the_classifier_makes_features_too(evaluation, classifier):
    asked = evaluation(classifier=classifier)
    assert asked.extractor is classifier.network
    assert asked.classifier is classifier


def test_rollouts_are_looked_at_by_metrics_that_can_measure(game, evaluation, classifier):
    with_labels = evaluation(classifier=classifier)
    assert set(with_labels.rollout_measures) >= {"frechet", "action_following"}
    without = evaluation(store=game.store(labelled=False))
    assert set(without.rollout_measures) == {"frechet"}


def test_games_in_which_an_action_is_held_are_kept_for_those_that_can_measure(
    evaluation, classifier
):
    assert list(evaluation(classifier=classifier).held_games.measures) == ["closed_loop"]
    assert not evaluation().held_games.measures


def test_something_shared_is_made_once(evaluation):
    asked, made = evaluation(), []
    for _ in range(2):
        assert asked.once("a", lambda: made.append(1) or 5) == 5
    assert made == [1]


def test_true_actions_of_clips(game, evaluation):
    store = game.store()
    asked = evaluation(store=store)
    starts = torch.tensor([40, 125]).numpy()
    assert torch.equal(
        asked.true_actions(starts, 3), torch.stack([store.true[1, :3], store.true[3, 5:8]])
    )
