import pytest

from genie.agents.experts.lookahead import LookAhead
from genie.agents.experts.named import policy_of
from genie.agents.experts.nearest import Nearest
from genie.agents.experts.runner import Runner
from genie.core.config import UserError


def test_experts_have_names():
    assert policy_of("mixture") == "mixture"
    assert isinstance(policy_of("runner"), Runner)
    assert isinstance(policy_of("lookahead"), LookAhead)
    assert policy_of("nearest", seed=3) == Nearest(seed=3)


@pytest.mark.parametrize(
    ("name", "words"),
    [("expert", "no policy 'expert'; choose random, "), ("sb3:none.zip", "none.zip: not a check")],
)
def test_others_are_refused(name, words):
    with pytest.raises(UserError, match=words):
        policy_of(name)
