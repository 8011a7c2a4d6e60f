import torch

from genie.models.tokenizer_losses.temporal import change_error

CLIP = torch.rand(2, 4, 8, 8, 3)


def test_what_stays_wrong_costs_nothing_and_what_flickers_does():
    flicker = torch.tensor([0.1, -0.1, 0.1, -0.1])[:, None, None, None]
    assert change_error(CLIP + 0.1, CLIP) < 1e-10
    torch.testing.assert_close(change_error(CLIP + flicker, CLIP), torch.tensor(0.04))
    assert change_error(CLIP[:, :1] + 1, CLIP[:, :1]) == 0


def test_its_gradient_makes_changes_right():
    made = torch.zeros_like(CLIP, requires_grad=True)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(change_error(made, CLIP), made)
        made = (made - 100 * gradient).detach().requires_grad_()
    assert change_error(made, CLIP) < 0.1 * change_error(torch.zeros_like(CLIP), CLIP)
