"""Every key that was renamed: files of before are read, people are told the new name."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from genie.agents.planning.study import plan_to_goals
from genie.core.config import UserError, from_dict, to_dict
from genie.core.renamed_keys import (
    RENAMED,
    new_option,
    renamed,
    translated,
    with_old_keys,
)
from genie.data.plan import PrepareConfig
from genie.data.prepare import prepare
from genie.data.recording.record import record
from genie.evaluation.config import CoherenceConfig, EvaluationConfig
from genie.models.dynamics import DynamicsConfig
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.lfq import LFQConfig
from genie.models.quantizers.registry import KINDS
from genie.models.quantizers.vq import VQConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig
from genie.presets import registry
from genie.presets.schedule import Augmentation, StageConfig, TrainConfig
from genie.serving.limits import Limits
from genie.world.config import GenieConfig
from genie.world.generate import generate
from genie.world.maskgit import SamplingConfig
from genie.world.replay import Replay

CLASSES = (
    VideoTokenizerConfig, VQConfig, LFQConfig, LatentActionConfig, TransformerConfig,
    DynamicsConfig, StageConfig, TrainConfig, Augmentation, PrepareConfig, EvaluationConfig,
    CoherenceConfig, Limits, SamplingConfig,
)  # fmt: skip
FUNCTIONS = (prepare, record, generate, plan_to_goals)
TRAIN = [("", GenieConfig), ("train", TrainConfig)]
KEYS = [(cls, old, new) for cls in CLASSES for old, new in renamed(cls).items()]
OPTIONS = [(made, old, new) for made in FUNCTIONS for old, new in renamed(made).items()]


def test_no_key_of_the_table_is_left_out():
    assert {each.__name__ for each in (*CLASSES, *FUNCTIONS)} == set(RENAMED)


@pytest.mark.parametrize(("cls", "old", "new"), KEYS)
def test_an_old_key_is_refused_with_its_new_name_and_translated_in_files(cls, old, new):
    names = {field.name for field in dataclasses.fields(cls)}
    assert new in names
    assert old not in names
    value = to_dict(cls())[new]
    with pytest.raises(UserError) as error:
        from_dict(cls, {old: value}, "here")
    assert str(error.value) == f"here.{old}: unknown key, it is now here.{new}"
    assert from_dict(cls, translated(cls, {old: value})) == cls()
    assert old in with_old_keys(cls())


@pytest.mark.parametrize(("made", "old", "new"), OPTIONS)
def test_an_old_argument_of_a_function_is_an_old_option(made, old, new):
    assert new in inspect.signature(made).parameters
    assert old not in inspect.signature(made).parameters
    assert new_option(old, [("", made)]) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("actions.reach", "actions.max_displacement"),
        ("tokenizer.encoder.space", "tokenizer.encoder.spatial_attention"),
        ("dynamics.space", "dynamics.spatial_attention"),
        ("tokenizer.quantizer.decay", "tokenizer.quantizer.ema_decay"),
        ("schedule", "train"),
        ("schedule.seed", "train.seed"),
        ("schedule.dynamics.decay", "train.dynamics.lr_schedule"),
        ("train.augmentation.flip", "train.augmentation.flip_prob"),
        ("schedule.augmentation.flip", "train.augmentation.flip_prob"),
        ("sampling.schedule", "sampling.mask_schedule"),
        ("actions.max_displacement", None),
        ("actions.nothing.reach", None),
        ("train.dynamics.ema_decay", None),
    ],
)
def test_an_old_option_has_a_new_name(old, new):
    assert new_option(old, TRAIN) == new


def test_a_group_is_renamed_only_where_the_new_one_is():
    assert new_option("schedule", [("", record)]) is None


@pytest.mark.parametrize("name", registry.names())
def test_every_preset_comes_back_from_its_old_keys(name):
    preset = registry.get(name)
    for config in (preset.world, preset.train):
        old = with_old_keys(config)
        assert old != to_dict(config)
        assert from_dict(type(config), translated(type(config), old)) == config


def test_keys_are_translated_inside_lists_too():
    old = {"sampling": [{"step": 0, "sampling": {"schedule": "linear"}}], "actions": [1]}
    new = {"sampling": [{"step": 0, "sampling": {"mask_schedule": "linear"}}], "actions": [1]}
    assert translated(Replay, old) == new
    assert translated(Replay, new) == new


def test_what_is_new_or_no_mapping_stays_as_it_is():
    values = to_dict(registry.get("tiny").world)
    assert translated(GenieConfig, values) == values
    assert translated(GenieConfig, [1]) == [1]
    assert translated(GenieConfig, {"actions": 3, 4: 5}) == {"actions": 3, 4: 5}
    both = {"actions": {"reach": 1, "max_displacement": 2}}
    assert translated(GenieConfig, both) == both


@pytest.mark.parametrize("kind", ["vq", "fsq", "lfq"])
def test_files_from_when_all_quantizers_had_one_class_are_read(kind):
    one_class = {
        "dim": 32, "decay": 0.98, "commitment": 0.25, "revive_below": 0.05, "entropy": 0.1,
    }  # fmt: skip
    config = VideoTokenizerConfig(quantizer=KINDS[kind](codes=64))
    old = with_old_keys(config)
    old["quantizer"].pop("codebooks", None)  # is newer than those files
    assert old["quantizer"] == {"kind": kind, "codes": 64, **one_class}
    assert from_dict(VideoTokenizerConfig, translated(VideoTokenizerConfig, old)) == config


def test_what_no_quantizer_has_is_still_refused():
    values = {"quantizer": {"kind": "fsq", "codes": 64, "dim": 32, "codez": 1}}
    found = translated(VideoTokenizerConfig, values)
    assert found == {"quantizer": {"kind": "fsq", "codes": 64, "codez": 1}}
    unknown = {"quantizer": {"kind": "x", "dim": 32}}
    assert translated(VideoTokenizerConfig, unknown) == unknown
