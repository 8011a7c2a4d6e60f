"""A small world on disk."""

import pytest

from small import TEAL, save_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small world with a prompt, never trained."""
    return save_world(tmp_path_factory.mktemp("world"), TEAL, num_actions=3)
