import importlib
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from genie import Genie
from genie.presets import registry

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
variants = importlib.import_module("variants")
BASE = registry.get("coinrun-tiny").world


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_a_variant_is_a_world_that_differs_in_its_stage_only(name):
    variant = variants.VARIANTS[name]
    config = variants.config_of(variant, BASE)
    differing = {
        row.name for row in fields(config) if getattr(config, row.name) != getattr(BASE, row.name)
    }
    plain = name.endswith("default") or variant.balanced_actions
    assert differing == (set() if plain else {variant.stage})
    with torch.device("meta"):
        Genie(config)


def test_the_same_time_is_fewer_steps_for_slow_steps():
    rows = [
        {"variant": name, "seed": 0, "budget": "steps", "ms_per_step": ms}
        for name, ms in (("tokenizer: default", 10.0), ("conv", 40.0), ("LFQ", 10.5))
    ]
    assert variants.steps_in_time("conv", 0, rows, 1000) == 250
    assert variants.steps_in_time("LFQ", 0, rows, 1000) == 0
    assert variants.steps_in_time("conv", 1, rows, 1000) == 0


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    path = tmp_path / "variants.jsonl"
    assert variants.done(path) == []
    path.write_text(json.dumps({"variant": "conv"}) + "\n" + '{"variant": "co')
    assert variants.done(path) == [{"variant": "conv"}]
