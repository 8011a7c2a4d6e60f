import torch

from genie.agents.dreaming.returns import lambda_returns


def worth(rewards, discounts, values, lam):
    """The mixture of n-step returns, as it is written down in the textbook."""
    steps, found = len(rewards), []
    for t in range(steps):
        total, share = 0.0, 1.0
        for n in range(1, steps - t + 1):
            earned, discount = 0.0, 1.0
            for i in range(t, t + n):
                earned += discount * rewards[i]
                discount *= discounts[i]
            weight = share if t + n == steps else share * (1 - lam)
            total += weight * (earned + discount * values[t + n])
            share *= lam
        found.append(total)
    return found


def test_lambda_returns_are_mixtures_of_n_step_returns():
    rewards, discounts, values = torch.randn(3, 6), torch.rand(3, 6), torch.randn(3, 7)
    for lam in (0.0, 0.6, 1.0):
        found = lambda_returns(rewards, discounts, values, lam)
        for row in range(3):
            expected = worth(
                rewards[row].tolist(), discounts[row].tolist(), values[row].tolist(), lam
            )
            torch.testing.assert_close(found[row], torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_nothing_comes_after_an_end():
    discounts = torch.tensor([[0.9, 0.0, 0.9]])
    found = lambda_returns(torch.ones(1, 3), discounts, torch.full((1, 4), 100.0), 1.0)
    torch.testing.assert_close(found, torch.tensor([[1.9, 1.0, 91.0]]))
