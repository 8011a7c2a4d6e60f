"""What every latent action model promises. A new kind is found by the list."""

from dataclasses import replace

import pytest
import torch
from moving import moving_block
from untrained_tokenizer import build as build_tokenizer

from genie.core.config import UserError
from genie.core.unions import kinds_of
from genie.models.latent_actions.registry import ActionsConfig
from genie.models.layers.transformer import TransformerConfig

LAYERS = TransformerConfig(layers=2, width=32, heads=4, window=2)
SIZES = {"encoder": LAYERS, "decoder": LAYERS, "channels": 16}
KINDS = {
    name: kind(patch=4, dim=4, **{key: SIZES[key] for key in SIZES if hasattr(kind(), key)})
    for name, kind in kinds_of(ActionsConfig).items()
}


@pytest.fixture(params=KINDS)
def config(request):
    return KINDS[request.param]


def build(config):
    tokenizer = build_tokenizer().eval()
    torch.manual_seed(0)
    return config.build_for(tokenizer, (16, 16), 4)


def test_one_action_for_each_step_and_a_frame_of_each(config):
    model, (frames, _) = build(config), moving_block(3)
    actions = model.infer(frames)
    assert actions.shape == (3, 4)
    assert actions.min() >= 0
    assert actions.max() < 4
    assert model.latents(frames).shape == (3, 4, 4)
    assert model.reconstruct(frames).shape == (3, 4, 16, 16, 3)
    assert config.layers == 4, config


def test_a_latent_depends_on_no_frame_that_is_later_or_longer_ago_than_it_says(config):
    model = build(config).eval()
    frames = torch.randint(0, 256, (2, 8, 16, 16, 3), dtype=torch.uint8)
    before = model._latents(frames)
    for t in range(8):
        changed = frames.clone()
        changed[:, t] = 255 - changed[:, t]
        moved = (model._latents(changed) - before).abs().amax(dim=(0, 2)) > 1e-5
        depends = [t - 1 <= i <= t - 1 + model.past for i in range(7)]
        assert not any(m and not d for m, d in zip(moved.tolist(), depends, strict=True)), t
        assert t == 0 or moved[t - 1]


def test_a_prediction_sees_no_frame_that_is_not_before_it(config):
    model = build(config).eval()
    frames, actions = moving_block(2)
    latents = model.quantizer.decode(actions)
    changed = frames.clone()
    changed[:, 3] = 255 - changed[:, 3]
    before, after = model.predict(frames, latents), model.predict(changed, latents)
    assert torch.equal(before[:, :3], after[:, :3])


def test_a_latent_that_is_not_the_same_changes_the_prediction(config):
    model, (frames, _) = build(config).train(), moving_block(2)
    for weight in model.parameters():  # what starts as nothing would hide it
        torch.nn.init.normal_(weight, std=0.1)
    pixels = model._pixels(frames)
    latents = torch.randn(2, 4, 4, requires_grad=True)
    loss = model._predict(pixels, latents).square().mean()
    (gradient,) = torch.autograd.grad(loss, latents)
    assert (gradient.abs().amax(dim=-1) > 0).all()


def test_continuous_first_and_codes_later(config):
    model = build(replace(config, continuous_fraction=0.5)).train()
    frames, _ = moving_block(8)
    assert model.phase_boundaries == (0.0, 0.5)
    assert "perplexity" not in model.loss(frames, 0.1)[1]
    assert not model.quantizer.initialized
    assert "perplexity" in model.loss(frames, 0.9)[1]
    assert model.quantizer.initialized


def test_from_the_first_step_the_encoder_learns_through_the_codes(config):
    model = build(replace(config, continuous_fraction=0.0)).train()
    model.loss(moving_block(8)[0], 0.0)[0].backward()
    assert model.quantizer.initialized
    assert model.to_latent.weight.grad.abs().max() > 0


@pytest.mark.parametrize("codebooks", [1, 2])
def test_codes_by_lfq(config, codebooks):
    config = replace(config, continuous_fraction=0.0, lfq_codebooks=codebooks, entropy_weight=0.1)
    model, (frames, _) = build(config).train(), moving_block(8)
    loss, logs = model.loss(frames)
    loss.backward()
    assert "perplexity" in logs
    assert model.quantizer.to_bits.weight.grad.abs().max() > 0
    assert model.to_latent.weight.grad.abs().max() > 0
    actions = model.infer(frames)
    assert 0 <= actions.min() <= actions.max() < 4
    assert model.reconstruct(frames).shape == (8, 4, 16, 16, 3)
    again = build(config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.infer(frames), actions)


def test_inferring_learns_nothing_even_in_training_mode(config):
    model, (frames, _) = build(config).train(), moving_block(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.infer(frames)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["entropy_weight", "smoothness_weight", "consistency_weight"])
def test_each_loss_of_latents_moves_the_encoder_and_is_off_by_default(config, name):
    frames = torch.cat([moving_block(6)[0]] * 2)
    gradients = []
    for weight in (0.0, 10.0):
        model = build(replace(config, continuous_fraction=0.0, **{name: weight})).train()
        loss, _ = model.loss(frames)
        loss.backward()
        gradients.append((loss.item(), model.to_latent.weight.grad.clone()))
    assert getattr(type(config)(), name) == 0
    assert gradients[0][0] < gradients[1][0]
    assert (gradients[1][1] - gradients[0][1]).abs().max() > 1e-4


def test_noise_on_a_code_reaches_the_decoder_in_training_only(config):
    frames, _ = moving_block(4)
    model = build(replace(config, continuous_fraction=0.0, embedding_noise=1.0))
    seen = []
    model.from_latent.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    model.train().loss(frames)
    model.eval().loss(frames)
    codes = model.quantizer.codebook
    distances = [torch.cdist(vectors.flatten(0, -2), codes).amin(1) for vectors in seen]
    assert distances[0].mean() > 0.5
    assert distances[1].max() < 1e-3


@pytest.mark.parametrize(("downsample", "patch"), [(1, 4), (3, 4), (2, 16)])
def test_any_frame_size(config, downsample, patch):
    if config.from_tokens and downsample > 1:
        with pytest.raises(UserError, match="downsample"):
            replace(config, downsample=downsample)
        return
    config = replace(config, downsample=downsample, patch=patch)
    model = config.build_for(build_tokenizer(size=(17, 23)), (17, 23), 4)
    frames = torch.randint(0, 256, (2, 3, 17, 23, 3), dtype=torch.uint8)
    size = (-(-17 // downsample), -(-23 // downsample))
    assert model.frame_size == size
    assert model.reconstruct(frames).shape[2:4] == size
    assert model.train().loss(frames)[0].isfinite()


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 1},
        {"continuous_fraction": 1.0},
        {"patch": 0},
        {"downsample": 0},
        {"entropy_weight": -1.0},
        {"embedding_noise": -1.0},
        {"lfq_codebooks": -1},
        {"lfq_codebooks": 1, "continuous_fraction": 0.5},
    ],
)
def test_impossible_values_name_the_field(config, change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(config, **change)
