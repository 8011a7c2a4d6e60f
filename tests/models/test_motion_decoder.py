import torch

from genie.models.motion_decoder import MotionDecoder


def test_a_motion_moves_pixels():
    motion = MotionDecoder(8, (8, 8), patch=4, max_displacement=2, num_motions=1)
    for part in (motion.to_sources, motion.to_mixture):
        torch.nn.init.zeros_(part.weight)
    before = torch.rand(1, 1, 8, 8, 3)
    bias = torch.full((5, 5), -50.0)
    bias[2, 1] = 50  # what comes stood one pixel to the left
    motion.to_sources.bias.data = bias.flatten()
    after = motion(torch.randn(1, 1, 4, 8), before)
    assert torch.allclose(after[:, :, :, 1:], before[:, :, :, :-1], atol=1e-5)


def test_each_pixel_chooses_among_the_motions_of_its_patch():
    motion = MotionDecoder(8, (4, 4), patch=4, max_displacement=1, num_motions=2)
    for part in (motion.to_sources, motion.to_mixture):
        torch.nn.init.zeros_(part.weight)
    sources = torch.full((2, 3, 3), -50.0)
    sources[0, 1, 1] = sources[1, 0, 1] = 50  # to stand still, and to come from above
    motion.to_sources.bias.data = sources.flatten()
    mixture = torch.tensor([50.0, -50]).repeat(16, 1)
    mixture[8:] = -mixture[8:]  # the lower half takes the second
    motion.to_mixture.bias.data = mixture.flatten()
    before = torch.rand(1, 1, 4, 4, 3)
    after = motion(torch.randn(1, 1, 1, 8), before)
    assert torch.allclose(after[0, 0, :2], before[0, 0, :2], atol=1e-5)
    assert torch.allclose(after[0, 0, 2:], before[0, 0, 1:3], atol=1e-5)


def test_at_the_start_little_changes():
    torch.manual_seed(0)
    before = torch.rand(2, 3, 10, 14, 3)
    motion = MotionDecoder(8, (10, 14), patch=4, max_displacement=3, num_motions=3)
    after = motion(torch.randn(2, 3, 12, 8), before)
    assert after.shape == before.shape
    assert (after - before).abs().mean() < 0.1 < (before.flip(3) - before).abs().mean()
