import pytest

from genie.core.config import UserError
from genie.models.tokenizer_losses.config import WEIGHTS, ExtraLosses


def test_all_are_off_by_default_and_any_of_them_counts():
    assert not ExtraLosses().any
    for name in WEIGHTS:
        assert ExtraLosses(**{name: 0.1}).any
        with pytest.raises(UserError, match=name):
            ExtraLosses(**{name: -0.1})
    with pytest.raises(UserError, match="adversarial_start"):
        ExtraLosses(adversarial_start=1.0)
