import pytest
import torch

from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.probe_matrix import PROBE_MATRIX
from genie.evaluation.metrics.rollouts import rollout_conditions


def measured(evaluation):
    first, measure = 0, PROBE_MATRIX.rollout_measure(evaluation)
    for frames in evaluation.clips:
        rollouts = rollout_conditions(evaluation, frames, 0, first)
        for side, kept in measure(frames, rollouts).items():
            evaluation.kept["probe_matrix"][side].append(kept)
        first += len(frames)
    return PROBE_MATRIX.measure(evaluation)


@pytest.fixture
def matrix(evaluation, game, classifier, monkeypatch):
    """Measures a world with features that tell every move of the game, in a rotated basis."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0))).Q

    def features(frames):
        actions = game.world().actions.infer(frames)
        return torch.nn.functional.one_hot(actions, 4).float() @ turn

    def measure(world):
        monkeypatch.setattr(classifier.network, "features", features)
        made = evaluation(world, classifier=classifier, clips=30)
        return measured(made)

    return measure


def verdict(section):
    (line,) = PROBE_MATRIX.headlines_of(section)
    return line["verdict"]


def test_a_world_that_plays_the_game_has_one_matrix_of_ones(matrix, game):
    found = matrix(game.world())
    assert found["transitions"] == 30 * 4
    assert found["episodes"] == 6
    for source in ("real", "inferred"):
        for domain in ("real", "inferred"):
            assert found["matrix"][source][domain] == {"mean": 1, "low": 1, "high": 1}
    chance = found["matrix"]["random"]["real"]
    assert chance["low"] <= chance["mean"] <= chance["high"] < 0.6
    assert verdict(found) == "good"


def test_probes_of_a_world_that_ignores_its_actions_say_nothing_of_the_game(matrix, game):
    found = matrix(game.world(obeys=False, noise=True))["matrix"]
    assert found["real"]["real"]["mean"] == 1
    for source, domain in (("real", "inferred"), ("inferred", "real"), ("inferred", "inferred")):
        assert found[source][domain]["mean"] < 0.6


def test_actions_that_are_told_apart_but_are_not_those_of_the_game_do_not_carry_over(matrix, game):
    class Swapped(game.world):
        def step(self, state, action, sampling=None):
            return super().step(state, torch.tensor([3, 2, 1, 0])[action], sampling)

    found = matrix(Swapped())
    assert found["matrix"]["inferred"]["inferred"]["mean"] == 1
    assert found["matrix"]["inferred"]["real"]["mean"] < 0.1
    assert verdict(found) == "poor"


def test_few_episodes_are_not_enough(game, evaluation, classifier):
    with pytest.raises(Skipped, match="5 held-out episodes"):
        measured(evaluation(store=game.store(episodes=8), classifier=classifier))
