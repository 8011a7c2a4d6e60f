from dataclasses import replace

import pytest
import torch
from moving import moving_block

from genie.core.config import UserError
from genie.models.latent_actions.pair import PairActionConfig

CONFIG = PairActionConfig(patch=4, channels=16, dim=4, continuous_fraction=0.6)


def test_it_tells_moves_of_a_block_and_draws_them():
    torch.manual_seed(0)
    model, steps = CONFIG.build((16, 16), 4).train(), 200
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        loss, _ = model.loss(moving_block(12, frames=3, seed=step)[0], step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    frames, _ = moving_block(64, frames=3, seed=999)
    codes = model.infer(frames)
    assert len(codes.unique()) == 4
    errors = [model.reconstruct(frames, (codes + i) % 4).float() - frames[:, 1:] for i in range(4)]
    errors = [error.square().mean().item() for error in errors]
    assert errors[0] == min(errors)
    assert errors[0] < 0.3 * sum(errors[1:]) / 3


@pytest.mark.parametrize("change", [{"patch": 6}, {"patch": 1}, {"channels": 12}])
def test_impossible_values_name_the_field(change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(CONFIG, **change)
