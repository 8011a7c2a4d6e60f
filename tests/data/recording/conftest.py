"""The games of `buttons.py` are known to Gymnasium."""

import buttons
import pytest


@pytest.fixture(autouse=True)
def _registered():
    buttons.register()
