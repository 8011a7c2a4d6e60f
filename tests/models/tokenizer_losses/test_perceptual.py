import torch
from torch.nn import functional as F

from genie.models.tokenizer_losses.perceptual import RandomFeatures


def texture(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_the_same_network_everywhere_and_has_nothing_to_save_or_learn():
    one = RandomFeatures()(texture(0), texture(1))
    torch.manual_seed(7)
    assert torch.equal(RandomFeatures()(texture(0), texture(1)), one)
    assert not RandomFeatures().state_dict()
    assert not list(RandomFeatures().parameters())


def test_blur_is_farther_than_another_brightness_of_the_same_error():
    network, image = RandomFeatures(), texture(0)
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    brighter = image + (blurred - image).square().mean().sqrt()
    assert network(image, image) == 0
    assert network(blurred, image) > 2 * network(brighter, image)


def test_its_gradient_makes_a_blurred_image_sharp_again():
    network, image = RandomFeatures(), texture(0)
    made = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    start = network(made, image).item()
    made.requires_grad_()
    optimizer = torch.optim.Adam([made], lr=0.05)
    for _ in range(15):
        loss = network(made, image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * start


def test_small_and_odd_sizes():
    assert RandomFeatures()(torch.zeros(1, 3, 3, 5), torch.ones(1, 3, 3, 5)) > 0
