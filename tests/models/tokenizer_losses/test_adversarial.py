import torch

from genie.models.tokenizer_losses.adversarial import PatchDiscriminator, adaptive_weight


def build() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(8)


def stripes(count: int, sharp: bool) -> torch.Tensor:
    wide = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4).expand(count, 3, 16, 16)
    return wide if sharp else 0.3 * wide


def test_patches_are_judged_at_two_resolutions():
    shapes = [tuple(scores.shape) for scores in build()(torch.randn(2, 3, 16, 24))]
    assert shapes == [(2, 1, 4, 6), (2, 1, 2, 3)]


def test_each_side_has_a_gradient_for_itself_alone():
    model = build()
    made = torch.randn(2, 3, 16, 16, requires_grad=True)
    model.own_loss(torch.randn(2, 3, 16, 16), made).backward()
    assert made.grad is None
    assert all(weight.grad.any() for weight in model.parameters() if weight.ndim > 1)
    model.zero_grad()
    model.tokenizer_loss(made).backward()
    assert made.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.parameters())
    assert model.unused() == 0


def test_it_learns_what_is_real_and_then_says_how_to_look_real():
    model, sharp, dull = build(), stripes(4, True), stripes(4, False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        loss = model.own_loss(sharp + 0.05 * torch.randn_like(sharp), dull)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all((a > b.amax()).all() for a, b in zip(model(sharp), model(dull), strict=True))
    made = dull.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.tokenizer_loss(made), made)
    assert (gradient * sharp).sum() < 0  # a step against it makes the stripes stronger


def test_the_weight_makes_both_gradients_equally_long():
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    error, other = images.square().sum(), 5 * images.square().sum()
    torch.testing.assert_close(adaptive_weight(error, other, images), torch.tensor(0.2))
    assert not adaptive_weight(error, other, images).requires_grad
