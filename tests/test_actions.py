from dataclasses import replace

import pytest
import torch

from genie.actions import LatentActionConfig, LatentActionModel
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
    commonest = table.sum(dim=0).max() / table.sum()
    # In so few steps not every action has a code of its own, but codes say much about actions,
    assert table.amax(dim=1).sum() / table.sum() > commonest + 0.15
    # and the decoder uses them.
    inferred = model.reconstruct(frames).float() - frames[:, 1:]
    shifted = model.reconstruct(frames, (codes + 1) % 4).float() - frames[:, 1:]
    assert inferred.square().mean() < 0.6 * shifted.square().mean()


def test_latents_are_continuous_first_and_codes_later():
    model = build().train()
    frames, _ = moving_block(8)
    _, logs = model.loss(frames, 0.1)
    assert "perplexity" not in logs
    assert not model.quantizer.placed
    _, logs = model.loss(frames, 0.9)
    assert "perplexity" in logs
    assert model.quantizer.placed


@pytest.mark.parametrize("change", [{"dim": 1}, {"continuous_share": 1.0}, {"patch": 0}])
def test_impossible_values_name_the_field(change: dict):
    with pytest.raises(UserError, match=next(iter(change))):
        LatentActionConfig(**change)
