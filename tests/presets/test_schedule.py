import pytest

from genie.core.config import UserError, from_dict, to_dict
from genie.presets.schedule import StageConfig, TrainConfig, lr_scale, progress


def test_progress_takes_whichever_budget_is_nearer_its_end():
    both = StageConfig(steps=100, minutes=1)
    assert progress(both, 50, 6) == 0.5
    assert progress(both, 10, 45) == 0.75
    assert progress(both, 400, 0) == 1.0
    assert progress(StageConfig(steps=100), 10, 1e9) == 0.1
    assert progress(StageConfig(minutes=2), 10**9, 60) == 0.5


def test_learning_rate_warms_up_and_decays_to_its_final_value():
    stage = StageConfig(steps=1000, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    assert lr_scale(stage, 0, 0.0) == pytest.approx(0.1)
    assert lr_scale(stage, 4, 0.0) == pytest.approx(0.5)
    assert lr_scale(stage, 500, 0.5) == pytest.approx(0.55)
    assert lr_scale(stage, 1000, 1.0) == pytest.approx(0.1)
    scales = [lr_scale(stage, step, step / 1000) for step in range(10, 1001)]
    assert scales == sorted(scales, reverse=True)


def test_wsd_is_flat_then_linear():
    stage = StageConfig(
        steps=1000, warmup_steps=10, lr_schedule="wsd", learning_rate=1.0, final_learning_rate=0.0
    )
    assert lr_scale(stage, 100, 0.1) == lr_scale(stage, 799, 0.799) == 1.0
    assert lr_scale(stage, 900, 0.9) == pytest.approx(0.5)
    assert lr_scale(stage, 1000, 1.0) == 0.0


def test_constant_stays():
    stage = StageConfig(steps=1000, lr_schedule="constant", warmup_steps=0)
    assert lr_scale(stage, 0, 0.0) == lr_scale(stage, 1000, 1.0) == 1.0


def test_a_warm_up_longer_than_the_budget_still_ends():
    stage = StageConfig(minutes=1, warmup_steps=10_000, lr_schedule="constant")
    assert lr_scale(stage, 20, 0.1) == 1.0
    assert lr_scale(stage, 20, 0.05) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", -1),
        ("minutes", float("inf")),
        ("batch_size", 0),
        ("clip_frames", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("final_learning_rate", 1.0),
        ("ema_decay", 1.0),
        ("beta2", 1.0),
        ("muon_lr_scale", 0.0),
        ("grad_accum_steps", 3),
        ("warmup_steps", -1),
    ],
)
def test_impossible_stages_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=field):
        StageConfig(**{"steps": 10, field: value})


def test_a_stage_without_a_budget_is_left_out():
    assert StageConfig().skipped
    assert not StageConfig(steps=1).skipped
    assert not StageConfig(minutes=0.5).skipped


def test_train_config_survives_json_and_names_bad_fields():
    config = TrainConfig(tokenizer=StageConfig(minutes=3), precision="bf16", devices=2)
    assert from_dict(TrainConfig, to_dict(config)) == config
    with pytest.raises(UserError, match=r"dynamics\.stepz"):
        from_dict(TrainConfig, {"dynamics": {"stepz": 3}})
    with pytest.raises(UserError, match=r"actions\.grad_accum_steps"):
        from_dict(TrainConfig, {"actions": {"steps": 3, "grad_accum_steps": 5}})
    with pytest.raises(UserError, match="prompt_encoding_fraction"):
        TrainConfig(prompt_encoding_fraction=1.5)
