"""LFQ: lookup-free quantization (Yu et al. 2023, arXiv 2310.05737)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

from genie.models.quantizers.base import BaseConfig, Quantized, Quantizer, require_power_of_two
from genie.models.quantizers.product import ProductQuantizer, codes_per_book


@dataclass(frozen=True)
class LFQConfig(BaseConfig):
    """Lookup-free quantization.

    Attributes:
        kind: "lfq".
        codes: size of the vocabulary, a power of two.
        codebooks: number of codebooks, of which a token is the product. With more, the entropy loss
            looks at each alone, which takes less time and memory.
        commitment_weight: weight of the loss that keeps features near their code.
        entropy_weight: weight of the loss that spreads use over the codes.
    """

    kind: Literal["lfq"] = "lfq"
    codebooks: int = 1
    commitment_weight: float = 0.25
    entropy_weight: float = 0.1

    only_in_training: ClassVar[frozenset[str]] = frozenset({"commitment_weight", "entropy_weight"})

    def __post_init__(self) -> None:
        """Refuses sizes that are no power of two."""
        super().__post_init__()
        require_power_of_two(self, "LFQ")
        codes_per_book(self.codes, self.codebooks)

    def build(self) -> Quantizer:
        """Returns a new quantizer of this configuration."""
        if self.codebooks == 1:
            return LookupFreeQuantizer(self)
        codes = codes_per_book(self.codes, self.codebooks)
        part = replace(self, codes=codes, codebooks=1)
        return ProductQuantizer([part.build() for _ in range(self.codebooks)])


class LookupFreeQuantizer(Quantizer):
    """Takes one bit from the sign of each feature, as vector-quantize-pytorch does.

    Args:
        config: size of the vocabulary and weights of the losses.
    """

    def __init__(self, config: LFQConfig):
        super().__init__()
        from vector_quantize_pytorch import LFQ

        self.size, self.dim = config.codes, config.codes.bit_length() - 1
        self.quantize = LFQ(
            dim=self.dim,
            codebook_size=config.codes,
            entropy_loss_weight=config.entropy_weight,
            commitment_loss_weight=config.commitment_weight,
        )

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. The loss is the commitment loss plus the entropy loss."""
        vectors, codes, loss = self.quantize(features.reshape(1, -1, self.dim))
        return Quantized(
            vectors.view_as(features), codes.view(features.shape[:-1]).long(), loss.sum()
        )

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the corners of the cube that codes stand for."""
        return self.quantize.indices_to_codes(codes.reshape(1, -1)).view(*codes.shape, self.dim)
