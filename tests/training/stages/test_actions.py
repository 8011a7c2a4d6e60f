import pytest
import torch

from genie.training.finetune import BaseWorld
from genie.training.previews import held_out_clips
from genie.training.reporting import DiagnosticWarnings
from genie.training.stages.actions import STAGE, report_actions
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


def test_what_was_said_while_training_is_not_said_again(world, store, console):
    warnings, clips = DiagnosticWarnings(console), held_out_clips(store, 6)
    world.actions.quantizer.codebook[1:] = 1e3
    for _ in range(2):
        report_actions(world.actions, clips, warnings)
    assert console.file.getvalue().count("have collapsed") == 1


def test_actions_in_use_are_only_reported(world, store, console):
    clips = held_out_clips(store, 6)
    latents = torch.eye(world.actions.config.dim)[:4] * 2
    world.actions.quantizer.codebook[:] = latents
    world.actions.infer = lambda frames: torch.arange(4).expand(len(frames), 4)
    assert report_actions(world.actions, clips, DiagnosticWarnings(console)) == pytest.approx(4)
    assert "warning" not in console.file.getvalue()


def test_actions_of_a_base_world_are_kept_or_have_to_be_trained():
    kept, anew = BaseWorld("base"), BaseWorld("base", keep_actions=False)
    assert STAGE.kept(kept)
    assert not STAGE.kept(anew)
    assert STAGE.missing(kept) == ""
    assert "keep the actions" in STAGE.missing(anew)
    assert "has not run here" in STAGE.missing(None)
