"""A small world of random weights."""

import pytest
from untrained import CONFIG, stirred

from genie import Genie


@pytest.fixture(scope="module")
def world() -> Genie:
    return stirred(CONFIG)
