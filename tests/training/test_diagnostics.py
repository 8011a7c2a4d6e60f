"""Each diagnostic is silent on a model that works, and speaks of one that was spoilt."""

import pytest
import torch

from genie.data.sampler import BatchIndex
from genie.models.dynamics import Dynamics
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.training import diagnostics
from genie.training.batches import FrameBatches
from genie.training.diagnostics import (
    action_effect,
    action_perplexity,
    codebook_usage,
    latent_gain,
    rollout_drift,
)
from genie.training.previews import held_out_clips
from genie.world.genie import Genie


def trained(model, batch, steps, rate=1e-2):
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    model.train()
    for step in range(steps):
        loss = model.loss(*batch(step), progress=step / steps)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def latent_actions():
    layers = TransformerConfig(layers=1, width=32, heads=2, window=1)
    config = LatentActionConfig(patch=4, max_displacement=3, encoder=layers, decoder=layers)
    return config.build((16, 16), 4)


@pytest.fixture(scope="module")
def actions(store):
    """A latent action model that has learned how the square moves."""
    torch.manual_seed(0)
    read = FrameBatches(store, 3, 8)
    return trained(latent_actions(), lambda step: read(BatchIndex(0, step)), 100)


@pytest.fixture
def clips(store):
    return held_out_clips(store, 6, 12)


def test_latents_that_say_something_are_no_cause_for_alarm(actions, clips):
    for diagnostic in (latent_gain(actions, clips), action_perplexity(actions, clips)):
        assert diagnostic.warning == ""
    assert latent_gain(actions, clips).value > 1
    assert action_perplexity(actions, clips).value > 2


def test_latents_that_nobody_reads_are_named(actions, clips):
    deaf = latent_actions().eval()
    deaf.load_state_dict(actions.state_dict())
    torch.nn.init.zeros_(deaf.from_latent.weight)
    diagnostic = latent_gain(deaf, clips)
    assert diagnostic.value == 0
    assert "say nothing" in diagnostic.warning
    assert "+0.00 dB" in diagnostic.warning
    assert "actions.motion_weight" in diagnostic.warning


def test_one_action_for_everything_is_named(actions, clips):
    collapsed = latent_actions().eval()
    collapsed.load_state_dict(actions.state_dict())
    collapsed.quantizer.codebook[1:] = 1e3
    diagnostic = action_perplexity(collapsed, clips)
    assert diagnostic.value == 1
    assert "collapsed: perplexity 1.00 of 4" in diagnostic.warning


def test_dead_codes_are_named_and_living_ones_are_not(store, small_world, clips):
    torch.manual_seed(0)
    read = FrameBatches(store, 4, 8)
    tokenizer = trained(
        Genie(small_world).tokenizer, lambda step: read(BatchIndex(0, step)), 20, 1e-3
    )
    assert codebook_usage(tokenizer, clips).warning == ""
    tokenizer.quantizer.codebook[1:] = 1e3
    diagnostic = codebook_usage(tokenizer, clips)
    assert diagnostic.value == 1 / 32
    assert "only 1 of 32 codes" in diagnostic.warning


def test_quantizers_that_cannot_collapse_are_advised(small_world, clips, monkeypatch):
    monkeypatch.setitem(diagnostics.KINDS, "new", FSQConfig)
    tokenizer = Genie(small_world).tokenizer.eval()
    tokenizer.quantizer.codebook[1:] = 1e3
    assert "the quantizer kind fsq or new, which" in codebook_usage(tokenizer, clips).warning


def steps_of(step, clips=32):
    """Clips of tokens (B,5,4) in which an action says how far each token moves on."""
    generator = torch.Generator().manual_seed(step)
    actions = torch.randint(3, (clips, 4), generator=generator)
    first = torch.randint(6, (clips, 1, 4), generator=generator)
    moved = torch.cat([torch.zeros(clips, 1, dtype=torch.int64), actions.cumsum(dim=1)], dim=1)
    return (first + moved[..., None]) % 6, actions


@pytest.fixture(scope="module")
def obeying(small_world_of_the_module):
    torch.manual_seed(0)
    dynamics = Dynamics(small_world_of_the_module.dynamics, (2, 2), 6, 3)
    return trained(dynamics, steps_of, 100)


def test_dynamics_that_obey_are_no_cause_for_alarm(obeying):
    diagnostic = action_effect(obeying, *steps_of(999))
    assert diagnostic.value > 1
    assert diagnostic.warning == ""


def test_dynamics_that_ignore_the_action_are_named(obeying, small_world):
    ignoring = Dynamics(small_world.dynamics, (2, 2), 6, 3).eval()
    ignoring.load_state_dict(obeying.state_dict())
    torch.nn.init.zeros_(ignoring.embedding.action.weight)
    diagnostic = action_effect(ignoring, *steps_of(999))
    assert diagnostic.value == pytest.approx(0, abs=1e-5)
    assert "ignore the actions" in diagnostic.warning
    assert "+0.000 nats" in diagnostic.warning
    assert "changed_token_weight" in diagnostic.warning


def test_where_all_actions_are_the_same_nothing_is_said_of_the_dynamics(obeying):
    tokens, actions = steps_of(999)
    assert action_effect(obeying, tokens, torch.zeros_like(actions)).warning == ""


@pytest.fixture
def rolling(small_world, clips, monkeypatch):
    """What is said of a world that makes these frames of the clips."""

    def rolling(made):
        world = Genie(small_world).eval()
        monkeypatch.setattr(world, "generate", lambda prompt, actions: made)
        return {diagnostic.name: diagnostic for diagnostic in rollout_drift(world, clips)}

    return rolling


def test_rollouts_that_hold_together_are_no_cause_for_alarm(rolling, clips):
    for made in (clips, clips[:, :1].expand_as(clips)):
        assert not any(diagnostic.warning for diagnostic in rolling(made).values())
    assert rolling(clips)["rollout_gain_over_copying"].value > 3
    assert rolling(clips)["rollout_motion_ratio"].value == 1


def test_rollouts_that_dissolve_are_named(rolling, clips):
    noise = torch.randint(0, 256, clips.shape, generator=torch.Generator().manual_seed(0))
    seen = rolling(noise.to(torch.uint8))
    assert "Rollouts drift" in seen["rollout_gain_over_copying"].warning
    assert "Rollouts run away" in seen["rollout_motion_ratio"].warning
    assert seen["rollout_motion_ratio"].value > 3
    white = rolling(torch.full_like(clips, 255))
    assert "dB further" in white["rollout_gain_over_copying"].warning
    assert white["rollout_motion_ratio"].warning == ""
    assert "dynamics.context_corruption" in white["rollout_gain_over_copying"].warning
