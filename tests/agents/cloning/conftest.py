"""Expert play of the toy's square, and the steps in it."""

import pytest
from square_game import expert_store
from toy import ToyWorld

from genie.agents.cloning.expert_steps import read_expert
from genie.data.store import ClipStore
from sharing import once


@pytest.fixture(scope="session")
def expert_video(tmp_path_factory):
    return ClipStore.open(once(tmp_path_factory, "expert-square", expert_store))


@pytest.fixture(scope="session")
def steps(expert_video):
    return read_expert(ToyWorld(), expert_video, "train")
