"""FSQ: finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.core.config import require
from genie.models.quantizers.base import BaseConfig, Quantized, Quantizer
from genie.models.quantizers.product import ProductQuantizer, codes_per_book

FSQ_LEVELS = {
    64: (8, 8),
    240: (8, 6, 5),
    1000: (8, 5, 5, 5),
    4375: (7, 5, 5, 5, 5),
    15360: (8, 8, 8, 6, 5),
    64000: (8, 8, 8, 5, 5, 5),
}
"""Levels of each dimension for a size of the vocabulary, from table 1 of the paper."""


@dataclass(frozen=True)
class FSQConfig(BaseConfig):
    """Finite scalar quantization.

    Attributes:
        kind: "fsq".
        codes: size of the vocabulary, one of the paper's sizes or, with several codebooks, a power
            of one.
        codebooks: number of codebooks, of which a token is the product.
    """

    kind: Literal["fsq"] = "fsq"
    codes: int = 1000
    codebooks: int = 1

    can_collapse: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuses sizes that the paper has no levels for."""
        super().__post_init__()
        sizes = ", ".join(map(str, FSQ_LEVELS))
        size = codes_per_book(self.codes, self.codebooks)
        require(size in FSQ_LEVELS, f"codes: FSQ has sizes {sizes}; got {size}")

    def build(self) -> Quantizer:
        """Returns a new quantizer of this configuration."""
        if self.codebooks == 1:
            return FiniteScalarQuantizer(self)
        codes = codes_per_book(self.codes, self.codebooks)
        part = replace(self, codes=codes, codebooks=1)
        return ProductQuantizer([part.build() for _ in range(self.codebooks)])


EPSILON = 1e-3
"""By how much the bound is wider than the levels, so that the outer ones are reached."""


class FiniteScalarQuantizer(Quantizer):
    """Rounds each of a few bounded features to one of a few levels.

    It has no codebook and nothing to learn. Values are those of vector-quantize-pytorch to the bit.
    That library is not used, because its import slows the start of all that loads a world.

    Args:
        config: the size of the vocabulary.
    """

    levels: Int[Tensor, " dim"]
    strides: Int[Tensor, " dim"]

    def __init__(self, config: FSQConfig):
        super().__init__()
        levels = FSQ_LEVELS[config.codes]
        strides = [math.prod(levels[:i]) for i in range(len(levels))]
        for name, values in (("levels", levels), ("strides", strides)):
            # Files of weights do not hold them, so they are not built on "meta".
            buffer = torch.tensor(values, dtype=torch.int32, device="cpu")
            self.register_buffer(name, buffer, persistent=False)
        self.size, self.dim = config.codes, len(levels)

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. The loss is zero."""
        bounded = self._bounded(features.float() if features.dtype.itemsize < 4 else features)
        points = bounded.round()
        codes = ((points + self.levels // 2) * self.strides).sum(-1).long()
        passed = bounded + (points - bounded).detach()  # gradients pass the rounding
        vectors = (passed / (self.levels // 2)).to(features.dtype)
        return Quantized(vectors, codes, features.new_zeros(()))

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the grid points of codes, with values from -1 to 1."""
        half = self.levels // 2
        return ((codes[..., None] // self.strides) % self.levels - half) / half

    def _bounded(self, features: Float[Tensor, "*b dim"]) -> Float[Tensor, "*b dim"]:
        """Bounds features to the range of the levels (section 3.1 and appendix A.1)."""
        reach = (self.levels - 1) * (1 + EPSILON) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(features + torch.atanh(offset / reach)) * reach - offset
