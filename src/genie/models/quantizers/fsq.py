"""FSQ: finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505)."""

from __future__ import annotations

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


class FiniteScalarQuantizer(Quantizer):
    """Rounds each of a few bounded features to one of a few levels.

    It has no codebook and nothing to learn. The rounding is that of vector-quantize-pytorch.

    Args:
        config: the size of the vocabulary.
    """

    def __init__(self, config: FSQConfig):
        super().__init__()
        from vector_quantize_pytorch import FSQ

        levels = FSQ_LEVELS[config.codes]
        with torch.device("cpu"):  # it reads its levels while being built, so not on "meta"
            self.quantize = FSQ(list(levels))
        self.size, self.dim = config.codes, len(levels)

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. The loss is zero."""
        vectors, codes = self.quantize(features.reshape(1, -1, self.dim))
        return Quantized(
            vectors.view_as(features),
            codes.view(features.shape[:-1]).long(),
            features.new_zeros(()),
        )

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the grid points of codes, with values from -1 to 1."""
        return self.quantize.indices_to_codes(codes.reshape(1, -1)).view(*codes.shape, self.dim)
