import torch

from genie.models.multiscale import coarse_divergence

GRID, VOCABULARY = (4, 4), 5


def clip() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (2, 3, 16), generator=torch.Generator().manual_seed(0))


def sure(tokens: torch.Tensor) -> torch.Tensor:
    return 30 * torch.nn.functional.one_hot(tokens, VOCABULARY).float()


def test_right_predictions_cost_nothing_and_known_tokens_are_not_predicted():
    tokens = clip()
    everywhere, nowhere = torch.ones_like(tokens).bool(), torch.zeros_like(tokens).bool()
    wrong = sure((tokens + 1) % VOCABULARY)
    assert coarse_divergence(sure(tokens), tokens, everywhere, GRID) < 1e-4
    assert coarse_divergence(wrong, tokens, everywhere, GRID) > 0.1
    assert coarse_divergence(wrong, tokens, nowhere, GRID) < 1e-4


def test_beside_its_place_costs_less_than_lost():
    tokens = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    tokens[..., 0, 0] = 1
    beside, lost = torch.zeros_like(tokens), torch.zeros_like(tokens)
    beside[..., 0, 1] = 1
    tokens, beside, lost = (x.flatten(2) for x in (tokens, beside, lost))
    masked = torch.ones_like(tokens).bool()
    assert coarse_divergence(sure(beside), tokens, masked, GRID) < 1e-4
    assert coarse_divergence(sure(lost), tokens, masked, GRID) > 0.5


def test_its_gradient_alone_finds_what_is_in_each_square():
    tokens, masked = clip(), torch.ones(2, 3, 16).bool()
    logits = torch.zeros(2, 3, 16, VOCABULARY, requires_grad=True)
    start = coarse_divergence(logits, tokens, masked, GRID).item()
    for _ in range(60):
        (gradient,) = torch.autograd.grad(coarse_divergence(logits, tokens, masked, GRID), logits)
        logits = (logits - 20 * gradient).detach().requires_grad_()
    assert coarse_divergence(logits, tokens, masked, GRID) < 0.3 * start


def test_grids_that_no_square_divides():
    tokens = torch.randint(0, VOCABULARY, (1, 2, 15))
    loss = coarse_divergence(torch.zeros(1, 2, 15, VOCABULARY), tokens, tokens >= 0, (3, 5))
    assert loss.isfinite()
    tokens = torch.randint(0, VOCABULARY, (1, 2, 1))
    loss = coarse_divergence(torch.zeros(1, 2, 1, VOCABULARY), tokens, tokens >= 0, (1, 1))
    assert loss > 0
