import torch

from genie.models import two_hot


def test_the_mean_of_two_hot_numbers_is_the_number():
    at, values = two_hot.bins(), torch.tensor([0.0, 1.0, -1.0, 10.0, 0.003, -517.0])
    shares = two_hot.two_hot(values, at)
    assert ((shares > 0).sum(-1) <= 2).all()
    assert torch.allclose(two_hot.mean(shares.clamp_min(1e-20).log(), at), values, 1e-4, 1e-5)


def test_numbers_outside_the_bins_are_the_outermost():
    at = two_hot.bins()
    assert two_hot.two_hot(torch.tensor([1e9, -1e9]), at).argmax(-1).tolist() == [len(at) - 1, 0]


def test_bins_that_are_equally_likely_have_the_mean_zero():
    assert two_hot.mean(torch.zeros(2, two_hot.BINS), two_hot.bins()).tolist() == [0, 0]


def test_the_likelihood_is_highest_at_the_number():
    at, values = two_hot.bins(), torch.tensor([2.5, -0.5])
    best = two_hot.two_hot(values, at).log()
    worse = two_hot.two_hot(values + 3, at).clamp_min(1e-9).log()
    told = two_hot.log_likelihood(best.clamp_min(-50), values, at)
    assert (told > two_hot.log_likelihood(worse, values, at)).all()
