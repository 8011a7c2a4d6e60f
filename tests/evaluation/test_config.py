import pytest

from genie.core.config import UserError
from genie.evaluation.config import EvaluationConfig


def test_settings_that_measure_nothing():
    with pytest.raises(UserError, match="clips: must be at least 1"):
        EvaluationConfig(clips=0)
    with pytest.raises(UserError, match="closed_loop_games: must be at least 1"):
        EvaluationConfig(closed_loop_games=0)
    with pytest.raises(UserError, match="inverse_dynamics_steps: must not be negative"):
        EvaluationConfig(inverse_dynamics_steps=-1)


def test_quoted_times_lie_within_the_horizon():
    assert EvaluationConfig(horizon=8).quoted == (1, 4, 8)
    assert EvaluationConfig(horizon=3, times=(5,)).quoted == (3,)
