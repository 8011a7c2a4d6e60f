import pytest
import torch

from genie.evaluation.metrics.action_following import ActionFollowing, observer_of
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.rollouts import rollout_conditions
from genie.evaluation.protocol.rollouts import random_actions


@pytest.fixture
def following(game, classifier):
    store = game.store()
    frames = torch.from_numpy(store.frames.reshape(12, 40, 16, 16, 3)[:, :9].copy())
    return lambda world: ActionFollowing(world, classifier, store.true[:, 1:7], 2), frames


def watched(found, evaluation, frames):
    for first in (0, 5):
        batch = frames[first : first + 5]
        found.update(batch, rollout_conditions(evaluation, batch, 0, first))
    return found.compute()


def test_true_actions_are_read_back_from_a_world_that_obeys(game, evaluation, following):
    make, frames = following
    found = make(game.world())
    found.true = found.true[:10]
    result = watched(found, evaluation(prompt_frames=2), frames[:10])
    assert result["inferred"]["macro_f1"] == result["real"]["macro_f1"] == 1
    assert result["reconstruction"]["accuracy"] == 1
    assert result["majority"]["accuracy"] < 0.5
    drawn = random_actions(4, 10, 7, 0)[:, :6]
    right = (drawn == found.true).float().mean().item()
    assert result["random"]["accuracy"] == pytest.approx(right)
    assert result["transitions"] == 60
    assert result["actions"][0] == "stay/nothing"


def test_a_world_that_ignores_its_buttons_shows_other_actions(game, evaluation, following):
    make, frames = following
    world = game.world(obeys=False, noise=True)
    found = make(world)
    found.true = found.true[:10]
    found.true[0, 0] = -1
    result = watched(found, evaluation(world, prompt_frames=2), frames[:10])
    assert result["transitions"] == 59
    assert result["inferred"]["accuracy"] < 0.5
    assert result["inferred"]["confusion"] == result["random"]["confusion"]
    assert result["real"]["accuracy"] == 1


def test_the_classifier_reads_as_far_as_games_are_held(game, evaluation, classifier):
    store = game.store()
    found = observer_of(evaluation(store=store, classifier=classifier, closed_loop_steps=3))
    assert found.true.shape == (8, 3)
    known = store.labels().reshape(12, 40)
    known[1::2] = -1
    store.labels = lambda split=None: known.flatten()
    with pytest.raises(Skipped, match="no true action is known in the 'val' split"):
        observer_of(evaluation(store=store, classifier=classifier))
    with pytest.raises(Skipped, match="inverse_dynamics_steps: 0"):
        observer_of(evaluation())
