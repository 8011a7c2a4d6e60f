"""What all quantizers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from genie.core.config import require, require_at_most


@dataclass(frozen=True)
class BaseConfig(ABC):
    """The part of a quantizer's configuration that all kinds have.

    A kind inherits from it, gives `kind` its name and adds its own fields. Class attributes tell
    the rest of the program what it needs to know, so that no other file asks for a kind by name.

    Attributes:
        kind: name of the quantizer.
        codes: size of the vocabulary.
        can_grow: True if codes can be added to a trained vocabulary without changing the old ones.
        can_collapse: True if training can end with most of the codes unused.
        only_in_training: fields that change what is learned, but not what learned weights mean.
    """

    kind: str
    codes: int = 1024

    can_grow: ClassVar[bool] = False
    can_collapse: ClassVar[bool] = True
    only_in_training: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuses impossible sizes."""
        require(self.codes >= 2, "codes: must be at least 2")
        require_at_most(self, codes=2**20)

    @abstractmethod
    def build(self) -> Quantizer:
        """Returns a new quantizer of this configuration."""


def require_power_of_two(config: BaseConfig, name: str) -> None:
    """Refuses a vocabulary that whole bits cannot number.

    Args:
        config: whose `codes` are checked.
        name: of the quantizer, for the message.

    Raises:
        UserError: the number of codes is no power of two.
    """
    power = config.codes & (config.codes - 1) == 0
    require(power, f"codes: {name} needs a power of two, got {config.codes}")


class Quantized(NamedTuple):
    """What a quantizer returns.

    Attributes:
        vectors: (..., dim), those of the codes; gradients pass through to the features.
        codes: (...), integers from 0 to size - 1.
        loss: a scalar to add to the loss of the model.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps features (..., dim) to codes (...) from 0 to size - 1, and codes to vectors (..., dim).

    Attributes:
        size: number of codes.
        dim: features of a code.
    """

    size: int
    dim: int

    @abstractmethod
    def forward(self, features: Float[Tensor, "*b dim"]) -> Quantized:
        """Quantizes features. In training mode it also learns."""

    @abstractmethod
    def decode(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b dim"]:
        """Returns the vectors of codes."""

    def encode(self, features: Float[Tensor, "*b dim"]) -> Int[Tensor, "*b"]:
        """Returns the codes of features. It learns nothing, in training mode either."""
        return self(features).codes


def perplexity(counts: Real[Tensor, " size"]) -> Float[Tensor, ""]:
    """Returns the effective number of codes in use.

    Args:
        counts: how often each code occurs.

    Returns:
        A scalar: 1 if all codes are the same, `size` if all are equally frequent.
    """
    share = counts / counts.sum().clamp(min=1)
    return torch.exp(-torch.special.xlogy(share, share).sum())
