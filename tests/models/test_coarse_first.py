import torch

from genie.models.coarse_first import coarse_first_masks
from genie.models.dynamics import Dynamics, DynamicsConfig

COARSE, TOKENS = 2, 6


def test_fine_tokens_are_learned_only_where_all_coarse_ones_are_given():
    tokens = torch.zeros(8, 20, TOKENS, dtype=torch.int64)
    masked, learned = coarse_first_masks(tokens, "uniform", COARSE)
    assert (learned <= masked).all()
    fine = learned[..., COARSE:].any(dim=-1)
    assert not masked[fine][:, :COARSE].any()
    assert masked[~fine][:, COARSE:].all()
    assert learned[~fine][:, :COARSE].any(dim=-1).all()
    assert 0.3 < fine.float().mean() < 0.7


def test_fine_tokens_learn_from_the_coarse_ones_of_their_frame():
    """Fine tokens repeat what the coarse ones say, which is new in each frame."""
    torch.manual_seed(0)
    config = DynamicsConfig(layers=1, width=32, heads=2, window=2, copy_head=False)
    model = Dynamics(config, (2, 3), 4, 2, coarse_tokens=COARSE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        coarse = torch.randint(0, 4, (16, 3, 1))
        tokens = coarse.expand(-1, -1, TOKENS).contiguous()
        loss, _ = model.loss(tokens, torch.zeros(16, 2, dtype=torch.int64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    draft = tokens.clone()
    draft[:, -1, COARSE:] = model.mask_token
    with torch.no_grad():
        found = model.eval().logits(draft, torch.zeros(16, 2, dtype=torch.int64))
    fine = found[:, -1, COARSE:].argmax(dim=-1)
    assert (fine == tokens[:, -1, COARSE:]).float().mean() > 0.9
