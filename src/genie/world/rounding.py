"""Matrices of 8 bits in a file of weights: integers, and one scale for each of their rows.

Row r of a matrix is its integers, from -127 to 127, times scale r. A scale has four significant
bits, which costs 3 % of the precision in the mean. In return the products are exact in float16, so
that what is computed from them in half precision, such as an export, loses nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from genie.core.config import require

SCALE = ".row_scale"
"""Ends the name of the scales of a matrix."""

LARGEST = 127
SIGNIFICANT = 16
"""Two to the number of significant bits of a scale."""
SMALLEST = 2.0**-21
"""Least scale: with it the products are still exact in float16, and rows of zeros have one."""

PARTS = ("tokenizer.encoder", "tokenizer.decoder", "dynamics.", "actions.decoder")
"""Of a world. The tokenizer's first and last layers are kept, because they are small and cost as
much quality as all others (docs/experiments). The encoder of latent actions is kept, so that frames
keep their latent actions."""

Header = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of tensors by name, as the header of a safetensors file has them."""


def matrices(world: nn.Module) -> set[str]:
    """Returns the names of the weights of a world that are rounded."""
    return {
        name
        for name, weight in world.named_parameters()
        if weight.ndim >= 2 and name.startswith(PARTS)
    }


def rounded(weights: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Returns tensors to save, in which some matrices have 8 bits.

    Args:
        weights: by name.
        names: of the matrices. All others are kept, in float16 where that loses nothing.

    Raises:
        UserError: a matrix has values that are not finite or too large.
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name in names:
            tensors[name], tensors[name + SCALE] = _to_integers(name, weight.float())
        else:
            tensors[name] = _halved_if_exact(weight)
    return tensors


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights by name from the tensors of a file, matrices of 8 bits in float32."""
    return {
        name: value.float() * _by_row(tensors[name + SCALE].float(), value.ndim)
        if value.dtype == torch.int8
        else value
        for name, value in tensors.items()
        if not name.endswith(SCALE)
    }


def shapes_of(header: Header) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights in a file by its header, without those of scales.

    Raises:
        ValueError: a matrix of 8 bits has not one scale for each row, or there are scales alone.
    """
    shapes = {name: shape for name, (_, shape) in header.items() if not name.endswith(SCALE)}
    integers = {name + SCALE for name in shapes if header[name][0] == "I8"}
    scales = {name for name in header if name.endswith(SCALE)}
    if odd := sorted(integers ^ scales):
        raise ValueError(f"{odd[0].removesuffix(SCALE)} and its scales do not belong together")
    for name in sorted(scales):
        rows = shapes[name.removesuffix(SCALE)][:1]
        if header[name] != ("F16", rows) or not rows:
            raise ValueError(f"{name} should be {rows} in float16")
    return shapes


def _to_integers(name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a matrix as integers and scales."""
    mantissa, exponent = torch.frexp(weight.abs().flatten(1).amax(dim=1) / LARGEST)
    scale = torch.ldexp((mantissa * SIGNIFICANT).ceil() / SIGNIFICANT, exponent)
    scale = scale.clamp(min=SMALLEST).half()
    require(
        bool((scale * LARGEST).isfinite().all()),
        f"{name}: has values that are not finite or too large for 8 bits",
    )
    return (weight / _by_row(scale.float(), weight.ndim)).round().to(torch.int8), scale


def _by_row(scale: Tensor, dims: int) -> Tensor:
    return scale.view(-1, *[1] * (dims - 1))


def _halved_if_exact(weight: Tensor) -> Tensor:
    half = weight.half()
    exact = weight.dtype == torch.float32 and bool((half.float() == weight).all())
    return half if exact else weight
