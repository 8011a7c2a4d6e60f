import pytest
import torch

from genie.core.config import UserError, from_dict, to_dict
from genie.presets import registry
from genie.world.config import GenieConfig
from genie.world.genie import Genie

# Millions of parameters that the paper states for the dynamics of its scaling study (table in the
# appendix), and for the parts of the largest model.
FAMILY = {
    "41m": 41,
    "96m": 96,
    "192m": 192,
    "404m": 404,
    "811m": 811,
    "1.6b": 1600,
    "2.7b": 2700,
}


def millions(module: torch.nn.Module) -> float:
    return sum(weight.numel() for weight in module.parameters()) / 1e6


def build(name: str) -> Genie:
    with torch.device("meta"):
        return Genie(registry.get(name).world)


@pytest.mark.parametrize(("name", "stated"), FAMILY.items())
def test_the_scaling_family_has_the_papers_sizes(name: str, stated: float):
    assert millions(build(name).dynamics) == pytest.approx(stated, rel=0.03)


def test_the_largest_has_the_papers_size():
    world = build("large")
    assert millions(world) == pytest.approx(10_700, rel=0.03)
    assert millions(world.dynamics) == pytest.approx(10_100, rel=0.03)
    assert millions(world.tokenizer) == pytest.approx(200, rel=0.03)
    assert millions(world.actions) == pytest.approx(300, rel=0.03)


def test_small_has_about_fifty_million():
    assert millions(build("small")) == pytest.approx(50, rel=0.05)


def test_tiny_plays_with_under_ten_million():
    world = build("tiny")
    assert millions(world.dynamics) + millions(world.tokenizer) < 10


def test_coinrun_is_the_papers_study():
    preset = registry.get("coinrun")
    world, train = preset.world, preset.train
    assert (world.tokenizer.encoder.layers, world.tokenizer.decoder.layers) == (8, 8)
    assert (world.tokenizer.quantizer.codes, world.tokenizer.quantizer.dim) == (1024, 32)
    assert (world.num_actions, world.dynamics.layers, world.sampling.steps) == (6, 12, 25)
    assert (train.tokenizer.batch_size, train.dynamics.batch_size) == (48, 36)


@pytest.mark.parametrize("name", registry.names())
def test_every_preset_survives_json(name: str):
    preset = registry.get(name)
    assert from_dict(GenieConfig, to_dict(preset.world)) == preset.world
    assert from_dict(type(preset.train), to_dict(preset.train)) == preset.train


def test_an_unknown_preset_lists_the_choices():
    with pytest.raises(UserError, match="tiny, coinrun-fast, coinrun"):
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
