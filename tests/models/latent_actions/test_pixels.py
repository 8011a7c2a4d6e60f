from dataclasses import replace

import pytest
import torch
from moving import moving_block

from genie.core.config import UserError
from genie.models.latent_actions.pixels import PixelActionConfig
from genie.models.layers.kmeans import count
from genie.models.layers.transformer import TransformerConfig
from genie.models.quantizers.base import perplexity

CONFIG = PixelActionConfig(
    patch=4,
    encoder=TransformerConfig(layers=2, width=48, heads=4, window=3),
    decoder=TransformerConfig(layers=2, width=48, heads=4, window=3),
    dim=8,
)


def test_it_is_the_papers_by_default():
    config = PixelActionConfig()
    assert (config.continuous_fraction, config.motion_weight, config.downsample) == (0, 0, 1)


@pytest.mark.long
def test_it_draws_the_next_frame_and_uses_its_codes():
    torch.manual_seed(0)
    model = replace(CONFIG, motion_weight=9.0).build((16, 16), 6).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(200):
        loss, _ = model.loss(moving_block(12, frames=4, seed=step)[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    frames, _ = moving_block(64, frames=4, seed=999)
    codes = model.infer(frames)
    assert perplexity(count(codes, 6)) > 2
    wrong = {}
    for shift in range(6):
        made = model.reconstruct(frames, (codes + shift) % 6).float()
        wrong[shift] = (made - frames[:, 1:]).square().mean().item()
    copied = (frames[:, 1:].float() - frames[:, :-1]).square().mean()
    assert wrong[0] < 0.9 * copied
    assert wrong[0] == min(wrong.values())
    assert max(wrong.values()) > 1.1 * wrong[0]


def test_an_encoder_whose_latent_reads_nothing_is_refused():
    with pytest.raises(UserError, match="spatial_attention"):
        replace(CONFIG, encoder=replace(CONFIG.encoder, spatial_attention=False))
