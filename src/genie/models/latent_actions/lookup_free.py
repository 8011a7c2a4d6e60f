"""Codes of actions by LFQ instead of a codebook that is a moving average."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genie.models.quantizers.base import Quantized, Quantizer
from genie.models.quantizers.lfq import LFQConfig


class LookupFreeActions(Quantizer):
    """Takes the bits of an action from a linear map of its latent: each feature is above 0 or not.

    2^k actions have k bits (lookup-free quantization, arXiv 2310.05737). Bits can be shared out to
    several codebooks; an action is then their product. Another linear map makes what the decoder
    gets. There is no codebook to place, so the model trains through the codes from the first step.

    It is `actions.lfq_codebooks`. Whether its actions are as good as those of k-means is not
    measured.

    Args:
        actions: A, a power of two.
        dim: features of a latent.
        codebooks: number of codebooks.
        commitment_weight: weight of the loss that keeps features near their code.

    Attributes:
        initialized, known_initialized: always true.
    """

    initialized = known_initialized = True

    def __init__(self, actions: int, dim: int, codebooks: int, commitment_weight: float):
        super().__init__()
        config = LFQConfig(codes=actions, codebooks=codebooks, commitment_weight=commitment_weight)
        self.size, self.dim, self.bits = actions, dim, config.build()
        self.to_bits = nn.Linear(dim, self.bits.dim, bias=False)
        self.from_bits = nn.Linear(self.bits.dim, dim, bias=False)

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """What the decoder gets for each action."""
        return self.decode(torch.arange(self.size, device=self.to_bits.weight.device))

    def normalise(self, features: Float[Tensor, "*b dim"]) -> Float[Tensor, "*b dim"]:
        """Returns features with zero mean and unit variance."""
        return F.layer_norm(features, (self.dim,))

    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. The loss is the commitment loss plus the entropy loss."""
        vectors, codes, loss = self.bits(self.to_bits(self.normalise(features)))
        return Quantized(self.from_bits(vectors), codes, loss)

    def encode(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """Returns the codes of features."""
        return self.bits.encode(self.to_bits(self.normalise(features)))

    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns what the decoder gets for codes."""
        return self.from_bits(self.bits.decode(codes).to(self.from_bits.weight.dtype))

    def init_codebook_once(self, features: Float[Tensor, "n dim"]) -> None:
        """Does nothing: bits need no codebook."""

    def reset_codebook(self) -> None:
        """Does nothing: bits need no codebook."""
