import pytest

from genie.evaluation.metrics import inverse_consistency as module
from genie.evaluation.metrics.context import Skipped
from genie.evaluation.metrics.inverse_consistency import INVERSE_CONSISTENCY, inverse_consistency
from genie.models.layers.pixels import MAX_PSNR


def verdict(section):
    (line,) = INVERSE_CONSISTENCY.headlines_of(section)
    return line["verdict"]


def test_left_takes_right_back(evaluation):
    # Three steps to a side and four around: only the opposite action, or more of the same, returns.
    found = inverse_consistency(evaluation(), steps=3)
    stay, right, left, down = found["actions"]
    assert (right["taken_back_by"], left["taken_back_by"]) == (2, 1)
    assert right["back"] == left["back"] == pytest.approx(MAX_PSNR)
    assert right["away"] < right["random"] < 25
    # Nothing goes up, so there is no way back from down; and to stay is no way at all.
    assert down["back"] < 25
    assert stay["away"] == pytest.approx(MAX_PSNR)
    assert found["gain"]["mean"] > found["random_gain"]["mean"] + 10
    assert verdict(found) == "good"


@pytest.mark.parametrize("noise", [False, True])
def test_a_world_that_ignores_its_actions_takes_nothing_back(game, evaluation, noise):
    found = inverse_consistency(evaluation(game.world(obeys=False, noise=noise)), steps=3)
    assert found["gain"]["mean"] == pytest.approx(found["random_gain"]["mean"])
    assert verdict(found) == "poor"


def test_the_action_back_is_found_on_other_prompts(game, evaluation):
    # Whatever the noise does, it does not choose the action that is measured with it.
    found = inverse_consistency(evaluation(game.world(noise=True)), steps=2)
    assert found["gain"]["mean"] < 10


def test_one_prompt_is_not_enough(game, evaluation):
    with pytest.raises(Skipped, match="two prompts"):
        inverse_consistency(evaluation(store=game.store(episodes=2, length=1)))


def test_pairs_of_many_actions_are_too_many(game, evaluation, monkeypatch):
    monkeypatch.setattr(module, "MAX_GAMES", 40)
    assert inverse_consistency(evaluation(), steps=2)["prompts"] == 2  # 40 games of 16 pairs
    monkeypatch.setattr(module, "MAX_ACTIONS", 3)
    with pytest.raises(Skipped, match="4 actions have too many pairs"):
        inverse_consistency(evaluation())
