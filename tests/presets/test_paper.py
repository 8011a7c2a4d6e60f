import pytest
from sizes import millions

from genie.models.dynamics import DynamicsConfig
from genie.presets import paper, registry, small

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


@pytest.mark.parametrize("preset", [paper.coinrun_paper(), small.tiny_paper()])
def test_the_papers_rules_leave_none_of_ours(preset):
    world, train = preset.world, preset.train
    assert (world.actions.kind, world.actions.downsample) == ("pixels", 1)
    assert world.actions.continuous_fraction == world.actions.motion_weight == 0
    assert (world.tokenizer.quantizer.kind, world.tokenizer.motion_weight) == ("vq", 0)
    dynamics, plain = world.dynamics, DynamicsConfig()
    assert (dynamics.context, dynamics.mask_ratio) == ("masked", "uniform")
    assert (dynamics.action_conditioning, dynamics.copy_head) == ("add", False)
    for name in ("static_action_dropout", "action_dropout", "unconditional_fraction"):
        assert getattr(dynamics, name) == getattr(plain, name) == 0
    assert (world.sampling.steps, world.sampling.temperature) == (25, 2)
    assert train.joint
    assert {stage.optimizer for stage in train.stages.values()} == {"adamw"}
    windows = {part.window for part in (world.tokenizer.encoder, world.actions.encoder, dynamics)}
    assert windows == {train.dynamics.clip_frames}


def test_the_paper_s_rules_change_no_size_of_the_study():
    ours, theirs = millions(paper.coinrun()), millions(paper.coinrun_paper())
    assert theirs["tokenizer"] == ours["tokenizer"]
    assert theirs["actions"] == pytest.approx(ours["actions"], rel=0.03)
    assert theirs["dynamics"] == pytest.approx(ours["dynamics"], rel=0.05)
