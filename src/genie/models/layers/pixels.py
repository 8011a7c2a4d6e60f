"""Between uint8 frames, which everything public speaks, and the floats inside the models."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

MOTION_THRESHOLD = 12  # grey levels out of 255; below it is compression noise
MAX_PSNR = 60.0  # dB; below the error of rounding to 8 bits (58.9 dB) a PSNR says nothing


def to_float(
    frames: UInt8[Tensor, "*b"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*b"]:
    """Scales pixels from [0, 255] to [-1, 1]."""
    return frames.to(dtype) / 127.5 - 1


def to_uint8(pixels: Float[Tensor, "*b"]) -> UInt8[Tensor, "*b"]:
    """Scales pixels from [-1, 1] to [0, 255], rounds them and clips those outside."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def motion_mask(frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w 1"]:
    """Returns 1 where a pixel changed visibly since the frame before, else 0; frame 0 is all 0."""
    moving = moving_pixels(frames[:, 1:], frames[:, :-1])[..., None].float()
    first = torch.zeros_like(frames[:, :1, :, :, :1], dtype=torch.float32)
    return torch.cat([first, moving], dim=1)


def moving_pixels(
    frames: UInt8[Tensor, "*clips h w c"], reference: UInt8[Tensor, "*clips h w c"]
) -> Bool[Tensor, "*clips h w"]:
    """Returns where any channel differs from the reference by more than `MOTION_THRESHOLD`."""
    return (frames.short() - reference.short()).abs().amax(-1) > MOTION_THRESHOLD


def psnr(error: Float[Tensor, "*b"], peak: float = 1.0) -> Float[Tensor, "*b"]:
    """Returns the peak signal-to-noise ratio in dB of mean squared errors, at most `MAX_PSNR`.

    Args:
        error: mean squared errors of pixels.
        peak: the range of pixels: 1, 2 where they lie in [-1, 1], 255 for grey levels.
    """
    return -10.0 * (error / peak**2).clamp_min(10.0 ** (-MAX_PSNR / 10.0)).log10()


def squared_error(
    real: UInt8[Tensor, "*clips h w c"], predicted: UInt8[Tensor, "*clips h w c"]
) -> Float[Tensor, "*clips h w"]:
    """Returns the squared error of each pixel, mean over channels, in units where white is 1."""
    return ((real.float() - predicted.float()) / 255.0).square().mean(-1)


def ssim(
    real: UInt8[Tensor, "*clips h w c"], predicted: UInt8[Tensor, "*clips h w c"]
) -> Float[Tensor, "*clips"]:
    """Returns the structural similarity of each frame, 1 for identical ones.

    Gaussian window of 11 pixels (fewer for smaller frames), sigma 1.5, edges reflected, mean over
    channels (Wang et al. 2004), as in torchmetrics. The window is applied as two products with
    banded matrices, which on a CPU is many times faster than torchmetrics' convolution; a test
    holds the two equal.
    """
    x, y = (_channels_first(frames) for frames in (real, predicted))
    size = min(11, *x.shape[-2:])
    rows, columns = (_blur_matrix(n, size).to(x.device) for n in x.shape[-2:])
    stacked = torch.stack([x, y, x * x, y * y, x * y])
    mean_x, mean_y, xx, yy, xy = rows @ stacked @ columns.mT
    variance_x, variance_y = xx - mean_x.square(), yy - mean_y.square()
    covariance = xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    return similarity.mean((1, 2, 3)).reshape(real.shape[:-3])


def _channels_first(frames: Tensor) -> Tensor:
    return frames.flatten(0, -4).movedim(-1, 1).float() / 255.0


def _blur_matrix(length: int, size: int) -> Float[Tensor, "length length"]:
    """Weights of each pixel of a line in each blurred pixel, an odd Gaussian window of `size`."""
    half = (size - 1) // 2
    weight = torch.exp(-(torch.arange(-half, half + 1) ** 2) / (2 * 1.5**2))
    weight = (weight / weight.sum())[None, None]
    lines = F.pad(torch.eye(length)[:, None], (half, half), mode="reflect")
    return F.conv1d(lines, weight)[:, 0].mT


def downsample(frames: UInt8[Tensor, "b t h w c"], by: int) -> UInt8[Tensor, "b t hs ws c"]:
    """Averages frames over squares of `by` pixels; sides are rounded up."""
    if by == 1:
        return frames
    flat = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
    flat = F.avg_pool2d(flat, by, ceil_mode=True)
    flat = flat.round().to(torch.uint8).permute(0, 2, 3, 1)
    return flat.unflatten(0, frames.shape[:2])
