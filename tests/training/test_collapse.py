from dataclasses import replace

import pytest
import torch

from genie.models.quantizers.fsq import FSQConfig
from genie.training.collapse import report_actions, report_dynamics, report_tokenizer
from genie.training.previews import held_out_clips
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.world.genie import Genie


@pytest.fixture
def world(small_world):
    torch.manual_seed(0)
    world = Genie(small_world).eval()
    world.actions.quantizer.placed.fill_(True)
    return world


def test_collapsed_actions_are_said_loudly(world, store, console):
    clips = held_out_clips(store, 6)
    world.actions.quantizer.codebook[1:] = 1e3
    assert report_actions(world.actions, clips, DiagnosticWarnings(console)) == 1.0
    assert "warning" in console.file.getvalue()
    assert "continuous_fraction" in console.file.getvalue()


def test_actions_without_codes_are_said_loudly(world, store, console):
    world.actions.quantizer.placed.fill_(False)
    report_actions(world.actions, held_out_clips(store, 6), DiagnosticWarnings(console))
    assert "no codes yet" in console.file.getvalue()


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


def test_codes_in_use_are_only_told(world, store, console):
    clips = held_out_clips(store, 6)
    features = world.tokenizer._features(clips.float() / 127.5 - 1).flatten(0, 2).detach()
    world.tokenizer.quantizer.codebook[:] = world.tokenizer.quantizer.normalise(features[:32])
    report_tokenizer(world.tokenizer, clips, DiagnosticWarnings(console))
    latents = torch.eye(world.actions.config.dim)[:4] * 2
    world.actions.quantizer.codebook[:] = latents
    world.actions.infer = lambda frames: torch.arange(4).expand(len(frames), 4)
    assert report_actions(world.actions, clips, DiagnosticWarnings(console)) == pytest.approx(4)
    assert "warning" not in console.file.getvalue()


def test_what_was_said_while_training_is_not_said_again(world, store, console):
    warnings, clips = DiagnosticWarnings(console), held_out_clips(store, 6)
    world.actions.quantizer.codebook[1:] = 1e3
    for _ in range(2):
        report_actions(world.actions, clips, warnings)
    assert console.file.getvalue().count("have collapsed") == 1


def test_figures_of_the_dynamics_are_told_and_what_is_wrong_with_them(console):
    seen = [Diagnostic("effect", 0.001, "They ignore the actions."), Diagnostic("gain", 2.5)]
    report_dynamics(seen, DiagnosticWarnings(console))
    assert "effect 0.001  gain 2.5" in console.file.getvalue()
    assert console.file.getvalue().count("They ignore the actions.") == 1
