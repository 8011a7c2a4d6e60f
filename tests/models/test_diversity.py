import torch
from torch.nn import functional as F

from genie.models.diversity import diversity_gap

VOCABULARY = 6
TOKENS = torch.arange(24).view(1, 4, 6) % VOCABULARY
EVERYWHERE = torch.ones_like(TOKENS).bool()


def test_always_the_same_is_less_diverse_and_sure_predictions_are_not():
    same = 30 * F.one_hot(torch.zeros_like(TOKENS), VOCABULARY).float()
    right = 30 * F.one_hot(TOKENS, VOCABULARY).float()
    gap = diversity_gap(same, TOKENS, EVERYWHERE)
    torch.testing.assert_close(gap, torch.tensor(float(VOCABULARY)).log())
    assert diversity_gap(right, TOKENS, EVERYWHERE) < 1e-5
    assert diversity_gap(right, torch.zeros_like(TOKENS), EVERYWHERE) == 0  # more diverse


def test_its_gradient_makes_predictions_more_diverse():
    logits = F.one_hot(torch.zeros_like(TOKENS), VOCABULARY).float() * 3
    logits += 0.1 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    before = diversity_gap(logits, TOKENS, EVERYWHERE).item()
    for _ in range(100):
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(diversity_gap(logits, TOKENS, EVERYWHERE), logits)
        logits = (logits - 10 * gradient).detach()
    assert diversity_gap(logits, TOKENS, EVERYWHERE) < 0.2 * before


def test_tokens_that_are_known_do_not_count():
    logits = torch.zeros(1, 4, 6, VOCABULARY, requires_grad=True)
    few = torch.zeros_like(EVERYWHERE)
    few[:, 1:, :3] = True
    with torch.no_grad():
        logits[~few] = torch.tensor([50.0] + [0.0] * (VOCABULARY - 1))
    assert diversity_gap(logits, TOKENS, few) == 0
    assert diversity_gap(logits, TOKENS, ~few) > 1
