import torch

from genie.models.tokenizer_losses.flow import _flow, flow_error


def waves(speed: float, brightness: float = 0.0) -> torch.Tensor:
    """Soft stripes that move to the right by so many pixels a frame."""
    place = torch.arange(24.0)[None, :] - speed * torch.arange(4.0)[:, None]
    grey = 0.8 * torch.sin(place / 3) + brightness
    return grey[None, :, None, :, None].expand(1, 4, 8, 24, 3)


def test_the_flow_of_stripes_is_their_speed():
    seen = _flow(waves(0.5))[..., 1]
    steep = seen.abs() > 0.3
    assert steep.float().mean() > 0.4
    assert abs(seen[steep].median() - 0.5) < 0.1
    assert _flow(waves(0.5))[..., 0].abs().max() < 1e-5


def test_another_speed_costs_and_another_brightness_does_not():
    target = waves(0.5)
    assert flow_error(waves(0.5, brightness=0.1), target) < 1e-6
    assert flow_error(waves(0.0), target) > 0.03
    assert flow_error(waves(-0.5), target) > flow_error(waves(0.0), target)
    assert flow_error(target[:, :1], target[:, :1]) == 0


def test_its_gradient_brings_the_flow_nearer():
    target, made = waves(0.5), waves(0.2).clone()
    start = flow_error(made, target).item()
    made.requires_grad_()
    optimizer = torch.optim.Adam([made], lr=0.01)
    for _ in range(30):
        loss = flow_error(made, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * start
