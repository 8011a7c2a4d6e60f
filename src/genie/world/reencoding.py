"""Periodic re-encoding in play: what the dynamics remember is what the tokenizer sees."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.models.backbone import TokenizerBackbone


def reencoded(
    tokenizer: TokenizerBackbone,
    tokens: Int[Tensor, "b s"],
    frames: UInt8[Tensor, "b h w 3"],
    number: Int[Tensor, " b"],
    every: int,
) -> Int[Tensor, "b s"]:
    """Returns the tokens of frames that the dynamics are to remember.

    Sampled tokens can be such as no video has. Where the number of a frame is a multiple of
    `every`, its drawn pixels are encoded again, alone as a prompt is, and take their place. The
    picture stays as it is. See `SamplingConfig.reencode_every`. In `coinrun-tiny` it gained nothing
    (docs/experiments).

    Args:
        tokenizer: of the world.
        tokens: sampled tokens of a frame of each game.
        frames: the same frames, decoded.
        number: of the frame in its game, from 0.
        every: how often; 0 never.
    """
    if every == 0:
        return tokens
    due = number % every == 0
    if not due.any():
        return tokens
    return torch.where(due[:, None], tokenizer.encode(frames[:, None])[:, 0], tokens)
