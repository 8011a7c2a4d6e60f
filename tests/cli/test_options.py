import pytest
import torch
from jsonargparse import Namespace

from genie.cli.options import require_device, speed_options, values_of
from genie.cli.parser import Parser
from genie.core.config import UserError


def test_the_configuration_file_is_no_value():
    assert values_of(Namespace(config=["a.yaml"], out="b")) == {"out": "b"}


def test_speed_is_a_device_a_precision_and_compiling():
    parser = Parser()
    speed_options(parser)
    plain = {"device": None, "dtype": "float32", "compile": False}
    assert values_of(parser.parse_args([])) == plain
    chosen = parser.parse_args(["--device", "cpu", "--dtype", "bfloat16", "--compile"])
    assert values_of(chosen) == {"device": "cpu", "dtype": "bfloat16", "compile": True}
    with pytest.raises(UserError, match="dtype: expected float32 or bfloat16"):
        parser.parse_args(["--dtype", "float16"])


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    require_device(None)
    require_device("cpu")
    with pytest.raises(UserError, match="there is no cuda here"):
        require_device("cuda")
