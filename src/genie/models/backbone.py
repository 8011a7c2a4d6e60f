"""What a tokenizer must have to be part of a world, whatever network it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genie.models.layers.cache import DecoderCache
from genie.models.layers.compile import compile_method


class TokenizerBackbone(nn.Module, ABC):
    """Frames (B, T, H, W, 3) in uint8 to tokens (B, T, S) and back.

    Play, training and evaluation use a tokenizer by these names only.

    Attributes:
        grid: rows and columns of tokens. The tokens of a frame are in the order of the rows.
        tokens_per_frame: S, the product of the grid.
        vocabulary: V; tokens are from 0 to V - 1.
        coarse_tokens: how many tokens of a frame, from the first on, the dynamics draw before the
            others; 0 where all are alike.
    """

    grid: tuple[int, int]
    tokens_per_frame: int
    vocabulary: int
    coarse_tokens: int = 0

    @property
    @abstractmethod
    def past(self) -> int:
        """Number of earlier frames that the tokens of a frame depend on."""

    @property
    @abstractmethod
    def can_collapse(self) -> bool:
        """True if training can end with most of the vocabulary unused."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def encode(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t s"]:
        """Returns the tokens of frames."""

    @abstractmethod
    def decode(self, tokens: Int[Tensor, "b t s"]) -> UInt8[Tensor, "b t h w 3"]:
        """Returns the frames of tokens, each from its tokens and those of the frames before it."""

    @abstractmethod
    def prefill(self, tokens: Int[Tensor, "b t s"]) -> DecoderCache:
        """Returns what `decode_step` must know of frames that are decoded already."""

    @abstractmethod
    def decode_step(
        self, tokens: Int[Tensor, "b s"], cache: DecoderCache
    ) -> tuple[UInt8[Tensor, "b h w 3"], DecoderCache]:
        """Returns the frame that follows the cached ones, and the cache with it.

        The frame equals the last one of `decode` for all tokens, except that rounding may move a
        pixel by one grey level.
        """

    def compile(self, *args: Any, **options: Any) -> None:
        """Passes `decode_step` through `torch.compile`, a graph for each number of players.

        Args:
            args, options: of `torch.compile`.
        """
        compile_method(self, "decode_step", *args, **options)

    @abstractmethod
    def loss(
        self, frames: UInt8[Tensor, "b t h w 3"], progress: float = 1.0
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss of a batch of clips, and figures to log.

        Args:
            frames: clips.
            progress: share of the training budget that is spent, from 0 to 1.
        """
