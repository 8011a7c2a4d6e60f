import pytest

import genie


def test_public_names_exist():
    for name in genie.__all__:
        assert getattr(genie, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = genie.nothing_of_the_kind


def test_old_public_names_are_the_new_ones():
    assert genie.Drawing is genie.PredictedFrame
