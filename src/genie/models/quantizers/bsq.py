"""BSQ: binary spherical quantization (Zhao et al. 2024, arXiv 2406.07548)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genie.models.quantizers.base import BaseConfig, Quantized, Quantizer, require_power_of_two

SHARPNESS = 2.0
"""Logit of a bit whose feature lies exactly on a corner, for the probabilities in the entropies."""


@dataclass(frozen=True)
class BSQConfig(BaseConfig):
    """Binary spherical quantization.

    Attributes:
        kind: "bsq".
        codes: size of the vocabulary, a power of two.
        commitment_weight: weight of the loss that keeps features near their code.
        entropy_weight: weight of the loss that spreads use over the codes.
    """

    kind: Literal["bsq"] = "bsq"
    commitment_weight: float = 0.25
    entropy_weight: float = 0.1

    only_in_training: ClassVar[frozenset[str]] = frozenset({"commitment_weight", "entropy_weight"})

    def __post_init__(self) -> None:
        """Refuses sizes that are no power of two."""
        super().__post_init__()
        require_power_of_two(self, "BSQ")

    def build(self) -> BinarySphericalQuantizer:
        """Returns a new quantizer of this configuration."""
        return BinarySphericalQuantizer(self)


class BinarySphericalQuantizer(Quantizer):
    """Projects features onto a sphere and takes one bit from the sign of each.

    It differs from LFQ in two ways. Features on a sphere lie at a bounded distance from their code.
    The entropies are sums over bits, as the paper's approximation has them. So time and memory grow
    with the number of bits, and those of LFQ with the number of codes.

    Vectors are multiplied by the square root of `dim`, so that each coordinate is -1 or 1.

    Args:
        config: size of the vocabulary and weights of the losses.
    """

    def __init__(self, config: BSQConfig):
        super().__init__()
        self.config = config
        self.size, self.dim = config.codes, config.codes.bit_length() - 1

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. The loss is the commitment loss plus the entropy loss."""
        on_sphere = self._on_sphere(features)
        codes = self._codes(on_sphere)
        vectors = self.decode(codes)
        loss = self.config.commitment_weight * F.mse_loss(on_sphere, vectors)
        loss = loss + self.config.entropy_weight * _entropy_loss(on_sphere)
        vectors = on_sphere + (vectors - on_sphere).detach()
        return Quantized(vectors.to(features.dtype), codes, loss)

    def encode(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """Returns the codes of features, without the losses."""
        return self._codes(self._on_sphere(features))

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the corners that codes stand for, with coordinates -1 and 1."""
        places = torch.arange(self.dim, device=codes.device)
        return (codes[..., None] >> places & 1).float() * 2 - 1

    def _on_sphere(self, features: Tensor) -> Tensor:
        return F.normalize(features.float(), dim=-1) * self.dim**0.5

    def _codes(self, on_sphere: Tensor) -> Tensor:
        places = torch.arange(self.dim, device=on_sphere.device)
        return ((on_sphere > 0).long() << places).sum(dim=-1)


def _entropy_loss(on_sphere: Tensor) -> Tensor:
    """Entropy of the bits of each feature minus that of their mean: sure, but different, bits."""
    logits = SHARPNESS * on_sphere.reshape(-1, on_sphere.shape[-1])
    each = _entropy(logits.sigmoid()).mean()
    return each - _entropy(logits.sigmoid().mean(dim=0)).mean()


def _entropy(probability: Tensor) -> Tensor:
    other = 1 - probability
    return -torch.xlogy(probability, probability) - torch.xlogy(other, other)
