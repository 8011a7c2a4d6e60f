from pathlib import Path

from genie.models import quantizers
from genie.models.quantizers.registry import KINDS

NO_QUANTIZERS = {"__init__", "base", "registry"}


def test_each_file_is_a_kind_of_its_name():
    files = {path.stem for path in Path(quantizers.__file__).parent.glob("*.py")}
    assert files - NO_QUANTIZERS == set(KINDS)
    assert {kind: cls.__module__.rpartition(".")[2] for kind, cls in KINDS.items()} == {
        kind: kind for kind in KINDS
    }


def test_the_default_is_the_paper_s():
    assert next(iter(KINDS)) == "vq"
