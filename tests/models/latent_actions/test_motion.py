from dataclasses import replace

import pytest
import torch
from moving import moving_block

from genie.core.config import UserError
from genie.models.latent_actions.base import RECENT_PER_CODE, LatentActionModel
from genie.models.latent_actions.motion import LatentActionConfig
from genie.models.layers.transformer import TransformerConfig
from genie.presets.schedule import StageConfig
from genie.training.optimizers import build_optimizer

CONFIG = LatentActionConfig(
    patch=4,
    encoder=TransformerConfig(layers=2, width=32, heads=4, window=2),
    decoder=TransformerConfig(layers=2, width=32, heads=4, window=3),
    dim=4,
)


def build(config: LatentActionConfig = CONFIG) -> LatentActionModel:
    torch.manual_seed(0)
    return config.build((16, 16), 4)


def test_action_t_sees_frame_t_plus_one_and_nothing_later():
    model = build().eval()
    frames, _ = moving_block(2)
    changed = frames.clone()
    changed[:, 3] = 255 - changed[:, 3]
    before, after = (model._latents(x) for x in (frames, changed))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-5
    assert moved.tolist() == [False, False, True, True]


@pytest.mark.parametrize(("changes", "seen"), [(1, [0, 1, 1, 0]), (2, [0, 1, 1, 1])])
def test_a_second_change_shows_the_speed_before_the_action(changes, seen):
    model = build(
        replace(CONFIG, num_frame_differences=changes, encoder=replace(CONFIG.encoder, window=1))
    )
    frames, _ = moving_block(2)
    other = frames.clone()
    other[:, 2] = 255 - other[:, 2]
    before, after = (model.eval()._latents(x) for x in (frames, other))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-5
    assert moved.tolist() == [bool(x) for x in seen]
    assert model.train().loss(frames)[0].isfinite()


