"""Several codebooks side by side: a code is the product of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genie.core.config import require
from genie.models.quantizers.base import Quantized, Quantizer


def codes_per_book(codes: int, codebooks: int) -> int:
    """Returns the size of each codebook of a product.

    Args:
        codes: size of the vocabulary.
        codebooks: how many there are.

    Raises:
        UserError: no whole number of codes gives that product.
    """
    require(1 <= codebooks <= 20, f"codebooks: must be from 1 to 20, got {codebooks}")
    size = round(codes ** (1 / codebooks))
    require(
        size**codebooks == codes,
        f"codebooks: {codes} codes are no product of {codebooks} codebooks of one size; "
        f"{max(size, 2) ** codebooks} codes are",
    )
    return size


class ProductQuantizer(Quantizer):
    """Quantizes parts of the features each by a quantizer of its own.

    A vocabulary then grows as the product of small codebooks, and losses over all codes of a
    codebook stay cheap. The loss is the mean of theirs.

    Args:
        parts: the quantizers, in the order of the features.
    """

    def __init__(self, parts: Sequence[Quantizer]):
        super().__init__()
        self.parts: Sequence[Quantizer] = nn.ModuleList(parts)  # type: ignore[assignment]
        self.dims, self.sizes = [part.dim for part in parts], [part.size for part in parts]
        self.dim, self.size = sum(self.dims), math.prod(self.sizes)

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes each part of the features."""
        pieces = features.split(self.dims, dim=-1)
        found = [part(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return Quantized(
            torch.cat([each.vectors for each in found], dim=-1),
            self._joined([each.codes for each in found]),
            torch.stack([each.loss for each in found]).mean(),
        )

    def encode(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """Returns the codes of features. It learns nothing, in training mode either."""
        pieces = features.split(self.dims, dim=-1)
        parts = zip(self.parts, pieces, strict=True)
        return self._joined([part.encode(piece) for part, piece in parts])

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the vectors of codes."""
        vectors = []
        for part, size in zip(self.parts, self.sizes, strict=True):
            vectors.append(part.decode(codes % size))
            codes = codes // size
        return torch.cat(vectors, dim=-1)

    def _joined(self, codes: list[Tensor]) -> Tensor:
        """One number for the codes of all parts; the first part counts fastest."""
        joined = torch.zeros_like(codes[0])
        for code, size in zip(reversed(codes), reversed(self.sizes), strict=True):
            joined = joined * size + code
        return joined
