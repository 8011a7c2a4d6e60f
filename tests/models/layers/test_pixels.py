import torch

from genie.models.layers.pixels import (
    MAX_PSNR,
    downsample,
    motion_mask,
    moving_pixels,
    psnr,
    squared_error,
    ssim,
    to_float,
    to_uint8,
)


def test_every_grey_level_survives_the_way_there_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).min() == -1
    assert to_float(levels).max() == 1


def test_values_outside_are_cut():
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_moved_marks_what_changed_visibly():
    frames = torch.full((1, 3, 2, 2, 3), 200, dtype=torch.uint8)
    frames[0, 1, 0, 0] = 10
    frames[0, 2] = frames[0, 1]
    frames[0, 2, 1, 1] += 3
    assert motion_mask(frames)[0, :, :, :, 0].tolist() == [
        [[0, 0], [0, 0]],
        [[1, 0], [0, 0]],
        [[0, 0], [0, 0]],
    ]


def test_small_changes_stand_still_and_unsigned_bytes_do_not_wrap_around():
    black, grey = (torch.full((1, 2, 2, 3), level, dtype=torch.uint8) for level in (0, 100))
    assert moving_pixels(black, black + 255).all()
    assert not moving_pixels(grey, grey + 12).any()
    assert moving_pixels(grey, grey + 13).all()


def test_shrunk_averages_squares_and_rounds_sides_up():
    frames = torch.zeros(1, 2, 3, 4, 3, dtype=torch.uint8)
    frames[0, 1, 0, :2] = 100
    frames[0, 1, 2, 2] = 80
    small = downsample(frames, 2)
    assert small.shape == (1, 2, 2, 2, 3)
    assert small.dtype == torch.uint8
    assert small[0, 1, :, :, 0].tolist() == [[50, 0], [0, 40]]
    assert downsample(frames, 1) is frames


def test_psnr_by_hand():
    error = torch.tensor([0.04, 0.01, 0.0])
    expected = torch.tensor([13.9794, 20.0, MAX_PSNR])
    assert torch.allclose(psnr(error), expected)
    assert torch.allclose(psnr(error * 255**2, peak=255.0), expected)
    assert psnr(torch.tensor(torch.nan)).isnan()


def grey(*values):
    """One clip of 2 x 2 grey frames, each of one value."""
    return torch.stack([torch.full((2, 2, 3), value, dtype=torch.uint8) for value in values])[None]


def test_squared_error_by_hand():
    error = squared_error(grey(0, 255), grey(51, 255))
    assert torch.allclose(error.mean((-2, -1)), torch.tensor([[0.04, 0.0]]))


def test_ssim_agrees_with_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    torch.manual_seed(0)
    real = torch.randint(256, (2, 2, 24, 20, 3), dtype=torch.uint8)
    wrong = (real.float() * 0.7 + 20 * torch.rand(real.shape)).to(torch.uint8)
    x, y = (v.flatten(0, 1).movedim(-1, 1) / 255 for v in (real, wrong))
    theirs = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert torch.allclose(ssim(real, wrong).flatten(), theirs, atol=1e-4)
    assert torch.allclose(ssim(real, real), torch.ones(2, 2))


def test_ssim_of_frames_smaller_than_the_window():
    assert torch.allclose(ssim(grey(9, 200), grey(9, 200)), torch.ones(1, 2))
