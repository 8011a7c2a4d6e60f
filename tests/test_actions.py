import pytest
import torch

from genie.actions import LatentActionConfig, LatentActionModel
from genie.config import UserError
from genie.nn.transformer import TransformerConfig

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
    """A bright 4x4 block that one of four actions moves up, down, left or right by 4 pixels."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.tensor([[-4, 0], [4, 0], [0, -4], [0, 4]])
    place = torch.randint(0, 4, (count, 2), generator=generator) * 4
    actions = torch.randint(0, 4, (count, frames - 1), generator=generator)
    video = torch.full((count, frames, 16, 16, 3), 20, dtype=torch.uint8)
    for clip in range(count):
        y, x = place[clip].tolist()
        for t in range(frames):
            video[clip, t, y : y + 4, x : x + 4] = 230
            if t + 1 < frames:
                dy, dx = moves[actions[clip, t]].tolist()
                y, x = (y + dy) % 16, (x + dx) % 16
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
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = 150
    for step in range(steps):
        frames, _ = moving_block(16, seed=step)
        loss, logs = model.loss(frames, step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["perplexity"] > 3
    model.eval()
    frames, actions = moving_block(64, seed=10_000)
    codes = model.infer(frames)
    table = torch.zeros(4, 4)
    table.index_put_((codes.flatten(), actions.flatten()), torch.ones(codes.numel()), True)
    purity = table.amax(dim=1).sum() / table.sum()
    assert purity > 0.9
    inferred = model.reconstruct(frames).float() - frames[:, 1:]
    shifted = model.reconstruct(frames, (codes + 1) % 4).float() - frames[:, 1:]
    assert inferred.square().mean() < 0.5 * shifted.square().mean()


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
