"""A small world and a small clip store on disk."""

import numpy as np
import pytest

from small import TEAL, save_store, save_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small world with a prompt, never trained."""
    return save_world(tmp_path_factory.mktemp("world"), TEAL, num_actions=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A clip store of noise, a training and a held-out episode."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), np.uint8)
    folder = tmp_path_factory.mktemp("store")
    return save_store(folder, ("train", noise[:40]), ("val", noise[40:]))
