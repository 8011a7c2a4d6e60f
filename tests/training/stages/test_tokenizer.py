from dataclasses import replace

import pytest
import torch

from genie.models.quantizers.fsq import FSQConfig
from genie.training.previews import held_out_clips
from genie.training.reporting import DiagnosticWarnings
from genie.training.stages.tokenizer import report_tokenizer
from genie.world.genie import Genie


@pytest.fixture
def world(small_world):
    torch.manual_seed(0)
    world = Genie(small_world).eval()
    world.actions.quantizer.placed.fill_(True)
    return world


def test_a_collapsed_tokenizer_is_said_loudly(world, store, console):
    clips = held_out_clips(store, 6)
    world.tokenizer.quantizer.codebook[1:] = 1e3
    assert report_tokenizer(world.tokenizer, clips, DiagnosticWarnings(console)) < 0.05
    assert "1 of 32 codes" in console.file.getvalue()
    assert "fsq" in console.file.getvalue()


def test_few_codes_of_fsq_are_no_collapse(small_world, store, console):
    quantizer = FSQConfig(codes=1000)
    config = replace(small_world, tokenizer=replace(small_world.tokenizer, quantizer=quantizer))
    clips = torch.zeros_like(held_out_clips(store, 6))
    world = Genie(config).eval()
    assert report_tokenizer(world.tokenizer, clips, DiagnosticWarnings(console)) < 0.05
    assert "codes in use" in console.file.getvalue()
    assert "warning" not in console.file.getvalue()


def test_codes_in_use_are_only_reported(world, store, console):
    clips = held_out_clips(store, 6)
    features = world.tokenizer.features(clips.float() / 127.5 - 1).flatten(0, 2).detach()
    world.tokenizer.quantizer.codebook[:] = world.tokenizer.quantizer.normalise(features[:32])
    report_tokenizer(world.tokenizer, clips, DiagnosticWarnings(console))
    assert "warning" not in console.file.getvalue()
