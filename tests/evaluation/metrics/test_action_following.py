import pytest
import torch

from genie.evaluation.metrics.action_following import (
    ACTION_FOLLOWING,
    compare_read,
)
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.rollouts import ROLLOUTS, rollout_conditions
from genie.evaluation.protocol.rollouts import random_actions

STEPS = 6
SETTINGS = {"prompt_frames": 2, "horizon": 7, "closed_loop_steps": STEPS}


@pytest.fixture
def watched(game, evaluation, classifier):
    """Reads ten clips and what a world plays from them, in two batches."""

    def measure(world, true):
        frames = torch.from_numpy(store.frames.reshape(12, 40, 16, 16, 3)[:10, :9].copy())
        asked = evaluation(world, store, classifier, **SETTINGS)
        read = ACTION_FOLLOWING.rollout_measure(asked)
        parts = [
            read(batch, rollout_conditions(asked, batch, 0, first))
            for first, batch in zip((0, 5), frames.split(5), strict=True)
        ]
        read = {side: torch.cat([part[side] for part in parts]) for side in parts[0]}
        return compare_read(read, true, classifier)

    store = game.store()
    return measure, store.true[:10, 1 : 1 + STEPS].clone()


def test_true_actions_are_read_back_from_a_world_that_obeys(game, watched):
    measure, true = watched
    result = measure(game.world(), true)
    assert result["inferred"]["macro_f1"] == result["real"]["macro_f1"] == 1
    assert result["reconstruction"]["accuracy"] == 1
    assert result["majority"]["accuracy"] < 0.5
    drawn = random_actions(4, 10, 7, 0)[:, :STEPS]
    right = (drawn == true).float().mean().item()
    assert result["random"]["accuracy"] == pytest.approx(right)
    assert result["transitions"] == 60
    assert result["actions"][0] == "stay/nothing"


def test_a_world_that_ignores_its_buttons_shows_other_actions(game, watched):
    measure, true = watched
    true[0, 0] = -1
    result = measure(game.world(obeys=False, noise=True), true)
    assert result["transitions"] == 59
    assert result["inferred"]["accuracy"] < 0.5
    assert result["inferred"]["confusion"] == result["random"]["confusion"]
    assert result["real"]["accuracy"] == 1


def test_the_classifier_reads_as_far_as_games_are_held(game, evaluation, classifier):
    store = game.store()
    asked = evaluation(store=store, classifier=classifier, closed_loop_steps=3)
    ROLLOUTS.measure(asked)
    kept = asked.kept["action_following"]
    assert [part.shape for part in kept["inferred"]] == [(5, 3), (3, 3)]
    assert ACTION_FOLLOWING.measure(asked)["transitions"] == 8 * 3
    known = store.labels().reshape(12, 40)
    known[1::2] = -1
    store.labels = lambda split=None: known.flatten()
    with pytest.raises(Skipped, match="no true action is known in the 'val' split"):
        ACTION_FOLLOWING.measure(evaluation(store=store, classifier=classifier))
    with pytest.raises(Skipped, match="inverse_dynamics_steps: 0"):
        ACTION_FOLLOWING.measure(evaluation())
