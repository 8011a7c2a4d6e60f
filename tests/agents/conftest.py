"""A store of labelled play, made once."""

import pytest
import square_game
from toy import made_store

from sharing import once

square_game.register()


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    from genie.data.store import ClipStore

    return ClipStore.open(once(tmp_path_factory, "labelled-toy", made_store))
