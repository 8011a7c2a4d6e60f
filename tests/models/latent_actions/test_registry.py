from pathlib import Path

import pytest

from genie.core.unions import kinds_of
from genie.models import latent_actions
from genie.models.latent_actions.registry import ActionsConfig
from genie.world.config import GenieConfig

KINDS = kinds_of(ActionsConfig)
NO_KINDS = {"__init__", "base", "registry", "regularizers", "lookup_free"}


def test_each_file_is_a_kind_of_its_name():
    files = {path.stem for path in Path(latent_actions.__file__).parent.glob("*.py")}
    assert files - NO_KINDS == set(KINDS)
    modules = {name: cls.__module__.rpartition(".")[2] for name, cls in KINDS.items()}
    assert modules == {name: name for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_tells_its_name_first(name):
    assert KINDS[name]().kind == name


def test_the_default_moves_pixels():
    assert next(iter(KINDS)) == GenieConfig().actions.kind == "motion"
