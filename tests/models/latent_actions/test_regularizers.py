import math

import pytest
import torch

from genie.models.latent_actions.regularizers import code_entropy_gap, inconsistency, roughness


def test_entropy_gap_is_zero_where_all_codes_are_used_alike():
    codes = 5 * torch.eye(4)
    assert code_entropy_gap(codes[None], codes) == pytest.approx(0, abs=1e-3)
    one = codes[:1].expand(1, 6, 4)
    assert code_entropy_gap(one, codes) == pytest.approx(math.log(4), abs=1e-3)


def test_following_the_entropy_gap_uses_more_codes():
    torch.manual_seed(0)
    codes = 2 * torch.eye(4)
    latents = (codes[:1] + 0.1 * torch.randn(8, 4))[None].requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        code_entropy_gap(latents, codes).backward()
        optimizer.step()
    used = torch.cdist(latents[0], codes).argmin(dim=1)
    assert len(used.unique()) > 1
    assert code_entropy_gap(latents, codes) < 0.7


def test_roughness_counts_changes_along_time_only():
    latents = torch.randn(3, 1, 4).expand(3, 5, 4)
    assert roughness(latents) == 0
    assert roughness(latents[:, :1]) == 0
    assert roughness(torch.tensor([[[0.0, 0], [2, 0]]])) == 2


def changes(*signs: int) -> torch.Tensor:
    """Clips of two frames; those of one sign change alike, the others the other way."""
    pattern = torch.linspace(-1, 1, 8)[:, None, None].expand(8, 8, 3)
    return torch.stack([torch.stack([torch.zeros(8, 8, 3), sign * pattern]) for sign in signs])


def test_like_changes_with_like_latents_cost_less_than_with_others():
    pixels = changes(1, 1, -1, -1)
    like = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])[:, None]
    crossed = like[[0, 2, 1, 3]]
    assert inconsistency(like, pixels) < 0.1
    assert inconsistency(crossed, pixels) > 3


def test_following_inconsistency_joins_steps_that_change_alike():
    torch.manual_seed(0)
    pixels, latents = changes(1, 1, -1, -1), torch.randn(4, 1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        inconsistency(latents, pixels).backward()
        optimizer.step()
    made = torch.nn.functional.normalize(latents[:, 0], dim=1)
    same = (made @ made.T).detach()
    assert min(same[0, 1], same[2, 3]) > same[:2, 2:].max() + 0.5


def test_where_no_steps_are_alike_there_is_nothing_to_join():
    latents = torch.randn(2, 1, 3, requires_grad=True)
    loss = inconsistency(latents, changes(1, -1))
    loss.backward()
    assert loss == 0
    assert latents.grad.isfinite().all()
