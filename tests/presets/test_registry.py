import pytest
import torch

from genie.core.config import UserError, from_dict, to_dict
from genie.presets import registry
from genie.world.config import GenieConfig


@pytest.mark.parametrize("name", registry.names())
def test_every_preset_survives_json(name: str):
    preset = registry.get(name)
    assert from_dict(GenieConfig, to_dict(preset.world)) == preset.world
    assert from_dict(type(preset.train), to_dict(preset.train)) == preset.train


def test_an_unknown_preset_lists_the_choices():
    with pytest.raises(UserError, match="tiny, tiny-paper, coinrun-fast, coinrun"):
        registry.get("gigantic")


def test_create_functions_take_overrides():
    world = registry.create_genie_small(
        height=16, width=16, tokenizer={"encoder": {"layers": 1}}, dynamics={"layers": 1}
    )
    assert world.config.tokenizer.encoder.layers == 1
    assert world.config.tokenizer.decoder.layers == 4
    with torch.device("meta"):
        assert registry.create_genie_large(num_actions=4).config.num_actions == 4
    with pytest.raises(UserError, match="numactions"):
        registry.create_genie_small(numactions=3)
