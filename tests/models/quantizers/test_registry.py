import importlib
import re
import textwrap
from pathlib import Path

import torch

from genie.models import quantizers
from genie.models.quantizers.base import BaseConfig
from genie.models.quantizers.registry import KINDS

RECIPE = Path(__file__).parents[3] / "docs" / "extending.md"
NO_QUANTIZERS = {"__init__", "base", "registry", "product"}


def test_each_file_is_a_kind_of_its_name():
    files = {path.stem for path in Path(quantizers.__file__).parent.glob("*.py")}
    assert files - NO_QUANTIZERS == set(KINDS)
    assert {kind: cls.__module__.rpartition(".")[2] for kind, cls in KINDS.items()} == {
        kind: kind for kind in KINDS
    }


def test_the_default_is_the_paper_s():
    assert next(iter(KINDS)) == "vq"


def test_the_recipe_of_the_documentation_makes_a_quantizer(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", RECIPE.read_text("utf-8"), re.DOTALL)
    assert code
    (tmp_path / "recipe_quantizer.py").write_text(textwrap.dedent(code[1]))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("recipe_quantizer")
    config = module.SignConfig(codes=16)
    assert isinstance(config, BaseConfig)
    features = torch.randn(3, 5, 4, requires_grad=True)
    vectors, codes, _ = config.build()(features)
    assert torch.equal(config.build().decode(codes), vectors)
    vectors.sum().backward()
    assert torch.equal(features.grad, torch.ones(3, 5, 4))
