from dataclasses import replace

import pytest
import torch

from genie.actions import LatentActionConfig, LatentActionModel, Motion
from genie.config import UserError
from genie.nn.transformer import TransformerConfig
from genie.schedule import StageConfig
from genie.training.optimizers import build_optimizer

CONFIG = LatentActionConfig(
    patch=4,
    encoder=TransformerConfig(layers=2, width=32, heads=4, window=2),
    decoder=TransformerConfig(layers=2, width=32, heads=4, window=3),
    dim=4,
)


def build(config: LatentActionConfig = CONFIG) -> LatentActionModel:
    torch.manual_seed(0)
    return LatentActionModel(config, (16, 16), 4)


def moving_block(count: int, frames: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright 4x4 block that one of four actions moves by 4 pixels, never over the edge."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.tensor([[-4, 0], [4, 0], [0, -4], [0, 4]])
    actions = torch.zeros(count, frames - 1, dtype=torch.int64)
    video = torch.full((count, frames, 16, 16, 3), 20, dtype=torch.uint8)
    for clip in range(count):
        place = torch.randint(0, 4, (2,), generator=generator) * 4
        for t in range(frames):
            y, x = place.tolist()
            video[clip, t, y : y + 4, x : x + 4] = 230
            if t + 1 < frames:
                inside = ((place + moves >= 0) & (place + moves <= 12)).all(dim=1).float()
                actions[clip, t] = torch.multinomial(inside, 1, generator=generator)
                place = place + moves[actions[clip, t]]
    return video, actions


def test_action_t_sees_frame_t_plus_one_and_nothing_later():
    model = build().eval()
    frames, _ = moving_block(2)
    changed = frames.clone()
    changed[:, 3] = 255 - changed[:, 3]
    before, after = (model._latents(model._pixels(x)) for x in (frames, changed))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-5
    assert moved.tolist() == [False, False, True, True]


def test_one_action_for_each_step_within_range():
    model = build()
    frames, _ = moving_block(3)
    actions = model.infer(frames)
    assert actions.shape == (3, 4)
    assert actions.min() >= 0
    assert actions.max() < 4
    assert model.reconstruct(frames).shape == (3, 4, 16, 16, 3)


def test_learns_what_was_pressed_from_pixels_alone():
    model = build(replace(CONFIG, continuous_share=0.6)).train()
    steps = 150
    schedule = StageConfig(steps=steps, learning_rate=3e-3, optimizer="muon")
    optimizer = build_optimizer(model, schedule)
    for step in range(steps):
        frames, _ = moving_block(16, seed=step)
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


def test_before_it_learns_nothing_changes():
    frames, actions = moving_block(2)
    expected = frames[:, :-1].float()
    difference = (build().reconstruct(frames, actions).float() - expected).abs()
    # The blur of the motions that it may learn is all that shows.
    assert difference.mean() < 0.2 * (frames[:, 1:].float() - expected).abs().mean()


def test_what_stands_still_has_no_say_in_the_action():
    model = build().eval()
    frames, _ = moving_block(2)
    still = frames[:, :1].expand(-1, 3, -1, -1, -1).contiguous()
    latents = model._latents(model._pixels(torch.cat([still, 255 - still])))
    assert torch.allclose(latents, latents[:1, :1].expand_as(latents))


def test_a_motion_moves_pixels():
    config = replace(CONFIG, motions=1, reach=2)
    motion = Motion(8, (8, 8), config)
    for part in (motion.to_sources, motion.to_mixture):
        torch.nn.init.zeros_(part.weight)
    before = torch.rand(1, 1, 8, 8, 3)
    bias = torch.full((5, 5), -50.0)
    bias[2, 1] = 50  # what comes stood one pixel to the left
    motion.to_sources.bias.data = bias.flatten()
    after = motion(torch.randn(1, 1, 4, 8), before)
    assert torch.allclose(after[:, :, :, 1:], before[:, :, :, :-1], atol=1e-5)


def test_actions_are_told_from_smaller_frames():
    model = build(replace(CONFIG, shrink=2, patch=2))
    frames, _ = moving_block(2)
    assert model.seen(frames).shape == (2, 5, 8, 8, 3)
    assert model.infer(frames).shape == (2, 4)
    assert model.reconstruct(frames).shape == (2, 4, 8, 8, 3)
    loss, _ = model.train().loss(frames)
    assert loss.isfinite()


def test_inferring_learns_nothing_even_in_training_mode():
    model = build().train()
    frames, _ = moving_block(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.infer(frames)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_latents_are_continuous_first_and_codes_later():
    model = build().train()
    frames, _ = moving_block(8)
    _, logs = model.loss(frames, 0.1)
    assert "perplexity" not in logs
    assert not model.quantizer.placed
    _, logs = model.loss(frames, 0.9)
    assert "perplexity" in logs
    assert model.quantizer.placed


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 1},
        {"continuous_share": 1.0},
        {"patch": 0},
        {"shrink": 0},
        {"reach": -1},
        {"motions": 0},
    ],
)
def test_impossible_values_name_the_field(change: dict):
    with pytest.raises(UserError, match=next(iter(change))):
        LatentActionConfig(**change)
