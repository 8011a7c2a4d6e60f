import pytest

from genie import Genie, UserError


def test_nested_dicts_build_a_world_and_unknown_keys_are_named():
    values = {"height": 16, "width": 16, "dynamics": {"layers": 1, "width": 32, "heads": 4}}
    assert Genie(values).config.dynamics.layers == 1
    with pytest.raises(UserError, match=r"dynamics\.layerz: unknown key, did you mean 'layers'"):
        Genie({"dynamics": {"layerz": 1}})
    with pytest.raises(UserError, match=r"tokenizer\.patch: 32 is larger"):
        Genie({"height": 16, "width": 16, "tokenizer": {"patch": 32}})
