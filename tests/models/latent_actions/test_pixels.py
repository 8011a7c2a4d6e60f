from dataclasses import replace

import pytest
import torch

from genie.core.config import UserError
from genie.models.latent_actions.pixels import PixelActionConfig
from genie.models.layers.transformer import TransformerConfig

CONFIG = PixelActionConfig(
    patch=4,
    encoder=TransformerConfig(layers=2, width=48, heads=4, window=3),
    decoder=TransformerConfig(layers=2, width=48, heads=4, window=3),
    dim=8,
)


def test_it_is_the_papers_by_default():
    config = PixelActionConfig()
    assert (config.continuous_fraction, config.motion_weight, config.downsample) == (0, 0, 1)


def blinking(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A grey wall that one action makes brighter and the other darker."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(0, 2, (count, 3), generator=generator)
    steps = torch.cat([torch.zeros(count, 1, dtype=torch.int64), 2 * actions - 1], dim=1)
    grey = 128 + 30 * steps.cumsum(dim=1)
    return grey.to(torch.uint8)[..., None, None, None].repeat(1, 1, 8, 8, 3), actions


def test_it_tells_what_was_done_and_draws_what_comes_of_it():
    torch.manual_seed(0)
    model = CONFIG.build((8, 8), 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(160):
        loss, _ = model.loss(blinking(16, seed=step)[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    frames, actions = blinking(64, seed=999)
    codes = model.infer(frames)
    same = (codes == actions).float().mean()
    assert max(same, 1 - same) > 0.9
    own = model.reconstruct(frames).float() - frames[:, 1:]
    other = model.reconstruct(frames, 1 - codes).float() - frames[:, 1:]
    assert own.square().mean() < 0.3 * other.square().mean()


def test_an_encoder_whose_latent_reads_nothing_is_refused():
    with pytest.raises(UserError, match="spatial_attention"):
        replace(CONFIG, encoder=replace(CONFIG.encoder, spatial_attention=False))