@pytest.mark.long
def test_learns_what_was_pressed_from_pixels_alone():
    model = build(replace(CONFIG, continuous_fraction=0.6)).train()
    steps = 120
    schedule = StageConfig(steps=steps, learning_rate=3e-3, optimizer="muon")
    optimizer = build_optimizer(model, schedule)
    for step in range(steps):
        frames, _ = moving_block(12, seed=step)
        loss, _ = model.loss(frames, step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    frames, actions = moving_block(64, seed=10_000)
    codes = model.infer(frames)
    table = torch.zeros(4, 4)
    table.index_put_((codes.flatten(), actions.flatten()), torch.ones(codes.numel()), True)
    assert table.amax(dim=1).sum() / table.sum() > 0.95  # a code of its own for each action,
    # and the decoder uses it.
    inferred = model.reconstruct(frames).float() - frames[:, 1:]
    shifted = model.reconstruct(frames, (codes + 1) % 4).float() - frames[:, 1:]
    assert inferred.square().mean() < 0.1 * shifted.square().mean()


@pytest.mark.parametrize("reach", [1, 4, 8])
def test_before_it_learns_nearly_nothing_changes(reach):
    frames, actions = moving_block(2)
    expected = frames[:, :-1].float()
    made = build(replace(CONFIG, max_displacement=reach)).reconstruct(frames, actions).float()
    change = (frames[:, 1:].float() - expected).abs().mean()
    assert (made - expected).abs().mean() < 0.2 * change


@torch.no_grad()
def test_the_same_move_is_the_same_action_at_every_patch():
    torch.manual_seed(0)
    model = replace(CONFIG, patch_overlap=2).build((32, 32), 4).eval()

    def latent(top: int, left: int, down: int, right: int) -> torch.Tensor:
        frames = torch.full((1, 2, 32, 32, 3), 20, dtype=torch.uint8)
        frames[:, 0, top : top + 4, left : left + 4] = 230
        top, left = top + down, left + right
        frames[:, 1, top : top + 4, left : left + 4] = 230
        return model._latents(frames)

    here = latent(8, 8, 0, 4)
    torch.testing.assert_close(latent(20, 16, 0, 4), here, atol=1e-5, rtol=0)
    assert (latent(8, 8, 4, 0) - here).abs().max() > 0.01


def test_where_nothing_changes_the_action_is_always_the_same():
    model = build().eval()
    frames, _ = moving_block(2)
    still = frames[:, :1].expand(-1, 3, -1, -1, -1).contiguous()
    latents = model._latents(torch.cat([still, 255 - still]))
    assert torch.allclose(latents, latents[:1, :1].expand_as(latents))


def test_only_patches_that_changed_are_pooled():
    model = build().eval()
    frames, _ = moving_block(2)
    patches = []
    model.attend.register_forward_hook(lambda _, inputs, __: patches.append(inputs[0]))
    with torch.no_grad():
        pooled = model._latents(frames)
        # Whatever the weights say, patches that stood still must not matter.
        changed = (frames[:, 1:].int() - frames[:, :-1].int()).abs().amax(dim=-1) > 12
        changed = changed.unflatten(2, (4, 4)).unflatten(4, (4, 4)).amax(dim=(3, 5)).flatten(2)
        noise = 100 * torch.randn_like(patches[0]) * ~changed[..., None]
        model.encoder.register_forward_hook(
            lambda _, __, x: torch.cat([x[:, :1], x[:, 1:] + noise], dim=1)
        )
        assert torch.allclose(model._latents(frames), pooled, atol=1e-5)


def test_latents_are_centred_over_the_batch_while_it_learns_and_as_remembered_later():
    model = build().train()
    frames, _ = moving_block(8)
    before = model.mean.clone()
    model.loss(frames, 0.1)
    assert not torch.equal(model.mean, before)
    learning = model._latents(frames, learn=True)
    assert learning.mean(dim=(0, 1)).abs().max() < 1e-5
    after = model.mean.clone()
    model.eval().loss(frames, 0.1)
    model.train().loss(frames, 0.9)
    assert torch.equal(model.mean, after)


def test_actions_are_told_from_smaller_frames():
    model = build(replace(CONFIG, downsample=2, patch=2))
    frames, _ = moving_block(2)
    assert model.downsampled(frames).shape == (2, 5, 8, 8, 3)
    assert model.infer(frames).shape == (2, 4)
    assert model.reconstruct(frames).shape == (2, 4, 8, 8, 3)
    loss, _ = model.train().loss(frames)
    assert loss.isfinite()


def test_codes_are_placed_from_many_steps():
    model = build().train()
    for step in range(12):
        model.loss(moving_block(8, seed=step)[0], 0.1)
    assert (model.recent.std(dim=0) > 0.1).all()
    remembered = model.recent.clone()
    model.eval().loss(moving_block(8, seed=50)[0], 0.1)
    assert torch.equal(model.recent, remembered)
    model.train()
    placed_on = []
    place = model.quantizer.init_codebook
    model.quantizer.init_codebook = lambda *given: placed_on.append(given[0]) or place(*given)
    model.loss(moving_block(8, seed=99)[0], 0.9)
    model.loss(moving_block(8, seed=100)[0], 0.9)
    assert [len(features) for features in placed_on] == [RECENT_PER_CODE * 4]
    assert torch.equal(placed_on[0], model.recent)


def test_codes_are_placed_anew_when_the_encoder_has_learned_more():
    model = build().train()
    books = []
    for step, progress in enumerate((0.1, 0.9, 0.1, 0.9)):
        model.loss(moving_block(8, seed=step)[0], progress)
        assert model.quantizer.initialized == (progress == 0.9)
        books.append(model.quantizer.codebook.clone())
    assert torch.equal(books[1], books[2])
    assert not torch.allclose(books[2], books[3], atol=0.1)


def encoder_learns(model: LatentActionModel, progress: float) -> bool:
    model.zero_grad()
    model.loss(moving_block(8)[0], progress)[0].backward()
    assert model.from_latent.weight.grad is not None
    return model.to_latent.weight.grad is not None


def test_the_encoder_stands_still_once_there_are_codes():
    model = build().train()
    assert encoder_learns(model, 0.1)
    assert not encoder_learns(model, 0.9)
    assert encoder_learns(build(replace(CONFIG, continuous_fraction=0)).train(), 0.9)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 1},
        {"continuous_fraction": 1.0},
        {"patch": 0},
        {"downsample": 0},
        {"num_frame_differences": 0},
        {"max_displacement": -1},
        {"num_motions": 0},
    ],
)
def test_impossible_values_name_the_field(change: dict):
    with pytest.raises(UserError, match=next(iter(change))):
        LatentActionConfig(**change)


def test_the_bias_that_centring_removes_has_no_gradient_of_rounding():
    model = build().train()
    model.loss(moving_block(4)[0], 0.0)[0].backward()
    gradients = {name: values.grad for name, values in model.named_parameters()}
    assert gradients["to_latent.weight"].any()
    assert not gradients["to_latent.bias"].any()
