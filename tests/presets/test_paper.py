import pytest
from sizes import millions

from genie.presets import paper, registry

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


@pytest.mark.parametrize(("name", "stated"), FAMILY.items())
def test_the_scaling_family_has_the_papers_sizes(name: str, stated: float):
    assert millions(registry.get(name))["dynamics"] == pytest.approx(stated, rel=0.03)


def test_the_largest_has_the_papers_size():
    found = millions(paper.large())
    assert found["world"] == pytest.approx(10_700, rel=0.03)
    assert found["dynamics"] == pytest.approx(10_100, rel=0.03)
    assert found["tokenizer"] == pytest.approx(200, rel=0.03)
    assert found["actions"] == pytest.approx(300, rel=0.03)


def test_coinrun_is_the_papers_study():
    preset = paper.coinrun()
    world, train = preset.world, preset.train
    assert (world.tokenizer.encoder.layers, world.tokenizer.decoder.layers) == (8, 8)
    assert (world.tokenizer.quantizer.codes, world.tokenizer.quantizer.dim) == (1024, 32)
    assert (world.num_actions, world.dynamics.layers, world.sampling.steps) == (6, 12, 25)
    assert (train.tokenizer.batch_size, train.dynamics.batch_size) == (48, 36)


def test_the_fast_study_has_fewer_tokens_and_the_same_training():
    fast, study = paper.coinrun_fast(), paper.coinrun()
    assert (fast.world.tokenizer.patch, study.world.tokenizer.patch) == (16, 4)
    assert fast.train == study.train
